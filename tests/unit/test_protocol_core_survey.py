"""What an operator's look at a path finds: round trips and the path's size, without a change of what the node goes by."""

import dataclasses
from typing import Any

import pytest
from test_protocol_core_keepalive import ADDRESSES, IDENTITIES, connected

from pqvpn.protocol import survey
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Activity, Effect, MoveEndpoint, PathSurvey, SendFrame, SetPathMtu, Surveyed, Tell
from pqvpn.protocol.pmtu import FLOOR
from pqvpn.wire.address import Address
from pqvpn.wire.control import CloseReason, MtuProbe, PathChallenge, parse_frame

BETA = IDENTITIES[1].card().peer_id
ONE_WAY = 0.02
T0 = 110.0


class World:
    """Two cores on a virtual network that carries frames of up to `limit` bytes, or none."""

    def __init__(self) -> None:
        ours, theirs, self.slots = connected(None)
        self.cores = (ours, theirs)
        self.now, self.limit, self.silent, self.one_way = T0, 1432, False, ONE_WAY
        self.flying: list[tuple[float, int, SendFrame]] = []
        self.sent: list[Any] = []
        self.others: list[Effect] = []
        self.found: list[PathSurvey | None] = []
        self.until(3.0)  # what the handshake began, the first path search, is over
        self.sent.clear()
        self.others.clear()

    def take(self, number: int, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, SendFrame):
                frame = parse_frame(effect.body.ljust(max(effect.pad_to, 24), b"\0"))
                self.sent += [frame] if number == 0 else []
                if not self.silent and max(effect.pad_to, 24) <= self.limit:
                    self.flying.append((self.now + self.one_way, 1 - number, effect))
            elif isinstance(effect, Surveyed):
                self.found.append(effect.found)
            elif number == 0:
                self.others.append(effect)

    def until(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            times = [self.cores[n].deadline() or end for n in (0, 1)] + [each[0] for each in self.flying]
            self.now = max(self.now + 0.001, min(*times, end))
            arrived = [each for each in self.flying if each[0] <= self.now]
            self.flying = [each for each in self.flying if each[0] > self.now]
            for _, number, frame in arrived:
                body, source = frame.body.ljust(max(frame.pad_to, 24), b"\0"), ADDRESSES[1 - number]
                self.take(number, self.cores[number].control_frame(frame.slot, body, source, None, self.now))
            for number, core in enumerate(self.cores):
                if (core.deadline() or end) <= self.now:
                    self.take(number, core.tick(self.now))

    def survey(self, seconds: float = survey.LASTS + 1.0) -> PathSurvey:
        self.take(0, self.cores[0].survey(BETA, self.now))
        self.until(seconds)
        (found,) = self.found
        assert found is not None
        return found


@pytest.fixture
def world() -> World:
    return World()


def shown(core: Core, now: float) -> dict[str, Any]:
    """What the node goes by."""
    (view,) = core.peers(now)
    told = dataclasses.asdict(view)
    for moving in ("last_received", "rtt"):
        told.pop(moving)
    return told


def test_a_wide_path_answers_every_challenge_and_carries_everything(world: World) -> None:
    before = shown(world.cores[0], world.now)
    found = world.survey(1.0)
    assert found.endpoint == ADDRESSES[1]
    assert found.rtts == pytest.approx([2 * ONE_WAY] * survey.CHALLENGES, abs=0.002)
    assert (found.size, found.largest, found.top, found.finished) == (1432, 1432, 1432, True)
    assert shown(world.cores[0], world.now) == before
    assert world.others == []


@pytest.mark.parametrize("limit", [1300, FLOOR])
def test_a_path_that_narrowed_is_measured_and_the_size_in_use_is_left_to_the_session(world: World, limit: int) -> None:
    world.limit = limit
    before = shown(world.cores[0], world.now)
    found = world.survey()
    assert found.finished
    assert found.size is not None
    assert limit - 16 < found.size <= limit
    assert shown(world.cores[0], world.now) == before
    assert not any(isinstance(effect, SetPathMtu | Tell | MoveEndpoint) for effect in world.others)


def test_probes_do_not_pass_at_all(world: World) -> None:
    world.limit = 100
    found = world.survey()
    assert len(found.rtts) == survey.CHALLENGES
    assert (found.size, found.largest, found.finished) == (None, 0, True)


def test_silence_gets_a_few_small_packets_and_nothing_else(world: World) -> None:
    world.silent = True
    before = shown(world.cores[0], world.now)
    found = world.survey()
    assert (found.sent, found.rtts, found.size) == (survey.CHALLENGES, (), None)
    assert [type(frame) for frame in world.sent] == [PathChallenge] * survey.CHALLENGES
    assert shown(world.cores[0], world.now) == before, "no unanswered probe, no breaker, no size"


def test_it_is_bounded_in_time_and_packets_and_only_one_at_a_time(world: World) -> None:
    world.limit = 1300
    for _ in range(3):
        world.take(0, world.cores[0].survey(BETA, world.now))
    world.until(survey.LASTS + 0.1)
    assert len(world.found) == 1
    assert sum(isinstance(frame, PathChallenge) for frame in world.sent) == survey.CHALLENGES
    assert sum(isinstance(frame, MtuProbe) for frame in world.sent) < 64, "the peer acknowledges that many at once"


def test_a_search_that_takes_too_long_is_cut_short_and_says_so(world: World) -> None:
    world.limit, world.one_way = 1300, 0.2
    found = world.survey(survey.LASTS + 0.05)
    assert (found.size, found.finished) == (None, False)
    assert FLOOR <= found.largest <= 1300


def test_the_sessions_own_search_and_challenges_go_on_meanwhile(world: World) -> None:
    """Data moves: the session measures its round trip and confirms its size while the survey runs."""
    ours, (slot,) = world.cores[0], world.slots[:1]
    ours.observe(slot, Activity(world.now, world.now, world.now, world.now), world.now)
    found = world.survey()
    assert found.size == 1432
    numbers = [frame.id for frame in world.sent if isinstance(frame, MtuProbe)]
    assert len(numbers) == len(set(numbers)) > 2, "no acknowledgement can be taken for one of the other search"
    challenges = sum(isinstance(frame, PathChallenge) for frame in world.sent)
    assert challenges > survey.CHALLENGES
    (view,) = ours.peers(world.now)
    assert (view.probes_unanswered, view.path_mtu) == (0, 1432)
    assert view.probe_answered is not None


def test_only_the_address_that_was_challenged_counts(world: World) -> None:
    ours, slot = world.cores[0], world.slots[0]
    world.silent = True
    world.take(0, ours.survey(BETA, world.now))
    (challenge,) = world.sent
    body = b"\x02" + challenge.nonce
    world.take(0, ours.control_frame(slot, body, Address.parse("198.51.100.9:1"), None, world.now + 0.01))
    world.until(4.0)
    (found,) = world.found
    assert found is not None
    assert found.rtts == ()


def test_without_a_session_there_is_nothing_to_look_on(world: World) -> None:
    assert world.cores[0].survey(b"x" * 32, world.now) == [Surveyed(b"x" * 32, None)]
    world.silent = True
    world.take(0, world.cores[0].survey(BETA, world.now))
    for slot in world.slots:
        body = bytes((3, CloseReason.SHUTDOWN))
        world.take(0, world.cores[0].control_frame(slot, body, ADDRESSES[1], None, world.now + 0.01))
    world.until(1.0)
    (found,) = world.found
    assert found is not None
    assert not found.finished
    assert world.cores[0].survey(BETA, world.now) == [Surveyed(BETA, None)]
