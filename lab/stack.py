"""`make stack`: the real telemetry stack around two nodes, a few faults, and where to look. `make stack-down` ends it.

Owns the story. What runs is a process of its own that holds servers, namespaces and nodes, so that all of it ends with it,
however that ends; `up` shows what it says until it is ready.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from lab.obstacles import obstacle
from lab.stacknodes import INNER, Site
from lab.stackservers import ROOT, Options, Stack, missing
from lab.waiting import WaitTimeoutError, wait_for

FOLDER: Final = ROOT / ".cache" / "stack" / "run"
PORTS: Final = {
    "otlp_grpc": 14317, "otlp_http": 14318, "jaeger_http": 16686, "prometheus": 19090, "alertmanager": 19093, "health": 14133,
}  # fmt: skip
CRASHES: Final = 18000
FACTOR: Final = 10
_READY, _FAILED = "The stack stands.", "The stack does not stand."
_EVERY: Final = 1.0


class Story:
    """Says what happens, with the seconds since the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.1f} s] {text}", flush=True)

    def show(self, text: str) -> None:
        print("\n".join(f"          {line}" for line in text.splitlines()), flush=True)


def _until(story: Story, what: str, probe: Callable[[], Any], limit: float = 90.0) -> Any:
    """Wait, and say how long it took; a fault that shows nothing is said, too."""
    began = time.monotonic()
    try:
        found = wait_for(what, probe, limit, 0.3)
    except WaitTimeoutError:
        story.show(f"{what}: not within {limit:.0f} s")
        return None
    story.show(f"{what}: after {time.monotonic() - began:.1f} s")
    return found


def _alert(site: Site, name: str) -> Callable[[], Any]:
    def probe() -> Any:
        site.poke()
        return next((each for each in site.stack.firing() if each["labels"]["alertname"] == name), None)

    return probe


def other_keys(story: Story, site: Site) -> None:
    """A pre-shared key on one side only, until it shows."""
    story.say("Fault 1: alpha gets a pre-shared key that beta does not have, and reloads")
    alpha = site.alpha
    before = alpha.config.read_text()
    (alpha.folder / "other.psk").touch(0o600)
    (alpha.folder / "other.psk").write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    alpha.config.write_text(before.replace("\n[peer.beta]\n", '\n[peer.beta]\npsk_file = "other.psk"\n'))
    alpha.cli("reload")
    found = _until(story, "a failed attempt in Jaeger", lambda: _failed(site))
    if found:
        trace_id = found[0]["traceID"]
        story.show(f"  {site.stack.url('jaeger_http', f'/trace/{trace_id}')}")
        story.show(f"  {site.stack.url('jaeger_http', f'/api/v3/traces/{trace_id}')}")
    _until(story, "HandshakeFailing in Alertmanager", _alert(site, "HandshakeFailing"))
    alpha.config.write_text(before)
    alpha.cli("reload")
    site.connect()


def _failed(site: Site) -> list[dict[str, Any]]:
    site.poke()
    return site.stack.find({"error": "true", "pqvpn.outcome": "failed"})


def lane_dies(story: Story, site: Site, crashes: Any) -> None:
    """A lane is killed; crash report, trace and alert."""
    story.say("Fault 2: alpha's lane is killed (SIGSEGV)")
    before = len(crashes.issues()) if crashes else 0
    site.alpha.kill("lane-0", signal.SIGSEGV)
    _until(
        story, "pqvpn.child.restart in Jaeger", lambda: site.stack.find({"pqvpn.process": "lane-0", "error": "true"})
    )
    _until(story, "Crash in Alertmanager", _alert(site, "Crash"))
    if crashes:
        _until(story, "an issue in the crash server", lambda: len(crashes.issues()) > before, 60.0)
    site.connect()


def peer_stops(story: Story, site: Site) -> None:
    """Beta ends, and stays away: what a person then sees."""
    story.say(
        "Fault 3: beta is stopped, and stays so for you to look at (it comes back with: make stack-down, make stack)"
    )
    site.beta.down()
    _until(story, "PeerDown in Alertmanager", _alert(site, "PeerDown"))


@contextlib.contextmanager
def crash_server(story: Story) -> Iterator[Any]:
    """Bugsink, where it is installed; None where it is not."""
    from tests.crashserver import bugsink

    if not bugsink.installed():
        story.say("The crash server is not installed (scripts/bugsink.sh): going on without")
        yield None
        return
    folder = FOLDER / "crashes"
    folder.mkdir()
    with bugsink.Bugsink(folder, CRASHES) as made:
        yield made


