"""What can be wrong with one peer: a function for each line of the table in `rules.py`.

Owns what counts as evidence for a cause, and its words. Nearly all of it is unauthenticated (anybody can send from
anywhere, ICMP included), so it is told as what was seen, never as what is. Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from pqvpn.diag import words
from pqvpn.diag.knowledge import Knowledge, Peer, texts
from pqvpn.diag.records import Event, latest, named
from pqvpn.diag.verdicts import Finding, Severity
from pqvpn.reasons import Reason

_FRESH = 300.0
"""Seconds: evidence about a peer that nobody wants to reach counts for so long."""
_PACKETS = 120.0
_ICMP_AGAIN = 12.0  # what goes on is told every 10 s
_CALLERS = {"mac1": "MAC1 (another network key, or an old card of this node)", "version": "another protocol version"}

PeerRule = Callable[[Knowledge, Peer], Iterable[Finding]]


def refused(drop: str, seen: str, *, named: bool | None = None) -> PeerRule:
    """Handshake messages that came from the peer's address, or said that they are the peer's, were refused so."""

    def rule(known: Knowledge, peer: Peer) -> Iterator[Finding]:
        found = peer.evidence("handshake.refused", drop=drop)
        if named is not None:
            found = [event for event in found if bool(event.fields.get("named")) is named]
        if found and _disconnected(known, peer, found):
            yield _finding(known, peer, f"{seen.format(peer=peer.name)} ({_tally(known, found)})")

    return rule


def version(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """The peer speaks another version, as caller or in its answers."""
    found = [
        *peer.evidence("handshake.refused", drop="version"),
        *peer.evidence("handshake.answer_refused", drop="version"),
    ]
    if found and _disconnected(known, peer, found):
        ours = str(known.status.get("version") or "")
        ours = f"; here runs {ours}" if ours else ""
        yield _finding(
            known, peer, f"datagrams from {peer.name}'s address carry another version ({_tally(known, found)}{ours})"
        )


def policy(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """One side arms the degraded mode and the other does not."""
    refusals = peer.evidence("handshake.refused", drop="policy_mismatch")
    refusals += peer.evidence("handshake.answer_refused", drop="policy_mismatch")
    if (refusals or peer.reason == Reason.POLICY_REFUSED.code) and _disconnected(known, peer, refusals):
        seen = [f"handshakes were refused for their policy ({_tally(known, refusals)})"] if refusals else []
        yield _finding(known, peer, *seen)


def icmp(*kinds: str) -> PeerRule:
    """The network says that what we send to the peer does not arrive, with one of these kinds of message."""

    def rule(known: Knowledge, peer: Peer) -> Iterator[Finding]:
        found = [event for event in peer.evidence("network.icmp") if event.text("kind") in kinds]
        if found and not _heard_after(peer, found[-1].time) and _disconnected(known, peer, found):
            said = " and ".join(sorted({event.text("kind").replace("_", " ") for event in found}))
            text = f'the network says "{said}" for {peer.endpoint} ({_tally(known, found)}; ICMP, not authenticated)'
            yield _finding(known, peer, text)

    return rule


def _heard_after(peer: Peer, time: float) -> bool:
    """Whether datagrams came from the peer's address well after that: what the network said is over."""
    heard = ("handshake.refused", "handshake.answer_refused", "handshake.fragments_lost")
    return any(event.time > time + _ICMP_AGAIN for event in named(peer.recent, *heard))


