"""When the M1s came in that we answered lately, for the trace of the session that an M3 makes of one of them.

Owns a fixed number of times and nothing of the handshake: what a responder must know at M3 is in the biscuit, by whose
number it finds them. No decision reads them. Whoever makes us answer so often that they are pushed out costs the trace
of a session two spans, and nobody a session (decision 0018).
"""

from collections import OrderedDict
from typing import NamedTuple

ANSWERS = 256  # at the most M1s a second that are answered, more than a second's


class Asked(NamedTuple):
    """An M1: when its first datagram came, and when it was whole and M2 was made."""

    began: float
    whole: float


class Answers:
    """Times of the last `ANSWERS` M1s, by the number of the biscuit that answered each."""

    def __init__(self) -> None:
        self._asked: OrderedDict[int, Asked] = OrderedDict()

    def __len__(self) -> int:
        return len(self._asked)

    def note(self, number: int, asked: Asked) -> None:
        """M2 goes out with this biscuit."""
        self._asked[number] = asked
        if len(self._asked) > ANSWERS:
            self._asked.popitem(last=False)

    def forget(self, before: float) -> None:
        """Those older than this are of biscuits that no M3 can bring back any more."""
        while self._asked and next(iter(self._asked.values())).whole < before:
            self._asked.popitem(last=False)

    def take(self, number: int) -> Asked | None:
        """Of the biscuit that a verified M3 brought back; None when too many came after it."""
        return self._asked.pop(number, None)