def where_to_look(story: Story, stack: Stack, crashes: Any) -> None:
    """Every place, once."""
    lines = [
        f"traces      {stack.url('jaeger_http', '/search?service=pqvpn')}",
        f"            {stack.url('jaeger_http', '/api/v3/services')}",
        f"alerts      {stack.url('prometheus', '/alerts')}",
        f"            {stack.url('alertmanager', '/api/v2/alerts')} (Debian's Alertmanager has no page of its own)",
        f"metrics     {stack.url('prometheus', '/graph')}",
        f"collector   {stack.url('health', '/status?verbose')}",
        f"crashes     {crashes.url}" if crashes else "",
        f'your node   [telemetry] endpoint = "{stack.url("otlp_http")}"',
        "dashboards  otel-collector/grafana/dashboards (Grafana comes with the compose file)",
        "ends by     make stack-down",
    ]
    story.show("\n".join(line for line in lines if line))


def serve() -> int:
    """Hold everything until SIGTERM."""
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    story = Story()
    try:
        with contextlib.ExitStack() as held:
            crashes = held.enter_context(crash_server(story))
            options = Options(factor=FACTOR, scrape="2s", node_expires="20s", retry_most="2s", ports=PORTS)
            options.limits = {"handshake_failures": 1}
            story.say("Starting collector, Jaeger, Prometheus and Alertmanager on loopback")
            stack = held.enter_context(Stack(FOLDER / "servers", options))
            story.say("Starting two nodes in namespaces; their telemetry goes to the collector")
            site = held.enter_context(Site(stack, dsn=crashes.dsn if crashes else ""))
            site.start()
            status = site.alpha.peer("beta")
            story.show(f"session {status['session_id']} with {status['suite']}, inside {INNER[0]} and {INNER[1]}")
            found = _until(story, "its trace in Jaeger", lambda: stack.find({"session.id": status["session_id"]}))
            if found:
                story.show(f"  {stack.url('jaeger_http', '/trace/' + found[0]['traceID'])}")
            for fault in (other_keys, lambda s, a: lane_dies(s, a, crashes), peer_stops):
                if not ended:
                    fault(story, site)
            story.say(_READY)
            where_to_look(story, stack, crashes)
            while not ended:
                with contextlib.suppress(OSError):
                    site.poke()
                time.sleep(_EVERY)
    except Exception as error:  # noqa: BLE001 - whoever waits for the story must be told
        story.say(f"{_FAILED} {type(error).__name__}: {error}")
        return 1
    return 0


def _pid() -> int | None:
    """Of the process that holds the stack, while it runs."""
    try:
        pid = int((FOLDER / "pid").read_text())
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"lab.stack" in name else None


def up() -> int:
    """Start it in the background and show what it says until it is ready."""
    if absent := missing():
        print(f"Not made yet: {', '.join(absent)}. Run: scripts/stack.sh", file=sys.stderr)
        return os.EX_UNAVAILABLE
    if found := obstacle():
        print(f"Namespaces cannot be had here: {found.text}.", file=sys.stderr)
        return os.EX_UNAVAILABLE
    if _pid():
        print("It runs already; `make stack-down` ends it. What it said:\n", (FOLDER / "story").read_text())
        return 0
    subprocess.run(["rm", "-rf", str(FOLDER)], check=True)
    FOLDER.mkdir(parents=True)
    story = FOLDER / "story"
    with story.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "lab.stack", "serve"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    (FOLDER / "pid").write_text(str(child.pid))
    return _show(story, child)


def _show(story: Path, child: "subprocess.Popen[bytes]") -> int:
    """Copy the story to the terminal until it has come to its end."""
    shown = ""
    while True:
        code = child.poll()
        text = story.read_text(errors="replace")
        print(text[len(shown) :], end="", flush=True)
        shown = text
        if code is not None or _FAILED in text:
            return code or 1
        if _READY in text and "ends by" in text:
            return 0
        time.sleep(0.2)


def down() -> int:
    """End it and wait for that."""
    pid = _pid()
    if pid is None:
        print("No stack runs.")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while _pid() and time.monotonic() < deadline:
        time.sleep(0.1)
    if _pid():
        print("It does not end; its process is", pid, file=sys.stderr)
        return 1
    subprocess.run(["rm", "-rf", str(FOLDER)], check=True)
    print("The stack is down; nothing is left of it.")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 when it failed, 69 when something is missing here."""
    parser = argparse.ArgumentParser(prog="make stack", description="The telemetry stack around two nodes.")
    parser.add_argument("what", choices=("up", "down", "serve"))
    return {"up": up, "down": down, "serve": serve}[parser.parse_args(arguments).what]()


if __name__ == "__main__":
    sys.exit(main())
