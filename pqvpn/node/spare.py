"""The warm spare: a process that is imported and waits, so that one that died is replaced in milliseconds.

Owns the waiting process and when it is made anew: not while a replacement is starting, which needs the processor, and more
and more rarely when spares themselves die. A spare holds no key and no descriptor of the tunnel.
"""

import os
import selectors
from collections.abc import Callable
from typing import Final

from pqvpn.control.supervision import ProcessInfo
from pqvpn.facts import ChildEnded, FactHook, Problem
from pqvpn.host import stacks
from pqvpn.node import children
from pqvpn.node.children import Waiting
from pqvpn.reasons import Reason
from pqvpn.resilience.backoff import Backoff
from pqvpn.resilience.supervisor import describe_exit

AFTER: Final = 2.0
"""Seconds between a start or a replacement and the making of the next spare."""
_LONGEST: Final = 60.0
_LIVED: Final = 10.0


class Spare:
    """One spare, once enabled; until then every process is started when it is needed."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
        publish: FactHook,
        on_change: Callable[[], None],
    ) -> None:
        self._selector = selector
        self._clock = clock
        self._publish = publish
        self._on_change = on_change
        self._enabled = False
        self._waiting: Waiting | None = None
        self._pidfd = -1
        self._made_at = 0.0
        self.deaths = 0
        self._backoff = Backoff(AFTER, _LONGEST, shortest=AFTER)
        self.due: float | None = None

    @property
    def ready(self) -> bool:
        """Whether it has imported everything and waits."""
        waiting = self._waiting
        return waiting is not None and waiting.alive and stacks.name(waiting.process.popen.pid) == stacks.WAITING

    def waits(self) -> bool:
        """The same; where there is none, one is made at once."""
        if self._waiting is None:
            self.due = self._clock()
        return self.ready

    def take(self, module: str) -> Waiting:
        """A process that waits to be made a lane or control: the spare if it lives, else a fresh one of `module`.

        Raises OSError.
        """
        self._due_again(AFTER)
        waiting = self._forget()
        if waiting is not None:
            if waiting.alive:
                return waiting
            waiting.end()
        return children.spawn(module)

    def enable(self, wanted: bool) -> None:
        """Make one soon, or do without from now on."""
        if wanted == self._enabled:
            return
        self._enabled = wanted
        self._due_again(AFTER)
        if not wanted:
            self.close()
            self._on_change()

    def refill(self) -> None:
        """Make the spare when it is due."""
        if self.due is None or self.due > self._clock() or self._waiting is not None:
            return
        self.due = None
        try:
            self._waiting = children.spawn(children.SPARE)
        except OSError as error:
            self._publish(Problem(Reason.KERNEL_REFUSED, "supervisor", f"no spare: {error.strerror}"))
            self._due_again(self._backoff.next())
            return
        except Exception:
            self._due_again(self._backoff.next())  # whatever it is, there shall be a spare again
            raise
        self._made_at = self._clock()
        self._pidfd = os.pidfd_open(self._waiting.process.popen.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, self._ended)
        self._on_change()

    def infos(self) -> tuple[ProcessInfo, ...]:
        """The spare, for `status`."""
        if self._waiting is None:
            return ()
        return (ProcessInfo("spare", self._waiting.process.popen.pid, 0, self._made_at),)

    def close(self) -> None:
        """End it."""
        self.due = None
        waiting = self._forget()
        if waiting is not None:
            waiting.kill()

    def _ended(self) -> None:
        """It died without having been anything."""
        self.deaths += 1
        waiting = self._forget()
        if waiting is not None:
            code = waiting.process.popen.wait()
            waiting.end()
            self._publish(ChildEnded("spare", waiting.process.popen.pid, describe_exit(code), Reason.CHILD_DIED))
        if self._clock() - self._made_at >= _LIVED:
            self._backoff.reset()
        self._due_again(self._backoff.next())

    def _forget(self) -> Waiting | None:
        waiting, self._waiting = self._waiting, None
        if self._pidfd >= 0:
            self._selector.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        return waiting

    def _due_again(self, seconds: float) -> None:
        self.due = self._clock() + seconds if self._enabled else None
