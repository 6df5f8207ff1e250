"""Every public function of host, control, telemetry and diag raises in turn while control runs, or a command is carried out.

What the state must be then: control goes on, whatever it was (`ENDS` names what means that the supervisor is gone); a
command ends with the code of what was raised. And nowhere is an exception's text.
"""

import asyncio
import contextlib
from typing import Any

import pytest
from faulting import CANARY, FAMILIES, KINDS, Target, raising, targets
from test_control_process import THEIRS, Rig, connect
from test_diag_bundle import asked

from pqvpn.cli import diag, main
from pqvpn.control import process, supervision
from pqvpn.dataplane import commands, events
from pqvpn.facts import Crashed, NodeObserved, Problem

ENDS = {("control.supervision.receive_as_control", "os"), ("host.handover.receive", "os")}
"""The link to the supervisor is broken: control ends as it does when the supervisor ends."""


async def drive(rig: Rig) -> None:
    """Everything that control is called for, once."""
    slots = list(rig.process.lanes._book)  # what the test asks must not be what fails
    rig.peer.sendto(b"\x01" + bytes(1071), (rig.source.host(), rig.source.port))
    told: list[Any] = [events.StrayDatagram(b"\x03" + bytes(59), rig.at, None), events.LaneFault(0, "here", 1)]
    for slot in slots[:1]:
        told += [events.ControlFrame(slot, b"\x09", rig.at, None), events.InnerRefused(slot, 3, 1)]
    for each in told:
        rig.lane.send(events.encode(each))
    rig.link.send(supervision.POKE)
    for request in (b'{"op": "status"}', b'{"op": "breakers"}', b'{"op": "log_level"}', b"nonsense"):
        await ask(rig, request)
    await asyncio.sleep(0.03)
    with contextlib.suppress(BlockingIOError):
        while rig.lane.recv(commands.MAX_MESSAGE):
            pass
    rig.answer()


async def ask(rig: Rig, request: bytes) -> None:
    """Ask on the control socket; the answer, if there is one, holds no text of an exception."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(0.5):
            reader, writer = await asyncio.open_unix_connection(rig.folder)
            try:
                writer.write(request + b"\n")
                answer = await reader.readline()
            finally:
                writer.close()
            assert CANARY not in answer.decode()


async def restarted(rig: Rig | None, running: "asyncio.Task[int] | None") -> "tuple[Rig, asyncio.Task[int]]":
    if rig is not None and running is not None:
        rig.process.ended.set()
        await running
        for sock in (rig.process.udp, rig.process.link):  # the loop goes on: it must not take the next one's for these
            asyncio.get_running_loop().remove_reader(sock)
        rig.close()
    rig = Rig()
    running = asyncio.create_task(rig.process.run())
    await connect(rig)
    return rig, running


async def inject(rig: Rig, target: Target, kind: str) -> bool:
    """Have one function raise while control works; whether it was called at all."""
    rig.told.clear()
    rig.process.edge._places.clear()
    with raising(target, kind) as calls:
        await drive(rig)
    assert CANARY not in repr(rig.told), target
    return bool(calls)


async def campaign(package: str, kind: str) -> tuple[list[str], list[str], int]:
    """(what ended control although it must not, what was told with another code, how many faults were met)."""
    rig, running = await restarted(None, None)
    ended, wrong, met = [], [], 0
    for target in targets(package):
        called = await inject(rig, target, kind)
        met += called
        expected = FAMILIES[package][1] if kind == "family" else None
        codes = {fact.reason for fact in rig.facts(Problem)}
        if called and expected and rig.facts(Crashed):
            wrong.append(f"{target}: {codes}, {rig.facts(Crashed)}")
        if rig.process.ended.is_set() or running.done():
            if (str(target), kind) not in ENDS:
                ended.append(str(target))
            rig, running = await restarted(rig, running)
    rig.told.clear()
    await rig.until(lambda: rig.facts(NodeObserved))  # it does all its work again
    assert any(view.session for view in rig.process.core.peers(0.0)) or THEIRS in rig.process.peers
    rig.process.ended.set()
    await running
    rig.close()
    return ended, wrong, met


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "package", ["pqvpn.host", "pqvpn.control", pytest.param("pqvpn.telemetry", marks=pytest.mark.slow)]
)
def test_control_goes_on_whatever_raises(
    package: str, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "TICK", 0.01)
    ended, wrong, met = asyncio.run(campaign(package, kind))
    assert (ended, wrong) == ([], [])
    assert met >= {"pqvpn.host": 3, "pqvpn.control": 15, "pqvpn.telemetry": 1}[package]
    assert CANARY not in "".join(capfd.readouterr())


def test_what_fails_again_and_again_does_not_take_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    (target,) = (t for t in targets("pqvpn.control") if t.name == "receive_as_control")

    async def poked() -> int:
        rig, running = await restarted(None, None)
        with raising(target, "unexpected") as calls:
            rig.link.send(supervision.POKE)  # which stays to be read
            await asyncio.sleep(0.5)
        assert not running.done()
        rig.process.ended.set()
        await running
        rig.close()
        return len(calls)

    assert 0 < asyncio.run(poked()) < 20


COMMANDS = (("diag",), ("diag", "trace", "4f2a"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_ends_with_the_code_of_whatever_raises(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diag, "inquiry", lambda *_: asked())
    met, wrong = 0, []
    for target in targets("pqvpn.diag"):
        with raising(target, kind) as calls:
            for words in COMMANDS:
                before = len(calls)
                with pytest.raises(SystemExit) as ended:
                    main.run(words)
                out, err = capsys.readouterr()
                assert CANARY not in out + err, target
                assert "Traceback" not in err, target
                reached = len(calls) > before
                met += reached
                told = target.told(kind)
                if reached and (ended.value.code, told.code in err) not in {(told.exit_code, True), *HANDLED}:
                    wrong.append(f"{target} {words}: {ended.value.code} {err[:200]}")
    assert wrong == []
    assert met > 20


HANDLED = {(0, False), (1, False)}
"""The part that failed is left out, and the rest is shown."""
