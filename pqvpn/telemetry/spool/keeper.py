"""A spool that takes records also while the disk refuses: the latest ones wait in memory, bounded.

Owns the ring in memory and the decision when the disk is tried again. Never raises for what the disk does; `trouble`
says why it is not used. `trouble` and `losses` need no lock, everything else may have to wait for a slow disk. What
waits in memory is sent like the rest, and goes to disk, with its id, once that works.
"""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pqvpn.errors import TelemetryError
from pqvpn.reasons import Reason
from pqvpn.telemetry.spool import layout
from pqvpn.telemetry.spool.cursor import Loss
from pqvpn.telemetry.spool.files import Files
from pqvpn.telemetry.spool.layout import Kind, Record, RecordId
from pqvpn.telemetry.spool.writer import Backlog, Spool, uptime

MEMORY: Final = 4 << 20
"""Bytes of records that wait in memory while the disk refuses."""
_RETRY: Final = 2.0
MEMORY_CAUSE, TOO_LARGE_CAUSE = "memory", "too_large"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the disk is not used. `since`: uptime, seconds."""

    reason: Reason
    detail: str
    since: float


class Keeper:
    """Takes what `Spool` takes. Methods may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        size: int,
        age: float,
        *,
        memory: int = MEMORY,
        retry: float = _RETRY,
        sends: bool = True,
        clock: Callable[[], int] = time.time_ns,
        now: Callable[[], float] = uptime,
        files: Files | None = None,
    ) -> None:
        self.on_append: Callable[[], None] | None = None
        self._make: Callable[[], Spool] = lambda: Spool(
            folder, size, age, sends=sends, clock=clock, now=now, files=files
        )
        self._memory = memory
        self._retry = retry
        self._clock = clock
        self._now = now
        self._lock = threading.RLock()
        self._spool: Spool | None = None
        self._ring: OrderedDict[RecordId, Record] = OrderedDict()
        self._ring_size = 0
        self._losses: dict[str, Loss] = {}  # not yet counted by the spool
        self._told: dict[str, Loss] = {}
        self._trouble: Trouble | None = None
        self._try_at = 0.0
        self._to_disk([])
        self._tell()

    def append(self, kind: Kind, payload: bytes, items: int) -> RecordId:
        """Keep one record: durable when it returns unless there is `trouble`."""
        return self.append_many([(kind, payload, items)])[0]

    def append_many(self, batch: Sequence[tuple[Kind, bytes, int]]) -> list[RecordId]:
        """Keep several, with as few syncs as possible."""
        time_ns = self._clock()
        with self._lock:
            records = [layout.new_record(kind, payload, items, time_ns) for kind, payload, items in batch]
            if self._trouble and self._now() < self._try_at:
                self._to_memory(records)
            else:
                self._to_disk(records)
            self._tell()
        if self.on_append:
            self.on_append()
        return [record.id for record in records]

    def tidy(self) -> None:
        """Let go of what is too old, and try the disk again when it is time; call it every few seconds."""
        with self._lock:
            if self._trouble and self._now() >= self._try_at:
                self._to_disk([])
            elif self._spool:
                self._spool.tidy()
            self._tell()

    # -- sending -----------------------------------------------------------------------------------------------------

    def unsent(self) -> Iterator[Record]:
        """As `Spool.unsent`, then what waits in memory."""
        if self._spool:
            yield from self._spool.unsent()
        with self._lock:
            waiting = list(self._ring.values())
        yield from waiting

    def sent(self, record_id: RecordId) -> None:
        """As `Spool.sent`."""
        with self._lock:
            if not self._forget(record_id) and self._spool:
                self._spool.sent(record_id)

    def drop(self, record_id: RecordId, cause: str, items: int = 0) -> None:
        """As `Spool.drop`."""
        with self._lock:
            if record_id in self._ring or not self._spool:
                self._losses[cause] = self._losses.get(cause, Loss()) + Loss(1, items)
                self.sent(record_id)
            else:
                self._spool.drop(record_id, cause, items)
            self._tell()

    def count_loss(self, cause: str, records: int, items: int = 0) -> None:
        """As `Spool.count_loss`."""
        with self._lock:
            if self._spool:
                self._spool.count_loss(cause, records, items)
            else:
                self._losses[cause] = self._losses.get(cause, Loss()) + Loss(records, items)
            self._tell()

    # -- what it says ------------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> Trouble | None:
        """Why records wait in memory; None when the disk takes them."""
        return self._trouble

    @property
    def losses(self) -> dict[str, Loss]:
        """As `Spool.losses`, with what was lost from memory; as of the last call that may have changed it."""
        return dict(self._told)

    @property
    def torn(self) -> int:
        """As `Spool.torn`."""
        return self._spool.torn if self._spool else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Spool.notes`."""
        return self._spool.notes if self._spool else ()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._spool.size if self._spool else 0

    def backlog(self) -> Backlog:
        """As `Spool.backlog`, with what waits in memory."""
        with self._lock:
            on_disk = self._spool.backlog() if self._spool else Backlog()
            if not self._ring:
                return on_disk
            items = sum(record.items for record in self._ring.values())
            oldest = on_disk.oldest_ns or next(iter(self._ring.values())).time_ns
            return Backlog(
                on_disk.records + len(self._ring), on_disk.items + items, on_disk.bytes + self._ring_size, oldest
            )

    def close(self) -> None:
        """Try to bring what waits in memory to disk, count what is lost with it, and close."""
        with self._lock:
            if self._ring:
                self._to_disk([])
            for record in self._ring.values():
                self._lose(MEMORY_CAUSE, record)
            self._ring.clear()
            self._ring_size = 0
            if self._spool:
                self._hand_over_losses(self._spool)
                self._spool.close()
            self._tell()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _to_disk(self, records: list[Record]) -> None:
        """What waits in memory first, then these; what the disk refuses waits in memory."""
        waiting = [*self._ring.values(), *records]
        try:
            spool = self._spool = self._spool or self._make()
            while waiting:
                waiting = self._put_some(spool, waiting)
        except TelemetryError as error:
            since = self._trouble.since if self._trouble else self._now()
            self._trouble = Trouble(error.reason, str(error), since)
            self._try_at = self._now() + self._retry
            self._to_memory([record for record in waiting if record.id not in self._ring])
        else:
            self._trouble = None
            self._hand_over_losses(spool)

    def _put_some(self, spool: Spool, waiting: list[Record]) -> list[Record]:
        """Bring the first of them to disk with one sync; returns the rest. Raises TelemetryError."""
        count = length = 0
        for record in waiting:
            length += record.size
            if count and length > spool.largest:
                break
            count += 1
        batch, rest = waiting[:count], waiting[count:]
        if len(batch[0].payload) > spool.largest:
            self._lose(TOO_LARGE_CAUSE, batch[0])
        else:
            spool.put(batch)
        for record in batch:
            self._forget(record.id)
        return rest

    def _to_memory(self, records: list[Record]) -> None:
        for record in records:
            self._ring[record.id] = record
            self._ring_size += record.size
        while self._ring_size > self._memory:
            oldest = next(iter(self._ring.values()))
            self._forget(oldest.id)
            self._lose(MEMORY_CAUSE, oldest)

    def _forget(self, record_id: RecordId) -> bool:
        record = self._ring.pop(record_id, None)
        self._ring_size -= record.size if record else 0
        return record is not None

    def _hand_over_losses(self, spool: Spool) -> None:
        for cause, loss in self._losses.items():
            spool.count_loss(cause, loss.records, loss.items)
        self._losses.clear()

    def _tell(self) -> None:
        total = self._spool.losses if self._spool else {}
        for cause, loss in self._losses.items():
            total[cause] = total.get(cause, Loss()) + loss
        self._told = total

    def _lose(self, cause: str, record: Record) -> None:
        self._losses[cause] = self._losses.get(cause, Loss()) + Loss(1, record.items)

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.close()
