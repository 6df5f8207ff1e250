"""Real nodes that tell secrets carelessly: nothing gets out, until the redactor is taken from a sink, and then only there.

One pair of nodes for all of it: the redactor is taken away and given back while they run (`careless.py`). What is sent over
OTLP is what stands in the spool, so that both have one redactor between them.
"""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from canaries import contents, report, search
from canarynodes import OUTER, Scene, exemplars, key_text
from careless import Careless

from lab import Lab, wait_for

pytestmark = pytest.mark.netns

KINDS = {
    ": OTLP ": "OTLP",
    ": exemplars": "exemplars",
    "/spool/": "spool",
    "/crashes/": "crash reports",
    "/log/": "log file",
    "/last.json": "last state",
    ": standard error": "terminal",
    ": control socket": "control socket",
    " /metrics": "metrics endpoint",
    ": openmetrics": "metrics endpoint",
    " /health": "health endpoint",
    "bundle ": "bundle",
}
"""What kind of sink each is, by a part of its name."""

TAKEN = {
    "terminal": {"terminal"},
    "log file": {"log file"},
    "metrics endpoint": {"metrics endpoint"},
    "control socket": {"control socket"},
    "last state": {"last state"},
    "crash reports": {"crash reports"},
    "bundle": {"bundle"},
    "exemplars": {"exemplars", "spool", "OTLP"},
    "spool and OTLP": {"exemplars", "spool", "OTLP"},
}
"""Whose redactor is taken away, and where secrets come out then."""


class Watched:
    """What came out since `mark`."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.canaries = scene.canaries
        self._before: dict[str, bytes] = {}
        self._words = self._bundles = 0

    def tell(self) -> None:
        """Have secrets told, and wait until all that was told has come to the end of its way: it is in order."""
        self._words += 1
        word = f"word{self._words}."
        self._scene.alpha.ask("reconnect", peer="beta", word=word)
        wait_for(f"{word} to arrive", lambda: self._arrived(word.encode()), 20.0)
        self._scene.connected()

    def _arrived(self, word: bytes) -> bool:
        alpha = self._scene.alpha
        log = contents(alpha.folder / "state" / "log")
        written = alpha.log_file.read_bytes(), b"".join(log.values()), b"".join(self._scene.collected(alpha).values())
        return all(word in each for each in written)

    def crash(self, component: str) -> None:
        """Have a report made."""
        before = self._scene.alpha.kill(component, signal.SIGSEGV)
        wait_for(f"another {component}", lambda: self._another(component, before), 20.0)
        self._scene.connected()

    def _another(self, component: str, before: int) -> bool:
        try:
            return self._scene.alpha.pids(component) not in ([], [before])
        except OSError:
            return False  # it is control that died

    def exemplars(self) -> list[Any]:
        """What alpha's receiver got of them."""
        return exemplars(self._scene.collected(self._scene.alpha))

    def reports(self) -> list[str]:
        """The files of alpha's crash reports."""
        found = contents(self._scene.alpha.folder / "state" / "crashes")
        return [name for name, content in found.items() if b'"pqvpn.kind"' in content]

    def mark(self) -> None:
        """From here on."""
        self._before = self._scene.sinks()

    def fresh(self, *, bundle: bool = False) -> dict[str, bytes]:
        """What was added since then; of answers and of files that are written anew, all."""
        before = self._before
        found = {name: data.removeprefix(before.get(name, b"")) for name, data in self._scene.sinks().items()}
        if bundle:
            self._bundles += 1
            found |= self._scene.bundle(self._scene.alpha, f"bundle {self._bundles}")
        return found

    def leaky(self, *, bundle: bool = False) -> set[str]:
        """The kinds of sinks out of which secrets came."""
        return {kind_of(hit.sink) for hit in search(self.canaries, self.fresh(bundle=bundle))}

    def tight_again(self) -> bool:
        """Whether nothing comes out, with the redactor back."""
        self.mark()
        self.tell()
        return not self.leaky()


def kind_of(sink: str) -> str:
    return next((kind for part, kind in KINDS.items() if part in sink), sink)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, Careless]]:
    careless = Careless(tmp_path_factory.mktemp("careless"))
    with Lab() as lab:
        scene = Scene(lab, careless.python, log_size="16MiB")
        careless.tells(f"{OUTER[1]}:51820 {key_text(scene.psk).strip()}")
        scene.start(scene.alpha, scene.beta)
        scene.connected()
        yield Watched(scene), careless


def test_nothing_comes_out_with_every_redactor_in_place(watched: tuple[Watched, Careless]) -> None:
    """All sinks are there, and the secrets were on their way to them."""
    nodes, _ = watched
    nodes.tell()
    nodes.crash("lane-0")
    wait_for("exemplars", nodes.exemplars, 10.0)
    wait_for("a crash report", nodes.reports, 10.0)
    found = nodes.fresh(bundle=True)
    assert report(search(nodes.canaries, found)) == ""
    assert {kind_of(name) for name, content in found.items() if content} >= set(KINDS.values())


@pytest.mark.parametrize("taken", TAKEN)
def test_what_comes_out_without_the_redactor_of_one_sink(watched: tuple[Watched, Careless], taken: str) -> None:
    nodes, careless = watched
    bundle = taken == "bundle"
    nodes.mark()
    careless.take_from(taken)
    try:
        nodes.tell()
        if taken == "crash reports":
            nodes.crash("control")
        wait_for(f"secrets in {TAKEN[taken]}", lambda: nodes.leaky(bundle=bundle) >= TAKEN[taken], 20.0)
        nodes.tell()  # so that what is slower has come out, too
        assert nodes.leaky(bundle=bundle) == TAKEN[taken]
    finally:
        careless.take_from("")
    wait_for("nothing to come out again", nodes.tight_again, 20.0)
