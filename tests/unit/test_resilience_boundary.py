"""The boundary of a plane: what is done by class of error, how often it is told, and that it never gives way itself."""

import os

import pytest

from pqvpn.errors import (
    ConfigError,
    CryptoError,
    DiscoveryError,
    NetworkError,
    PqvpnError,
    RelayError,
    TelemetryError,
    TunError,
    reason_of,
)
from pqvpn.reasons import Action, Reason
from pqvpn.resilience.boundary import ACTIONS, PAUSE, TELL_EVERY, TRIES, Boundary


class Rig:
    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[tuple[str, str, int]] = []
        self.boundary = Boundary(lambda *what: self.tell(*what), lambda: self.now)  # noqa: PLW0108 - a test replaces it

    def tell(self, where: str, error: Exception, count: int) -> None:
        self.told.append((where, type(error).__name__, count))

    def fail(self, error: Exception, where: str = "here", **more: object) -> Action | None:
        def do() -> None:
            raise error

        return self.boundary.call(where, do, **more)  # type: ignore[arg-type]


CLASSES = [
    (NetworkError(Reason.ADDRESS_IN_USE), Action.RETRY, None),
    (CryptoError(Reason.SELF_TEST_FAILED), Action.SHUTDOWN, os.EX_SOFTWARE),
    (ConfigError(Reason.CONFIG_VALUE), Action.SHUTDOWN, os.EX_CONFIG),
    (TunError(Reason.KERNEL_REFUSED), Action.RETRY, None),
    (DiscoveryError(Reason.NO_ENDPOINT), Action.FALLBACK, None),
    (RelayError(Reason.NO_ENDPOINT), Action.FALLBACK, None),
    (TelemetryError(Reason.TELEMETRY_ENVIRONMENT), Action.DROP, None),
    (PqvpnError(Reason.ALREADY_RUNNING), Action.SHUTDOWN, os.EX_CONFIG),
    (RuntimeError("canary"), Action.RETRY, None),
    (OSError(5, "canary"), Action.RETRY, None),
]


@pytest.mark.parametrize(("error", "action", "code"), CLASSES, ids=lambda value: type(value).__name__)
def test_each_class_has_its_action(error: Exception, action: Action, code: int | None) -> None:
    rig = Rig()
    assert rig.fail(error) is action
    assert rig.boundary.exit_code == code
    assert rig.told == [("here", type(error).__name__, 1)]


def test_every_class_has_a_row() -> None:
    named = {NetworkError, CryptoError, ConfigError, TunError, DiscoveryError, RelayError, TelemetryError}
    assert set(ACTIONS) == named


def test_cryptography_falls_back_where_there_is_something_to_fall_back_to() -> None:
    rig, done = Rig(), []
    assert rig.fail(CryptoError(Reason.SELF_TEST_FAILED), fallback=lambda: done.append(1)) is Action.FALLBACK
    assert (done, rig.boundary.exit_code) == ([1], None)


def test_an_interface_is_retried_and_then_given_up_unless_it_came_back() -> None:
    rig = Rig()
    for _ in range(TRIES):
        assert rig.fail(TunError(Reason.NO_TUN)) is Action.RETRY
    assert rig.boundary.call("here", lambda: None) is None
    for _ in range(TRIES):
        assert rig.fail(TunError(Reason.NO_TUN)) is Action.RETRY
    assert rig.boundary.exit_code is None
    assert rig.fail(TunError(Reason.NO_TUN)) is Action.SHUTDOWN
    assert rig.boundary.exit_code == Reason.NO_TUN.exit_code


def test_repetition_is_told_once_a_second_with_its_count_and_slowed_down() -> None:
    rig = Rig()
    rig.fail(RuntimeError())
    assert rig.boundary.pause() == 0.0
    for _ in range(1000):
        rig.fail(RuntimeError())
    assert (rig.boundary.pause(), rig.boundary.pause()) == (PAUSE, 0.0)
    assert rig.told == [("here", "RuntimeError", 1)]
    rig.fail(KeyError())
    rig.now += TELL_EVERY
    rig.fail(RuntimeError())
    assert rig.told[1:] == [("here", "KeyError", 1), ("here", "RuntimeError", 1001)]
    assert rig.boundary.exit_code is None


def test_telling_that_fails_ends_nothing_and_is_made_good() -> None:
    rig = Rig()
    tell, rig.tell = rig.tell, lambda *_: 1 / 0  # type: ignore[method-assign]
    rig.fail(RuntimeError())
    rig.tell = tell  # type: ignore[method-assign]
    rig.now += TELL_EVERY
    rig.fail(RuntimeError())
    assert rig.told == [("here", "RuntimeError", 2)]


def test_what_it_remembers_is_bounded() -> None:
    rig = Rig()
    for number in range(1000):
        rig.boundary.record(f"place {number}", RuntimeError())
    assert len(rig.boundary._places) <= 64


def test_what_is_only_recorded_ends_nothing() -> None:
    rig = Rig()
    rig.boundary.record("core", ConfigError(Reason.CONFIG_VALUE))
    assert rig.boundary.exit_code is None
    assert len(rig.told) == 1


def test_codes() -> None:
    assert reason_of(OSError(5, "x")) is Reason.KERNEL_REFUSED
    assert reason_of(RuntimeError("x")) is Reason.INTERNAL
    assert reason_of(TunError(Reason.NO_TUN)) is Reason.NO_TUN
