"""The spool against a model: whatever is appended, sent, dropped, torn, aged and opened again in whatever order."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pqvpn.telemetry.spool import Kind, Loss, Reader, RecordId, Spool

SIZE = 400_000
AGE = 1000.0
KINDS = st.sampled_from(list(Kind))
LENGTHS = st.sampled_from([0, 1, 100, 3000, 9000, 20_000])


class SpoolModel(RuleBasedStateMachine):
    """`known`: (id, items) of all that was acknowledged, in order. `sent`: how many of them were told to be sent."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.wall, self.up = 10**18, 0.0
        self.known: list[tuple[RecordId, int]] = []
        self.sent = 0
        self.refused = Loss()
        self.open()

    def open(self) -> None:
        self.spool = Spool(self.root / "spool", SIZE, AGE, clock=lambda: self.wall, now=lambda: self.up)

    def teardown(self) -> None:
        with contextlib.suppress(AttributeError):
            self.spool.close()
            shutil.rmtree(self.root)

    @rule(batch=st.lists(st.tuples(KINDS, LENGTHS, st.integers(0, 9)), min_size=1, max_size=6))
    def append(self, batch: list[tuple[Kind, int, int]]) -> None:
        ids = self.spool.append_many([(kind, b"x" * length, items) for kind, length, items in batch])
        self.known += [(record_id, items) for record_id, (_, _, items) in zip(ids, batch, strict=True)]

    @rule(count=st.integers(1, 5))
    def send(self, count: int) -> None:
        for record, _ in zip(self.spool.unsent(), range(count), strict=False):
            self.spool.sent(record.id)
            self.sent = self.place(record.id) + 1

    @rule()
    def refuse(self) -> None:
        record = next(self.spool.unsent(), None)
        if record:
            self.spool.drop(record.id, "refused", record.items)
            self.refused += Loss(1, record.items)
            self.sent = self.place(record.id) + 1

    @rule(seconds=st.sampled_from([1.0, 50.0, 400.0, 1500.0]))
    def pass_time(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)
        self.up += seconds
        self.spool.tidy()

    @rule(tail=st.sampled_from([b"", b"\0" * 50, b"\xabREC" + b"\xff" * 60, b"\xabREC"]))
    def crash(self, tail: bytes) -> None:
        """The process ends without a word, within a write."""
        self.spool.close()
        segments = sorted((self.root / "spool").glob("*.seg"))
        if segments and tail:
            with segments[-1].open("ab") as file:
                file.write(tail)
        self.open()

    @precondition(lambda self: self.sent)
    @rule()
    def lose_the_cursor(self) -> None:
        """What is there is sent again; losses are forgotten with it."""
        self.spool.close()
        (self.root / "spool" / "sent.json").unlink(missing_ok=True)
        self.open()
        first = next(self.spool.unsent(), None)
        held = self.place(first.id) if first else len(self.known)
        self.known = self.known[held:]
        self.sent, self.refused = 0, Loss()

    def place(self, record_id: RecordId) -> int:
        return next(n for n, (known, _) in enumerate(self.known) if known == record_id)

    @invariant()
    def what_is_not_lost_is_there_in_order(self) -> None:
        unsent = [(record.id, record.items) for record in self.spool.unsent()]
        assert unsent == self.known[len(self.known) - len(unsent) :]
        losses = self.spool.losses
        lost = losses.get("size", Loss()) + losses.get("age", Loss())
        gone = self.known[self.sent : len(self.known) - len(unsent)]
        # what was dropped unsent is counted; what `sent` passed over since has been counted before
        assert lost.records >= len(gone)
        assert losses.get("refused", Loss()) == self.refused
        assert set(losses) <= {"size", "age", "refused"}

    @invariant()
    def it_says_what_waits(self) -> None:
        unsent = list(self.spool.unsent())
        backlog = self.spool.backlog()
        assert (backlog.records, backlog.items) == (len(unsent), sum(record.items for record in unsent))
        assert backlog.bytes == sum(record.size for record in unsent)
        assert backlog.oldest_ns <= (unsent[0].time_ns if unsent else 0)

    @invariant()
    def it_keeps_within_its_budget_and_readers_agree(self) -> None:
        files = [path for path in (self.root / "spool").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= SIZE
        reader = Reader(self.root / "spool")
        read = [found.record.id for sequence in reader.sequences() for found in reader.records(sequence)]
        known = [record_id for record_id, _ in self.known]
        assert read[-len(known) :] == known[-len(read) :] or not read or not known


TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
