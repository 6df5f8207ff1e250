"""Errors classed by who must act: each carries a reason, and the reason says what happens next.

Owns the exception classes. Knows nothing of logging, exit or recovery: the boundary of each plane catches a
`PqvpnError`, records its reason and carries out its action. A discarded packet is never an exception; it is a
`pqvpn.drops.DropReason` with a counter.
"""

from typing import ClassVar

from pqvpn.reasons import Action, Reason


class PqvpnError(Exception):
    """An expected failure with a closed reason code.

    `detail` says what was met here, in words fit for an operator; it never holds a secret. `place` is where it was
    met (a path in the configuration, a file, an address). `remedy` overrides the reason's general one.
    """

    family: ClassVar[str] = "error"

    def __init__(self, reason: Reason, detail: str = "", *, place: str = "", remedy: str = "") -> None:
        super().__init__(reason, detail, place)
        self.reason = reason
        self.detail = detail
        self.place = place
        self._remedy = remedy

    @property
    def action(self) -> Action:
        """What the boundary that catches this does."""
        return self.reason.action

    @property
    def remedy(self) -> str:
        """What the person who must act should do, as one sentence."""
        return self._remedy or self.reason.remedy

    @property
    def exit_code(self) -> int:
        """The sysexits code with which a process ends that cannot go on; it decides whether a restart can help."""
        return self.reason.exit_code

    def __str__(self) -> str:
        text = self.detail or self.reason.text
        return f"{self.place}: {text}" if self.place else text


class NetworkError(PqvpnError):
    """The network or the kernel's view of it: sockets, routes, names."""

    family = "network"


class CryptoError(PqvpnError):
    """A local failure of cryptography; never caused by a stranger's bytes."""

    family = "crypto"


class ConfigError(PqvpnError):
    """Configuration, key files, cards and command lines."""

    family = "config"


class TunError(PqvpnError):
    """The TUN interface and what hangs on it."""

    family = "tun"


class DiscoveryError(PqvpnError):
    """Finding peers."""

    family = "discovery"


class RelayError(PqvpnError):
    """Reaching peers through others."""

    family = "relay"


class TelemetryError(PqvpnError):
    """Telling what happened; never reaches the data path."""

    family = "telemetry"


class ConfigErrors(ConfigError):  # noqa: N818 - it holds several
    """All errors of one configuration at once; `errors` is never empty, the first one gives the reason."""

    def __init__(self, errors: "tuple[ConfigError, ...]") -> None:
        super().__init__(errors[0].reason, f"{len(errors)} error(s) in the configuration")
        self.errors = errors


_BY_AREA: dict[str, tuple[type[PqvpnError], ...]] = {
    "network": (NetworkError,),
    "host": (NetworkError,),
    "handshake": (NetworkError,),
    "session": (NetworkError,),
    "tun": (TunError,),
    "crypto": (CryptoError,),
    "config": (ConfigError,),
    "identity": (ConfigError,),
    "telemetry": (TelemetryError,),
    "crash": (TelemetryError,),
}
_BY_REASON: dict[Reason, tuple[type[PqvpnError], ...]] = {
    Reason.KERNEL_REFUSED: (NetworkError, TunError),
    Reason.NO_PERMISSION: (NetworkError, TunError, PqvpnError),  # the last: of the command, not of the node
    Reason.CONFIG_FILE: (ConfigError, TelemetryError),
    Reason.CONFIG_DSN: (ConfigError, TelemetryError),
    Reason.CONFIG_TELEMETRY_PLAIN: (ConfigError, TelemetryError),
}


def reason_of(error: BaseException) -> Reason:
    """The code with which an error is told: its own, or that of the kernel's refusal, or that nobody foresaw it."""
    if isinstance(error, PqvpnError):
        return error.reason
    return Reason.KERNEL_REFUSED if isinstance(error, OSError) else Reason.INTERNAL


def is_foreseen(error: BaseException) -> bool:
    """Whether an error is a problem only, and no crash to report: a class of ours, or what the kernel refused."""
    return isinstance(error, OSError | PqvpnError)


def classes_of(reason: Reason) -> tuple[type[PqvpnError], ...]:
    """With which classes a reason is raised; where it is never raised but only told, the class that it belongs to.

    Reasons of the node as a whole and of the command line have no plane, and so no class but the general one.
    """
    return _BY_REASON.get(reason) or _BY_AREA.get(reason.code.partition(".")[0], (PqvpnError,))
