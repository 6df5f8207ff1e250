"""The breaker against a naive model that remembers every call, for any sequence of outcomes and waits."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from pqvpn.resilience.breaker import Breaker, BreakerOpenError, Policy, State

POLICY = Policy(window=10.0, minimum_calls=4, failure_rate=0.5, consecutive=3, open_for=4.0, open_longest=16.0)


@dataclass
class Model:
    """All calls, each with its time; no slices, so that only waits of whole windows compare exactly."""

    now: float = 0.0
    state: State = State.CLOSED
    calls: list[tuple[float, bool]] = field(default_factory=list)
    in_a_row: int = 0
    until: float = 0.0
    open_for: float = POLICY.open_for

    def admits(self) -> bool:
        if self.state is State.OPEN and self.now >= self.until:
            self.state = State.HALF_OPEN
        return self.state is not State.OPEN

    def call(self, worked: bool) -> None:
        if self.state is State.HALF_OPEN:
            self.open_for = POLICY.open_for if worked else min(2 * self.open_for, POLICY.open_longest)
            self._enter(State.CLOSED if worked else State.OPEN)
            return
        self.calls.append((self.now, worked))
        self.in_a_row = 0 if worked else self.in_a_row + 1
        recent = [ok for at, ok in self.calls if at > self.now - POLICY.window]
        bad = recent.count(False)
        rate = len(recent) >= POLICY.minimum_calls and bad >= POLICY.failure_rate * len(recent)
        if not worked and (self.in_a_row >= POLICY.consecutive or rate):
            self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self.state, self.calls, self.in_a_row = state, [], 0
        self.until = self.now + self.open_for
        if state is State.CLOSED:
            self.open_for = POLICY.open_for


@given(st.lists(st.one_of(st.booleans(), st.sampled_from([4.0, 8.0, 20.0]))))
def test_it_decides_as_the_model_does(steps: list[bool | float]) -> None:
    model = Model()
    breaker = Breaker("test", POLICY, lambda: model.now)
    for step in steps:
        if not isinstance(step, bool):
            # whole windows are forgotten by both alike; shorter waits leave the window of both as it is
            model.now += step
            if model.state is State.CLOSED and step < 2 * POLICY.window:
                model.now += 2 * POLICY.window - step
        try:
            permit = breaker.acquire()
        except BreakerOpenError:
            assert not model.admits()
            continue
        assert model.admits()
        worked = step if isinstance(step, bool) else True
        model.call(worked)
        (permit.succeeded if worked else permit.failed)()
        assert breaker.state is model.state


@given(st.lists(st.sampled_from(["acquire", "ok", "fail", "cancel", "wait"]), max_size=200))
def test_probes_are_never_more_than_allowed_and_memory_is_bounded(steps: list[str]) -> None:
    now = 0.0
    policy = Policy(window=5.0, minimum_calls=2, consecutive=2, open_for=1.0, open_longest=8.0, probes=2)
    breaker = Breaker("test", policy, lambda: now)
    out = []
    for step in steps:
        if step == "wait":
            now += 1.0
        elif step == "acquire":
            try:
                out.append(breaker.acquire())
            except BreakerOpenError:
                assert breaker.state is not State.CLOSED
        elif out:
            permit = out.pop()
            {"ok": permit.succeeded, "fail": permit.failed, "cancel": permit.abandoned}[step]()
        assert len(breaker._probing) <= policy.probes
        calls, failures = breaker.counts()
        assert 0 <= failures <= calls
