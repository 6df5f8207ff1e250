"""`make demo`: two nodes, a post-quantum handshake, real traffic, and the proof that nothing of it can be read outside.

Owns the story and its words. Everything it shows is done by the real `pqvpn` command in a lab (see the package).
"""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lab.capture import Capture
from lab.namespaces import Lab, LabError
from lab.nodes import ROOT, Node, introduce, make_node
from lab.obstacles import obstacle
from lab.traffic import ping, transfer
from lab.waiting import WaitTimeoutError, wait_for

OUTER = ("10.0.0.1", "10.0.0.2")
INNER = ("10.7.0.1", "10.7.0.2")
MARK_EVERY = 1024
MIB = 1 << 20
TRACE = ROOT / ".cache" / "demo-trace.json"

PICTURE = """
     machine "alpha"                                    machine "beta"
   +-----------------+                                +-----------------+
   | tunnel 10.7.0.1 |                                | tunnel 10.7.0.2 |
   |      pqvpn      |          the outer link        |      pqvpn      |
   |  veth0 10.0.0.1 |================================| veth0  10.0.0.2 |
   +-----------------+   (where an eavesdropper sits) +-----------------+
"""


class DemoError(Exception):
    """Something is not as it has to be; the text says what."""


@dataclass(frozen=True)
class Secrets:
    """What is sent through the tunnel and must not be seen outside, by the name of what it is."""

    files: tuple[bytes, bytes]
    ping: bytes
    needles: dict[str, bytes]


