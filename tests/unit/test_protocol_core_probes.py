"""Whether a peer is reached: challenges on the path in use, for as long as somebody waits for an answer."""

from test_protocol_core_keepalive import ADDRESSES, connected

from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Activity, SendFrame
from pqvpn.protocol.settings import Timers
from pqvpn.wire.control import PathChallenge, PathResponse, parse_frame

T = Timers()


def run(core: Core, begin: float, seconds: float) -> list[tuple[float, bytes]]:
    """Let time pass; when each challenge left, and its nonce."""
    now, end, sent = begin, begin + seconds, []
    while (due := max(core.deadline() or end, now + 0.01)) < end:
        now = due
        for effect in core.tick(now):
            frame = parse_frame(effect.body.ljust(40, b"\0")) if isinstance(effect, SendFrame) else None
            if isinstance(frame, PathChallenge):
                sent.append((now, frame.nonce))
    return sent


def probes(core: Core, now: float) -> tuple[float | None, int]:
    (view,) = core.peers(now)
    return view.probe_answered, view.probes_unanswered


def test_an_idle_session_is_left_in_peace() -> None:
    ours, _, _ = connected(None)
    assert run(ours, 101.0, 60.0) == []
    assert probes(ours, 161.0) == (None, 0)


def test_data_without_an_answer_is_followed_by_probes_until_one_is_answered() -> None:
    ours, _, slots = connected(None)
    (slot,) = slots[:1]
    ours.observe(slot, Activity(received=100.2, sent=101.0, data_sent=101.0), 101.2)  # one packet, and no more
    sent = run(ours, 101.2, 30.0)
    assert len(sent) >= 5
    assert probes(ours, 131.2)[1] >= 4
    _, nonce = run(ours, 131.2, T.rtt_interval + 1.0)[-1]
    ours.control_frame(slot, PathResponse(nonce).encode(), ADDRESSES[1], None, 137.5)
    assert probes(ours, 137.5) == (137.5, 0)
    assert run(ours, 137.6, 20.0) == [], "and then it is left in peace again"


def test_packets_of_the_peer_are_no_answer_to_a_probe() -> None:
    ours, _, slots = connected(None)
    (slot,) = slots[:1]
    now = 101.0
    while now < 131.0:
        ours.observe(slot, Activity(now, now, now, 100.5), now)
        run(ours, now, 1.0)
        now += 1.0
    assert ours.peers(now)[0].state == "up"
    answered, unanswered = probes(ours, now)
    assert answered is None
    assert unanswered >= 4
