"""The supervisor's loop: whatever one of its callbacks raises, the others get their turn and the node goes on."""

import selectors
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pqvpn.errors import ConfigError, NetworkError, TunError
from pqvpn.facts import Fact, Problem
from pqvpn.host.clock import now
from pqvpn.node import lifecycle
from pqvpn.node.lifecycle import Node
from pqvpn.reasons import Reason
from pqvpn.resilience.boundary import TRIES, Boundary
from pqvpn.telemetry.crashes.telling import teller

TEXT = "tell-tale"
PARTS = ("callback", "children", "stand-ins", "spare", "watch", "service", "upgrade", "reload")


class Rig:
    """A node of which only the loop is real; `fails`: the part that raises."""

    def __init__(self, fails: str, error: Exception) -> None:
        self.told: list[Fact] = []
        self.done: list[str] = []
        self.crashes: list[Exception] = []
        self.fails, self.error = fails, error
        self.ready, other = socket.socketpair()
        other.send(b"x")
        self.other = other
        node = self.node = object.__new__(Node)
        part = self.part
        fields: dict[str, Any] = {
            "_edge": Boundary(teller(self.told.append, "supervisor", self.crashes.append), now),
            "_selector": selectors.DefaultSelector(),
            "_supervisor": SimpleNamespace(
                next_start=lambda: None, start_due=part("children"), fatal=None, progressing=lambda _: True
            ),
            "_staff": SimpleNamespace(cover_lanes=part("stand-ins")),
            "_watch": SimpleNamespace(due=None, look_if_due=part("watch")),
            "_spare": SimpleNamespace(due=None, refill=part("spare")),
            "_service": SimpleNamespace(due=None, look=part("service")),
            "_upgrade": SimpleNamespace(due=None, wanted=False, on_trial=False, look=part("upgrade")),
            "_interface": SimpleNamespace(kernel=None),
            "_stop_cause": "",
            "_reload_wanted": True,
            "_reload": part("reload"),
        }
        for name, value in fields.items():
            setattr(node, name, value)
        node._selector.register(self.ready, selectors.EVENT_READ, part("callback"))

    def part(self, name: str) -> Callable[..., None]:
        def do(*_: Any) -> None:
            self.done.append(name)
            if self.done.count("children") >= 8:
                self.node._stop_cause = "test"
            if name == self.fails:
                raise self.error

        return do

    def serve(self) -> None:
        try:
            self.node._serve()
        finally:
            self.node._selector.close()
            self.ready.close()
            self.other.close()


@pytest.mark.parametrize("error", [RuntimeError(TEXT), OSError(5, TEXT), NetworkError(Reason.NO_ROUTE_OUT)], ids=repr)
@pytest.mark.parametrize("part", PARTS)
def test_the_node_goes_on_and_every_other_part_has_its_turn(part: str, error: Exception) -> None:
    rig = Rig(part, error)
    rig.serve()
    assert set(rig.done) == set(PARTS)
    assert rig.done.count("spare") >= 7
    assert rig.node._edge.exit_code is None
    problems = [fact for fact in rig.told if isinstance(fact, Problem)]
    reasons = {RuntimeError: Reason.INTERNAL, OSError: Reason.KERNEL_REFUSED, NetworkError: Reason.NO_ROUTE_OUT}
    assert [(fact.reason, fact.component) for fact in problems] == [(reasons[type(error)], f"supervisor.{part}")]
    assert TEXT not in repr(rig.told)
    assert bool(rig.crashes) == isinstance(error, RuntimeError)


def test_what_repeats_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(lifecycle.time, "sleep", slept.append)
    Rig("callback", RuntimeError()).serve()
    assert len(slept) >= 6


def test_an_interface_that_cannot_be_had_ends_the_node_after_some_tries() -> None:
    rig = Rig("watch", TunError(Reason.NO_TUN))
    rig.serve()
    assert rig.node._edge.exit_code == Reason.NO_TUN.exit_code
    assert rig.done.count("watch") == TRIES + 1


def test_a_configuration_error_ends_the_node_with_its_code() -> None:
    rig = Rig("spare", ConfigError(Reason.CONFIG_VALUE))
    rig.serve()
    assert rig.node._edge.exit_code == 78
    assert rig.done.count("spare") == 1


def test_a_version_on_trial_does_not_go_on() -> None:
    rig = Rig("spare", RuntimeError(TEXT))
    rig.node._upgrade.on_trial = True
    with pytest.raises(RuntimeError):
        rig.serve()