class Story:
    """Prints numbered steps, with the seconds since the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._number = 0

    def step(self, text: str) -> None:
        self._number += 1
        print(f"\n[{self.seconds:4.1f} s] {self._number}. {text}", flush=True)

    def say(self, text: str) -> None:
        print("\n".join(f"         {line}" for line in text.splitlines()), flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def marked_file(marker: bytes, size: int) -> bytes:
    """Random bytes with `marker` every KiB, so that whatever packet carries them carries a marker or its neighbours do."""
    content = bytearray(os.urandom(size))
    for offset in range(0, size - len(marker) + 1, MARK_EVERY):
        content[offset : offset + len(marker)] = marker
    return bytes(content)


def make_secrets(size: int) -> Secrets:
    markers = [f"demo-secret-{name}-{os.urandom(6).hex()}".encode() for name in ("alpha", "beta", "ping")]
    ours, theirs = (bytes(map(int, address.split("."))) for address in INNER)
    return Secrets(
        files=(marked_file(markers[0], size), marked_file(markers[1], size)),
        ping=markers[2],
        needles={
            "the file that alpha sends": markers[0],
            "the file that beta sends": markers[1],
            "the pings' contents": markers[2],
            "the addresses inside": ours + theirs,
            "the addresses inside, backwards": theirs + ours,
        },
    )


def send_pings(story: Story, alpha: Node, count: int, payload: bytes) -> None:
    story.step(f"{count} pings from alpha to beta, through the tunnel")
    result = ping(alpha.namespace, INNER[1], count, payload=payload)
    if result.lost:
        raise DemoError(f"{result.lost} of {count} pings got no answer")
    story.say(f"{count} sent, {count} answered; half of the round trips took less than {result.median:.2f} ms")


def send_file(story: Story, sender: Node, receiver: Node, content: bytes) -> None:
    story.step(f"A file of {len(content) // MIB} MiB from {sender.name} to {receiver.name}, by TCP through the tunnel")
    done = transfer(
        sender.namespace,
        receiver.namespace,
        receiver.address,
        lambda offset: content[offset : offset + MIB],
        len(content),
    )
    expected = hashlib.sha256(content).hexdigest()
    story.say(f"SHA-256 at {sender.name + ':':<6} {expected}\nSHA-256 at {receiver.name + ':':<6} {done.digest}")
    if done.digest != expected:
        raise DemoError("the file that arrived is not the file that was sent")
    story.say(
        f"The same: it arrived unharmed, in {done.seconds:.1f} s ({len(content) * 8 / done.seconds / 1e6:.0f} Mbit/s)."
    )


def show_status(story: Story, nodes: Sequence[Node]) -> None:
    story.step("What both ends say of the tunnel (`pqvpn status`)")
    for node in nodes:
        story.say(node.cli("status").stdout.rstrip() + "\n")


def judge(story: Story, secrets: Secrets, outside: Capture, inside: Capture) -> None:
    """Compare what the captures saw. Raises DemoError when anything showed outside, or when the search proves nothing."""
    story.step("What an eavesdropper on the outer link saw")
    story.say(
        f"Every packet there was recorded: {outside.count} packets, {outside.bytes / MIB:.0f} MiB.\n"
        "The same search inside the tunnel shows that it would find what there is to find.\n"
    )
    story.say(f"{'packets that show...':<34}{'inside':>8}{'outside':>10}")
    for name, needle in secrets.needles.items():
        story.say(f"{name:<34}{inside.hits[needle]:>8}{outside.hits[needle]:>10}")
    if outside.dropped:
        raise DemoError(f"{outside.dropped} packets were not recorded, so nothing is proven: try again")
    if blind := [name for name, needle in secrets.needles.items() if not inside.hits[needle]]:
        raise DemoError(f"the search does not even find inside: {', '.join(blind)}")
    if seen := [name for name, needle in secrets.needles.items() if outside.hits[needle]]:
        raise DemoError(f"readable outside: {', '.join(seen)}")
    story.say("\nNot one inner byte was readable outside.")


def set_up(story: Story, lab: Lab) -> tuple[Node, Node]:
    story.step("Two machines and a cable between them, as network namespaces of this one")
    print(PICTURE)
    a, b = lab.namespace("alpha"), lab.namespace("beta")
    lab.link(a, b, [f"{OUTER[0]}/24"], [f"{OUTER[1]}/24"])
    story.step("Each makes its identity and gets the other's card (`pqvpn init`, `pqvpn peer add`)")
    alpha = make_node(lab, a, "alpha", [f"{INNER[0]}/24"])
    beta = make_node(lab, b, "beta", [f"{INNER[1]}/24"])
    introduce(alpha, beta, *OUTER)
    for node, peer in ((alpha, beta), (beta, alpha)):
        node.set({f"peer.{peer.name}": {"trace": True}})  # each lets the other join its traces
    return alpha, beta


def start(story: Story, alpha: Node, beta: Node) -> None:
    story.step("Both start (`pqvpn up`), and shake hands")
    alpha.start()
    beta.start()
    for node in (alpha, beta):
        node.wait_running()
    peer = alpha.wait_for_peer("beta")
    if not peer["post_quantum"]:
        raise DemoError(f"the session is not post-quantum: {peer}")
    story.say(f"The tunnel is up, and its keys are post-quantum: {peer['suite']}.")


def show_trace(story: Story, alpha: Node, beta: Node) -> None:
    """The attempt to connect, drawn from what both ends recorded."""
    story.step("The attempt to connect, as both ends recorded it (`pqvpn diag trace`, beta's part from its bundle)")
    bundle = beta.folder / "bundle.tar.gz"
    asked = ("diag", "trace", "last", "--with", str(bundle))
    wait_for(
        "the attempt to be recorded", lambda: alpha.cli("diag", "trace", "last", check=False).returncode == 0, 15.0
    )
    beta.cli("diag", "bundle", "--yes", "--output", str(bundle))
    story.say(alpha.cli(*asked).stdout.rstrip())
    TRACE.parent.mkdir(parents=True, exist_ok=True)
    TRACE.write_text(alpha.cli(*asked, "--json").stdout)
    story.say(f"\nThe same as JSON: {TRACE}")


def perform(story: Story, lab: Lab, size: int, pings: int) -> None:
    """The whole demonstration. Raises DemoError, LabError or OSError when something is not as it has to be."""
    secrets = make_secrets(size)
    watch = tuple(secrets.needles.values())
    alpha, beta = set_up(story, lab)
    with alpha.namespace.capture("veth0", watch=watch, limit=0) as outside:  # before the first packet
        start(story, alpha, beta)
        with beta.namespace.capture(beta.status()["node"]["interface"], watch=watch, limit=0) as inside:
            send_pings(story, alpha, pings, secrets.ping)
            send_file(story, alpha, beta, secrets.files[0])
            send_file(story, beta, alpha, secrets.files[1])
        show_status(story, (alpha, beta))
    judge(story, secrets, outside, inside)
    show_trace(story, alpha, beta)
    story.step("Both stop")
    story.say("\n".join(f"{node.name} ended cleanly after {node.down():.2f} s" for node in (alpha, beta)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 when everything was as it has to be, 1 when not, 69 when this machine forbids it."""
    parser = argparse.ArgumentParser(prog="make demo", description="A file crosses a post-quantum tunnel.")
    parser.add_argument("--mib", type=int, default=64, help="size of each file (default: 64)")
    parser.add_argument("--pings", type=int, default=300, help="how many pings (default: 300)")
    options = parser.parse_args(arguments)
    if found := obstacle():
        print(f"The demonstration cannot run here: {found.text}.\n\nHow to go on:", file=sys.stderr)
        print("\n".join(f"  - {remedy}" for remedy in found.remedy), file=sys.stderr)
        return os.EX_UNAVAILABLE
    story = Story()
    who = "as root" if os.geteuid() == 0 else "without root"
    print(f"PQVPN: a tunnel that stays closed even to tomorrow's quantum computers. Running {who}.")
    try:
        with Lab() as lab:
            try:
                perform(story, lab, options.mib * MIB, options.pings)
            except (DemoError, LabError, WaitTimeoutError, OSError):
                _show_logs(lab)
                raise
        print(f"\nDone in {story.seconds:.0f} seconds. Namespaces, interfaces, keys and files are gone again.")
        return 0
    except (DemoError, LabError, WaitTimeoutError, OSError) as error:
        print(f"\nThe demonstration failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; everything is taken down.", file=sys.stderr)
        return 130


def _show_logs(lab: Lab) -> None:
    for log in sorted(lab.folder.glob("*/log")):
        print(f"\nEnd of {log.parent.name}'s log:\n{log.read_text()[-3000:]}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
