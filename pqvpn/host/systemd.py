"""The service manager's protocol: what a service tells systemd, and the descriptors that systemd keeps for it.

Owns the datagrams of sd_notify(3) and the variables of sd_listen_fds(3). Knows nothing of nodes. Of our own making, since the
small libraries for it send no descriptors, or are not maintained, and python-systemd needs a compiler and libsystemd.
Every method does nothing where no manager listens.
"""

import array
import os
import select
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_PATIENCE: Final = 0.5
"""Seconds that a manager whose queue is full may hold us up."""
_FIRST: Final = 3
"""The first descriptor that is passed (SD_LISTEN_FDS_START)."""


class Manager:
    """The service manager of this process, if there is one that wants to be told. `watchdog`: seconds within which it wants a
    sign of life, None: it does not."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Takes the variables out: they are for this process alone."""
        place = environment.pop("NOTIFY_SOCKET", "")
        self._place = "\0" + place[1:] if place.startswith("@") else place
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if place else None
        if self._socket:
            self._socket.settimeout(_PATIENCE)
        self.watchdog = _watchdog(environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", ""))
        self.variables = {"NOTIFY_SOCKET": place} if place else {}
        if self.watchdog:
            self.variables["WATCHDOG_USEC"] = str(int(self.watchdog * 1e6))

    @property
    def listens(self) -> bool:
        """Whether there is a manager."""
        return self._socket is not None

    def tell(self, *lines: str, descriptor: int | None = None) -> bool:
        """Send assignments such as `READY=1`, with a descriptor beside them; False when nobody took them."""
        if self._socket is None:
            return False
        data = ["\n".join(lines).encode()]
        rights = array.array("i", [] if descriptor is None else [descriptor])
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        try:
            # not by socket.send_fds, which forgets the address. May wait: a full queue must not cost a READY
            self._socket.sendmsg(data, beside, socket.MSG_NOSIGNAL, self._place)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Tell nothing any more."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def reloading(self) -> None:
        """A reload began (`Type=notify-reload` wants to know since when)."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def keep(self, name: str, descriptor: int) -> None:
        """Have a descriptor kept and passed to the next process of the service, under this name."""
        # no polling: an interface that was deleted may come back up
        self.tell("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptor=descriptor)

    def forget(self, name: str) -> None:
        """Have every descriptor of this name closed."""
        self.tell("FDSTOREREMOVE=1", f"FDNAME={name}")

    def wait(self, seconds: float) -> None:
        """Wait until everything told so far was acted on, not longer than `seconds`."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            sent = self.tell("BARRIER=1", descriptor=writing)
        finally:
            os.close(writing)
        if sent:  # the manager closes its copy when it comes to it
            poll = select.poll()
            poll.register(reading, 0)
            poll.poll(seconds * 1000)
        os.close(reading)


def passed(environment: MutableMapping[str, str]) -> dict[str, int]:
    """The descriptors that the manager passed to this process, by name; of several of one name the last. They are ours to
    close."""
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdigit() or pid != str(os.getpid()):
        return {}
    found: dict[str, int] = {}
    for place in range(min(int(count), 1024)):
        descriptor = _FIRST + place
        os.set_inheritable(descriptor, False)
        name = names[place] if place < len(names) else "unknown"
        if name in found:
            os.close(found[name])
        found[name] = descriptor
    return found


def _watchdog(microseconds: str, pid: str) -> float | None:
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6 or None
