"""What can be wrong with the node itself: a function for each line of the table in `rules.py`.

Owns what counts as evidence for a cause, and its words; a dead node's last words among them. Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pqvpn.diag import words
from pqvpn.diag.knowledge import Knowledge, mapping, mappings, texts
from pqvpn.diag.records import Event, as_number, named
from pqvpn.diag.verdicts import Finding, Severity
from pqvpn.reasons import Reason

_RESTARTS_WITHIN = 600.0
_OFTEN = 3
_JUMP_KNOWN_FOR = 3600.0
_RISING_LEAST = 5.0
_SETTLED = 10.0
_HARMLESS = ("telemetry.", "host.")  # the tunnel goes on without them
_DISK = ("telemetry.disk_full", "host.disk_low", "telemetry.spool_unwritable", "host.state_unwritable")


def stopped(known: Knowledge) -> Iterator[Finding]:
    """The node does not run, and ended on purpose or never ran."""
    if known.running is not False:
        return
    wrong, remedy = _cannot_start(known)
    text = "the node does not run"
    if not known.status and known.last("node.started", "node.stopped") is None:
        seen = "no record of it exists here: it never ran, or its state folder is elsewhere or empty"
        yield Finding((*wrong, seen), text=text, remedy=remedy)
    elif cause := _stop_cause(known):
        how = "by request (pqvpn down)" if cause == "request" else f"by {cause}"
        seen = f"its last words: stopped {how}{_ran(known)}"
        yield Finding((seen, *wrong, *_peers_then(known)), _stopped_at(known), text, remedy)


def _stop_cause(known: Knowledge) -> str:
    """Why it ended on purpose; empty when it did not."""
    last = known.last("node.started", "node.stopped")
    if last is None or last.name == "node.started":
        return known.stopped
    if known.begun > last.time:  # it was started again, and ended before its first record
        return ""
    return last.text("cause") or "a signal"


def killed(known: Knowledge) -> Iterator[Finding]:
    """The node does not run and never said goodbye."""
    never = not known.status and known.last("node.started", "node.stopped") is None
    if known.running is not False or never or _stop_cause(known):
        return
    seen = [f"it never said that it stops; its last sign of life is of {words.clock(known.at, known.now)}"]
    crash = next((e for e in reversed(known.within(60.0, "crash", "process.ended"))), None)
    if crash is not None:
        seen.append(_last_words(crash))
    text, remedy = "", ""
    if crash is not None and crash.name == "crash" and crash.text("process") == "supervisor":
        text = f"the node does not run: its supervisor crashed ({crash.text('error') or crash.text('kind')})"
        remedy = "start it: pqvpn up; where it happened: pqvpn diag crash last; report it with: pqvpn diag bundle"
    wrong, mend = _cannot_start(known)
    yield Finding((*seen, *wrong, *_peers_then(known)), known.at, text, mend or remedy)


def _cannot_start(known: Knowledge) -> tuple[tuple[str, ...], str]:
    """Evidence and remedy when the configuration would not let it start."""
    errors = known.configuration_errors
    if not errors:
        return (), ""
    count = words.plural(len(errors), "error")
    return (
        f"it could not start now: {count} in its configuration, the first: {errors[0]}",
    ), "run: pqvpn check; mend what it shows, then: pqvpn up"


def _stopped_at(known: Knowledge) -> float:
    last = known.last("node.started", "node.stopped")
    return last.time if last is not None and last.name == "node.stopped" else known.at


def _ran(known: Knowledge) -> str:
    end = _stopped_at(known)
    began = next((e for e in reversed(known.events) if e.name == "node.started" and e.time <= end), None)
    return f" after {words.age(end - began.time)}" if began else ""


def _peers_then(known: Knowledge) -> list[str]:
    states = [peer.state for peer in known.peers if peer.state]
    up = sum(state in ("up", "stale") for state in states)
    return [f"{up} of {words.plural(len(states), 'peer')} had a session then"] if states else []


def _last_words(event: Event) -> str:
    what = event.text("error") or event.text("status") or event.text("kind")
    where = f" at {event.text('place')}" if event.text("place") else ""
    return f"process {event.text('process') or event.component} ended: {what}{where}"


def forbidden(known: Knowledge) -> Iterator[Finding]:
    """Who asks may not ask the node, so that nothing of now is known."""
    if known.running is None and not known.bundle:
        remedy = "run it as root, or as the user that runs the node"
        yield Finding(known.notes[:1], text="this user may not ask the node", remedy=remedy)


def not_reporting(known: Knowledge) -> Iterator[Finding]:
    """The node runs, and control does not answer."""
    item = _item(known, "node.control")
    hangs = item.get("state") == "failing"
    if known.running and not known.answers:
        told = f"the node's lock is held, but its control socket did not answer within 1 s; last heard of {words.ago(known.age)}"
        yield Finding((told, *_item_evidence(item)), _item_since(item) or known.at)
    elif hangs and known.running is None:
        yield Finding(_item_evidence(item), _item_since(item))


def self_tests(known: Knowledge) -> Iterator[Finding]:
    """A primitive does not give its known answer."""
    tests = mapping(known.node.get("self_tests"))
    if tests.get("passed") is False:
        failed = words.listed(texts(tests.get("failed")))
        yield Finding((f"these fail: {failed}" if failed else "the node says so",))


def tun_gone(known: Knowledge) -> Iterator[Finding]:
    """The interface was deleted under the node."""
    if known.running is not False and known.interface.get("exists") is False:
        yield Finding((f"the kernel knows no interface {known.interface_name}",), _since(known, "tun.interface"))


def tun_down(known: Knowledge) -> Iterator[Finding]:
    """The interface is there, but not as the node made it."""
    seen = known.interface
    if known.running is False or not seen.get("exists"):
        return
    missing = texts(seen.get("missing"))
    if seen.get("up") is False:
        yield Finding((f"{known.interface_name} is down",), _since(known, "tun.interface"))
    elif missing and not seen.get("conflict"):
        yield Finding(
            (f"missing on {known.interface_name}: {words.listed(missing[:4])}",), _since(known, "tun.addresses")
        )


def address_conflict(known: Knowledge) -> Iterator[Finding]:
    """Another interface has what is ours."""
    if known.running is not False and known.interface.get("conflict"):
        yield Finding((str(known.interface["conflict"]),), _since(known, "tun.conflict"))


def child_restarting(known: Knowledge) -> Iterator[Finding]:
    """A process of the node ends again and again; once or twice is a warning."""
    ends = [e for e in known.within(_RESTARTS_WITHIN, "process.ended") if e.text("process")]
    for name in sorted({event.text("process") for event in ends}):
        own = [event for event in ends if event.text("process") == name]
        how = words.listed(sorted({event.text("status") or "?" for event in own}))
        newest = words.ago(known.now - own[-1].time)
        seen = [f"{name} ended {words.times(len(own))} within {words.age(_RESTARTS_WITHIN)}: {how}; last {newest}"]
        crash = next((e for e in reversed(known.within(_RESTARTS_WITHIN, "crash")) if e.text("process") == name), None)
        if crash is not None:
            seen.append(_last_words(crash))
        often = len(own) >= _OFTEN
        yield Finding(
            tuple(seen),
            own[0].time,
            text=f"process {name} ends again and again"
            if often
            else f"process {name} ended unexpectedly and was replaced",
            reason=Reason.CHILD_RESTARTING if often else Reason.CHILD_DIED,
            severity=Severity.PROBLEM if often else Severity.WARNING,
        )


def disk(known: Knowledge) -> Iterator[Finding]:
    """There is no room for records."""
    yield from _items(known, lambda code: code in _DISK)


def collector(known: Knowledge) -> Iterator[Finding]:
    """Records wait on disk because the OTLP endpoint does not take them."""
    yield from _items(known, lambda code: code.startswith("telemetry.collector_"))
    reason = _reason(known.export.get("reason"))
    if reason is not None and known.running is not False:
        waiting = known.export.get("waiting") or known.export.get("unsent")
        seen = (f"{waiting} batches wait on disk; nothing is lost while there is room",) if waiting else ()
        yield Finding(seen, words.moment(known.export.get("since")), reason=reason)


def health(known: Knowledge) -> Iterator[Finding]:
    """Whatever else a health check says: each with its own code."""
    yield from _items(known, lambda _: True)


def _items(known: Knowledge, wanted: Any) -> Iterator[Finding]:
    if known.running is False:
        return
    for item in known.health:
        reason = _reason(item.get("code"))
        bad = item.get("state") in ("warning", "failing") and not item.get("suppressed_by")
        if not bad or item.get("item") == "peer" or reason in (None, Reason.CLOCK_JUMPED) or not wanted(reason.code):
            continue
        harms = item.get("state") == "failing" and not reason.code.startswith(_HARMLESS)
        severity = Severity.PROBLEM if harms else Severity.WARNING
        yield Finding(_item_evidence(item), _item_since(item), severity=severity, reason=reason)


def observer(known: Knowledge) -> Iterator[Finding]:
    """The node answers and its observer does not: what it would say of health and of the interface is missing."""
    parts = {str(each.get("component")) for each in mappings(known.status.get("processes"))}
    settled = as_number(known.node.get("uptime_seconds")) > _SETTLED
    if known.answers and not known.observed and "observer" in parts and settled:
        seen = (
            f"its last word is of {words.ago(known.now - known.written)}" if known.written else "it never said anything"
        )
        yield Finding((f"{seen}; the interface, the disk and the processes were not checked",), known.written or None)


def no_route(known: Knowledge) -> Iterator[Finding]:
    """Local programs send to inner addresses that nobody has."""
    count = known.rising.get("no_route", 0)
    if count >= _RISING_LEAST:
        seen = f"{count:.0f} packets for {known.interface_name} were discarded lately (drops: no_route)"
        yield Finding(
            (seen,),
            text="packets are sent into the tunnel for addresses that no peer has",
            remedy="add the addresses to allowed_ips of the peer that has them, and reload; or stop sending there",
        )


def strangers(known: Knowledge) -> Iterator[Finding]:
    """Calls that fit nobody: a hint when a peer that must call first does not get through."""
    count = known.rising.get("mac1", 0)
    if count < _RISING_LEAST or any(named(known.events, "handshake.refused")):
        return
    yield Finding(
        (f"{count:.0f} handshake datagrams failed MAC1 lately, from addresses that are no peer's",),
        text="somebody calls with another network key, or with an old card of this node",
        severity=Severity.NOTE,
    )


def config_refused(known: Knowledge) -> Iterator[Finding]:
    """The last reload was refused: what the file says is not what is in force."""
    last = known.last("config.refused", "config.applied", "config.loaded", "node.started")
    if last is not None and last.name == "config.refused":
        errors = words.plural(int(last.number("errors", 1)), "error")
        seen = f"the last reload was refused with {errors}; the former configuration is in force"
        yield Finding((seen,), last.time, remedy="run: pqvpn check", reason=_reason(last.text("reason")))


def clock(known: Knowledge) -> Iterator[Finding]:
    """The wall clock jumped: told so that nobody looks for the cause there."""
    jumps = known.within(_JUMP_KNOWN_FOR, "clock.jumped")
    if jumps:
        last = jumps[-1]
        ahead = "ahead" if last.number("seconds") > 0 else "back"
        seen = f"it went {ahead} by {words.duration(abs(last.number('seconds')))} {words.ago(known.now - last.time)}"
        yield Finding((seen,), last.time)


# -- health items ------------------------------------------------------------------------------------------------------


def _item(known: Knowledge, code: str) -> Mapping[str, Any]:
    return next((item for item in mappings(known.health) if item.get("item") == code), {})


def _since(known: Knowledge, code: str) -> float | None:
    item = _item(known, code)
    return None if item.get("state") == "ok" else _item_since(item)


def _item_since(item: Mapping[str, Any]) -> float | None:
    return words.moment(item.get("since"))


def _item_evidence(item: Mapping[str, Any]) -> tuple[str, ...]:
    told = item.get("evidence") or item.get("detail")
    return (told,) if isinstance(told, str) else texts(told)


def _reason(told: Any) -> Reason | None:
    """A reason by its code, or by an object that has one."""
    code = mapping(told).get("code") if isinstance(told, Mapping) else told
    return next((reason for reason in Reason if reason.code == code), None)
