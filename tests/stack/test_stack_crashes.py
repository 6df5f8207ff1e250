"""A crash of each kind is one issue in a real crash server, linked to the trace that Jaeger has."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Scene

from lab import wait_for
from lab.stacknodes import Site
from lab.stackservers import Stack, free_ports
from tests.crashserver import bugsink

pytestmark = [pytest.mark.stack, pytest.mark.netns]


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bugsink.Bugsink]:
    if not bugsink.installed():
        pytest.skip("the crash server is not installed: scripts/bugsink.sh")
    with bugsink.Bugsink(tmp_path_factory.mktemp("crashes"), free_ports(1)[0]) as made:
        yield made


@pytest.fixture(scope="module")
def scene(stack: Stack, hook, logs, crashes: bugsink.Bugsink) -> Iterator[Scene]:  # type: ignore[no-untyped-def]
    with Site(stack, dsn=crashes.dsn) as site:
        site.start()
        yield Scene(stack, site, hook, logs)


def tags(event: dict[str, Any]) -> dict[str, str]:
    return dict(event["data"]["tags"])


@pytest.mark.parametrize(
    ("component", "number", "kind"),
    [
        ("lane-0", signal.SIGSEGV, ("signal",)),
        ("lane-0", signal.SIGKILL, ("killed", "out_of_memory")),
        ("control", signal.SIGABRT, ("signal",)),
    ],
)
def test_a_crash_is_one_issue_with_its_trace(
    scene: Scene, crashes: bugsink.Bugsink, component: str, number: int, kind: tuple[str, ...]
) -> None:
    scene.site.connect()
    before = {issue["id"] for issue in crashes.issues()}
    scene.site.alpha.kill(component, number)
    found = wait_for("an issue", lambda: [i for i in crashes.issues() if i["id"] not in before], 60.0, 0.3)
    assert len(found) == 1
    (event,) = crashes.events(found[0])
    told = tags(event)
    assert told["pqvpn.kind"] in kind
    assert told["pqvpn.component"].startswith(component.partition("-")[0])
    trace_id = event["data"]["contexts"]["trace"]["trace_id"]
    spans = wait_for("the trace", lambda: scene.stack.trace(trace_id), 30.0, 0.3)
    assert "pqvpn.crash" in {span["name"] for span in spans}
    scene.site.connect()


def test_the_crash_server_holds_no_secret(scene: Scene, crashes: bugsink.Bugsink) -> None:
    folder = Path(crashes.folder)
    secret = (scene.site.alpha.folder / "identity.key").read_text().splitlines()[1]
    for path in folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
