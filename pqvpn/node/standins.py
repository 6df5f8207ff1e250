"""Fewer lanes: a lane that ends again and again is carried by the process of another lane, between its rare tries.

Owns who carries whom, and since when. A stand-in serves the lane's own TUN queue, socket, keys and counters beside its own,
so that neither control nor the peer has to know: to them the lane was replaced once more. No lane is ever carried twice
at a time: before it is started, or given to another, its stand-in has closed its end of the link, or is dead. What ends
a lane may end its stand-in too; then nobody carries the lane until its next try.
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pqvpn.control import supervision
from pqvpn.facts import FactHook, Problem
from pqvpn.reasons import Reason
from pqvpn.resilience.supervisor import Child, Supervisor

LETS_GO: Final = 0.1
"""Seconds that a stand-in has to let go of a lane; it is one turn of its loop. Otherwise the start is tried again."""

Carry = Callable[[int, int, socket.socket], None]
"""Called with a lane, the lane whose process shall carry it, and the link by whose closing it is let go; raises OSError."""


@dataclass(frozen=True, slots=True)
class _Cover:
    host: int
    pid: int
    link: socket.socket
    since: float


class StandIns:
    """Of one node."""

    def __init__(self, supervisor: Supervisor, carry: Carry, publish: FactHook) -> None:
        self._supervisor = supervisor
        self._carry = carry
        self._publish = publish
        self._covers: dict[int, _Cover] = {}
        self._left_alone: set[int] = set()  # until their next try
        self._closed_told = False

    def look(self, lanes: int) -> bool:
        """See who needs a stand-in, or has lost it; whether anything changed."""
        changed = False
        for lane, cover in list(self._covers.items()):
            if self._lost(cover):
                self._forget(lane)
                policy = self._child(lane).history.policy
                if self._supervisor.clock() - cover.since < policy.lived:
                    self._left_alone.add(lane)
                changed = True
        for lane in range(lanes):
            if self._needs(lane) and (host := self._host(lane, lanes)) is not None:
                changed = self._cover(lane, host) or changed
        self._tell_closed(lanes)
        return changed

    def take_back(self, lane: int) -> None:
        """Have the lane's stand-in let it go, and wait until it has. Raises OSError when it has not: nobody may start it."""
        self._left_alone.discard(lane)
        cover = self._covers.get(lane)
        if cover is None:
            return
        if not self._lost(cover):
            cover.link.settimeout(LETS_GO)
            try:
                cover.link.shutdown(socket.SHUT_WR)
                cover.link.recv(1)
            except TimeoutError:
                raise OSError(errno.EAGAIN, f"lane-{cover.host}, which stands in for it, has not let go yet") from None
            except ConnectionError:  # it closed its end, or is dead
                pass
        self._forget(lane)

    def close(self) -> None:
        """The node ends: whoever carries a lane ends as well."""
        for lane in list(self._covers):
            self._forget(lane)

    # -- who ---------------------------------------------------------------------------------------------------------

    def _child(self, lane: int) -> Child:
        return self._supervisor.children[f"lane-{lane}"]

    def _needs(self, lane: int) -> bool:
        child = self._supervisor.children.get(f"lane-{lane}")
        if child is None or lane in self._covers or lane in self._left_alone:
            return False
        return child.process is None and child.history.looping

    def _host(self, lane: int, lanes: int) -> int | None:
        """The lane whose process lives and carries the fewest others."""
        living = [
            other
            for other in range(lanes)
            if other != lane
            and (child := self._supervisor.children.get(f"lane-{other}")) is not None
            and child.process is not None
            and not (child.history.looping or child.hung or child.ordered)
        ]
        hosts = [cover.host for cover in self._covers.values()]
        return min(living, key=hosts.count, default=None)

    def _lost(self, cover: _Cover) -> bool:
        """Whether the stand-in is dead, or has closed its end by itself."""
        if self._child(cover.host).pid != cover.pid:
            return True
        try:
            return not cover.link.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    # -- acts --------------------------------------------------------------------------------------------------------

    def _cover(self, lane: int, host: int) -> bool:
        ours, theirs = supervision.link()
        with theirs:
            try:
                self._carry(lane, host, theirs)
            except OSError as error:  # the lane is tried again by itself; until then it is as it was
                ours.close()
                self._left_alone.add(lane)
                self._publish(
                    Problem(Reason.KERNEL_REFUSED, "supervisor", f"no stand-in for lane-{lane}: {error.strerror}")
                )
                return False
        self._covers[lane] = _Cover(host, self._child(host).pid, ours, self._supervisor.clock())
        self._child(lane).covered = True
        self._publish(Problem(Reason.FEWER_LANES, "supervisor", f"lane-{host} carries what lane-{lane} carried"))
        return True

    def _forget(self, lane: int) -> None:
        self._covers.pop(lane).link.close()
        self._child(lane).covered = False

    def _tell_closed(self, lanes: int) -> None:
        """Told once: no lane runs, and none is about to."""
        children = [c for lane in range(lanes) if (c := self._supervisor.children.get(f"lane-{lane}")) is not None]
        closed = bool(children) and all(c.process is None and c.history.looping for c in children)
        if closed and not self._closed_told:
            self._publish(
                Problem(Reason.NO_LANES, "supervisor", f"{len(children)} of {len(children)} lanes end again and again")
            )
        self._closed_told = closed