def fragments(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """Only a part of the peer's handshake messages arrives."""
    found = peer.evidence("handshake.fragments_lost")
    if found and _disconnected(known, peer, found):
        last = found[-1]
        what = "answers" if last.text("message") == "m2" else "calls"
        have, want = last.number("have"), last.number("want")
        text = f"of {peer.name}'s {what} only {have:.0f} of {want:.0f} datagrams arrived ({_tally(known, found)})"
        yield _finding(known, peer, text)


def dns(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """The last look-up of the peer's name failed."""
    found = latest(peer.events, "resolver.failed", "resolver.resolved", "problem")
    if found is None or found.name == "resolver.resolved" or not _is_dns(found):
        return
    kept = found.number("kept")
    stays = f"; {words.plural(int(kept), 'earlier address')} in use" if kept else ""
    host = found.text("host")
    what = f"{host + ': ' if host else ''}{found.text('detail') or 'the look-up failed'}"
    seen = f"{what} (last told {_when(known, found.time)}{stays})"
    connected = peer.up or (kept > 0 and peer.state == "up")
    since = found.time if connected else (peer.down_since or found.time)
    evidence = (seen,) if connected else (seen, *_context(known, peer))
    yield Finding(evidence, since, severity=Severity.WARNING if connected else None)


def _is_dns(event: Event) -> bool:
    return event.name == "resolver.failed" or event.text("reason") == Reason.DNS_FAILED.code


def no_endpoint(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """No address is known; the peer has to call. A fault only when packets for it are thrown away meanwhile."""
    if peer.up or peer.reason != Reason.NO_ENDPOINT.code:
        return
    wanted = sum(known.rising.get(drop, 0) for drop in ("no_endpoint", "no_session"))
    seen = [f"{wanted:.0f} packets were discarded for want of an address or session lately"] if wanted else []
    seen += [
        f"{known.rising[drop]:.0f} handshake datagrams from unknown addresses failed {what} lately"
        for drop, what in _CALLERS.items()
        if known.rising.get(drop, 0)
    ]
    yield Finding(tuple(seen), peer.down_since, severity=Severity.PROBLEM if seen else Severity.NOTE)


def keys_expired(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """Keys ended without successors while the peer was wanted; packets are discarded."""
    ended = latest(peer.events, "session.ended", "handshake.completed")
    expired = ended is not None and ended.name == "session.ended" and ended.text("why") == "expired"
    if peer.up or not peer.wanted or not (expired or peer.reason == Reason.KEYS_EXPIRED.code):
        return
    seen = [f"the keys of session {ended.session_id[:8]} ended {_when(known, ended.time)}"] if ended and expired else []
    discarded = known.rising.get("keys_expired", 0)
    if discarded:
        seen.append(f"{discarded:.0f} packets were discarded for it lately (drops: keys_expired)")
    yield _finding(known, peer, *seen)


def bad_auth(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """Answers or calls that opened only in part, for a cause that no other line knows."""
    found = peer.evidence("handshake.answer_refused")
    drops = ("decapsulation", "biscuit", "stale_handshake", "bad_handshake")  # the last one says psk when it is named
    calls = [event for event in peer.evidence("handshake.refused") if event.text("drop") in drops]
    found += [event for event in calls if event.text("drop") != "bad_handshake" or not event.fields.get("named")]
    if (found or peer.reason == Reason.BAD_AUTH.code) and _disconnected(known, peer, found):
        kinds = words.listed(sorted({event.text("drop") for event in found}))
        yield _finding(
            known, peer, *([f"handshake messages were refused: {kinds} ({_tally(known, found)})"] if found else [])
        )


def no_reply(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """Handshakes get no answer at all."""
    if not peer.up and peer.reason == Reason.NO_REPLY.code:
        yield _finding(known, peer)


def stale(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """There is a session, and what is sent on it is not answered."""
    if peer.state == "stale":
        yield _finding(known, peer)


def idle(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """Nobody wants a session."""
    if peer.idle:
        yield Finding((), peer.down_since)


def other(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """Any other reason that the node itself gives for a peer that is not connected."""
    told = next((reason for reason in Reason if reason.code == peer.reason), None)
    if told not in (None, Reason.KEYS_EXPIRED) and not peer.up and peer.state:
        yield Finding(tuple(_context(known, peer)), peer.down_since, reason=told)


def path_mtu(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """The path carries less than the session would allow."""
    changed = latest(peer.events, "path.mtu")
    session = str(peer.status.get("session_id") or "")
    if changed is None or (session and changed.session_id and session != changed.session_id):
        return
    size, largest = changed.number("after"), changed.number("largest")
    if not peer.state or peer.state == "down" or size >= largest:
        return
    seen = [f"packets of {largest:.0f} bytes do not come back, {size:.0f} do (found by authenticated probes)"]
    too_big = known.rising.get("too_big", 0)
    if too_big:
        seen.append(f"{too_big:.0f} larger packets were refused or cut lately (drops: too_big)")
    if peer.evidence("network.icmp", kind="too_big"):
        seen.append("routers on the way say so too (ICMP too big, not authenticated)")
    yield Finding(tuple(seen), changed.time)


def allowed_ips(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """The peer sends from inner addresses that are not in its allowed IPs here."""
    found = [e for e in named(peer.events, "inner.refused") if e.text("drop") == "source_not_allowed"]
    recent = [event for event in found if event.time >= known.at - _PACKETS]
    if not recent:
        return
    here = words.listed(texts(peer.status.get("allowed_ips")))
    text = f"packets from {peer.name} have a source outside its allowed_ips ({_tally(known, recent)})"
    seen = [text] + ([f"allowed_ips of {peer.name} here: {here}"] if here else [])
    text = f"{peer.name} sends from inner addresses that are not in its allowed_ips here; its packets are dropped"
    yield Finding(tuple(seen), found[0].time, text)


def degraded(known: Knowledge, peer: Peer) -> Iterator[Finding]:
    """The session is readable on the way."""
    if peer.status.get("security") == "auth-plaintext":
        yield Finding((f"what is sent to {peer.name} can be read by anybody on the way (auth-plaintext)",))


# -- shared by all -----------------------------------------------------------------------------------------------------


def _disconnected(known: Knowledge, peer: Peer, found: Sequence[Event]) -> bool:
    """Whether evidence explains anything: the peer is not connected, and it is not long past where nobody tries."""
    if peer.up:
        return False
    if peer.reason in (Reason.IDLE.code, Reason.NO_ENDPOINT.code) or peer.state == "":
        return any(event.time >= known.at - _FRESH for event in found)
    return True


def _finding(known: Knowledge, peer: Peer, *seen: str) -> Finding:
    return Finding((*seen, *_context(known, peer)), peer.down_since)


def _context(known: Knowledge, peer: Peer) -> list[str]:
    """What stands beside any cause: what was tried, and the last sign of life."""
    told = []
    since = peer.down_since or 0.0
    tries = [event for event in named(peer.events, "handshake.started") if event.time >= since - 1.0]
    if tries:
        to = str(peer.status.get("endpoint") or tries[-1].text("endpoint") or peer.endpoint)
        count, newest = words.plural(len(tries), "handshake"), _when(known, tries[-1].time)
        told.append(f"{count} begun without success, the last {newest} to {to}")
    if peer.silent is not None:
        told.append(f"the last authenticated packet came {words.ago(peer.silent)}")
    elif peer.status and not any(named(peer.events, "handshake.completed")):
        told.append(f"no authenticated packet ever came since the start{_uptime(known)}")
    return told


def _uptime(known: Knowledge) -> str:
    uptime = known.node.get("uptime_seconds")
    return f" {words.ago(uptime)}" if isinstance(uptime, int | float) else ""


def _tally(known: Knowledge, found: Iterable[Event]) -> str:
    """How often, and when last."""
    events = list(found)
    if not events:
        return "not recorded"
    count = sum(max(1.0, event.number("count", 1.0)) for event in events)
    newest = max(event.time for event in events)
    if min(event.time for event in events) >= known.at - 60 and known.age < 60:
        return f"{count:.0f} in the last minute"
    return f"{words.times(count)}, last {_when(known, newest)}"


def _when(known: Knowledge, time: float) -> str:
    """A moment as seen from the question: "12 s ago"."""
    return words.ago(known.now - time)
