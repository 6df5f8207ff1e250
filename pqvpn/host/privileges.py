"""What a process gives up before it touches the network's bytes.

Owns capabilities, no_new_privs, dumpability, core limits and the parent-death signal, by prctl(2) and capset(2) through
ctypes. Knows nothing of what the process does afterwards. There is no seccomp filter: see docs/threat-model.md.
"""

import ctypes
import os
import resource
import signal
from enum import IntEnum

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63


class Capability(IntEnum):
    """The few capabilities of capabilities(7) that a node uses."""

    DAC_READ_SEARCH = 2
    NET_ADMIN = 12


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def die_with_parent(parent: int, ends_by: int = signal.SIGKILL) -> None:
    """Get the signal `ends_by` when the parent dies; exit at once if it is gone already. `parent` is its process id."""
    _call("prctl", _PR_SET_PDEATHSIG, int(ends_by), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(os.EX_UNAVAILABLE)


def forbid_inspection() -> None:
    """No core dump, no ptrace and no /proc/PID/mem for this process: its memory holds keys."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def keep_only(capabilities: frozenset[Capability]) -> None:
    """Drop every capability but those given, from all five sets, and forbid to win any back by exec.

    Raises OSError if the kernel refuses. Capabilities that the process does not have are not granted.
    """
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for number in range(_LAST_CAPABILITY + 1):
        if number in capabilities:
            continue
        # EINVAL: past the kernel's last one. EPERM: no CAP_SETPCAP, hence nothing to drop that exec could bring back.
        _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = _Header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    _call("capget", ctypes.byref(header), ctypes.byref(data))
    for word in range(2):
        wanted = sum(1 << (c % 32) for c in capabilities if c // 32 == word)
        data[word].permitted &= wanted
        data[word].effective = data[word].permitted
        data[word].inheritable = 0
    _call("capset", ctypes.byref(header), ctypes.byref(data))


def keep_over_exec(capabilities: frozenset[Capability]) -> None:
    """Let a program that is executed next keep these capabilities, also when it is not run by root. Raises OSError."""
    header = _Header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    _call("capget", ctypes.byref(header), ctypes.byref(data))
    for word in range(2):
        wanted = sum(1 << (c % 32) for c in capabilities if c // 32 == word)
        data[word].inheritable = data[word].permitted & wanted
    _call("capset", ctypes.byref(header), ctypes.byref(data))
    for capability in capabilities:
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, int(capability), 0, 0)


def confine(parent: int, capabilities: frozenset[Capability] = frozenset(), *, ends_by: int = signal.SIGKILL) -> None:
    """Everything a child does first: die with its parent, keep only `capabilities`, forbid inspection."""
    keep_only(capabilities)
    forbid_inspection()
    die_with_parent(parent, ends_by)
