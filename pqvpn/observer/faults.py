"""What fails in the observer: told by its code, at most once a minute for each place.

Owns the boundary that consumers of facts, timers, jobs and answers end at, and the bound on repetition: the consumer that
failed may be the teller. Knows nothing of what they do.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from pqvpn.errors import is_foreseen, reason_of
from pqvpn.facts import FactHook, Problem
from pqvpn.telemetry.crashes.telling import detail_of

TOLD_EVERY: Final = 60.0


class Faults:
    """`publish` hears of each, `crashed` of those that nobody foresaw. `clock`: seconds."""

    def __init__(self, publish: FactHook, crashed: Callable[[Exception], None], clock: Callable[[], float]) -> None:
        self._publish = publish
        self._crashed = crashed
        self._clock = clock
        self._places: dict[str, tuple[int, float]] = {}

    @contextlib.contextmanager
    def boundary(self, where: str) -> Iterator[None]:
        """What fails inside ends here. Never raises an `Exception`."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the boundary: one consumer must not cost the others their facts
            self.tell(where, error)

    def tell(self, where: str, error: BaseException | None) -> None:
        """Tell of an error, by its own code. Never raises: whoever calls this is the last that could catch."""
        with contextlib.suppress(Exception):
            count, told = self._places.get(where, (0, float("-inf")))
            time = self._clock()
            tell = time - told > TOLD_EVERY
            self._places[where] = (count + 1, time if tell else told)
            if not tell:
                return
            known = error if isinstance(error, Exception) else RuntimeError()  # the loop complains without one, too
            detail = f"{detail_of(known)} ({count + 1} so far)".lstrip()
            self._publish(Problem(reason_of(known), f"observer.{where}", detail))
            if not is_foreseen(known):
                self._crashed(known)
