"""What a log line says in words, for each kind of fact.

Owns the sentences. They are made of fields that are redacted already; a field that is missing or hidden reads as it
stands there.
"""

from collections.abc import Mapping
from typing import Any

from pqvpn.reasons import Reason

_BY_CODE = {reason.code: reason.text for reason in Reason}

SENTENCES = {
    "handshake.started": "calling {peer} at {endpoint}",
    "handshake.sent": "{message} sent to {peer}, transmission {number}",
    "handshake.cookie": "{peer} asks for a cookie",
    "handshake.answered": "{peer} answered; the answer verifies",
    "handshake.answer_refused": "an answer of {peer} was refused: {drop}",
    "handshake.completed": "session with {peer} agreed, as {role}",
    "handshake.failed": "no session with {peer}: {why}",
    "handshake.abandoned": "the attempt to reach {peer} was given up without need: {why}",
    "handshake.refused": "a handshake that names {peer} or comes from its address was refused: {drop}",
    "handshake.fragments_lost": "{have} of {want} fragments of {message} of {peer} arrived",
    "session.ended": "session with {peer} ended: {why}",
    "peer.state": "{peer} is {state}, was {before}",
    "path.roamed": "{peer} moved to {endpoint}",
    "path.validated": "the path to {peer} is validated, {rtt} s there and back",
    "path.mtu": "the path to {peer} carries {after} bytes, before {before}",
    "network.icmp": "the network says of {peer}: {kind}",
    "inner.refused": "packets inside the session with {peer} were refused: {drop}",
    "resolver.resolved": "{host} has {addresses} addresses",
    "resolver.failed": "{host} of {peer} does not resolve: {detail}",
    "problem": "{why}: {detail}",
    "config.loaded": "configuration read, {peers} peers",
    "config.applied": "configuration applied: {changes}",
    "config.refused": "the new configuration has {errors} errors; nothing was changed",
    "node.started": "the node runs, {interface} is up",
    "node.upgraded": "the node runs version {after} now, before {before}",
    "node.stopped": "the node ended: {cause}",
    "process.ended": "{process} (pid {pid}) ended unexpectedly: {status}",
    "process.started": "{process} started with pid {pid}",
    "crash": "{process}: {error} ({kind})",
    "breaker.changed": "breaker {breaker} {key} is {state}, was {before}: {cause}",
    "retry.waiting": "{operation} {key} is tried again in {seconds} s, after {number} failures",
    "retry.ended": "{operation} {key} after {number} failures: {outcome}",
    "network.changed": "the network of this machine {cause}: what waits is tried now",
    "clock.jumped": "the wall clock jumped by {seconds} s",
    "health.changed": "{item} is {state}, was {before}: {why}",
    "health.acted": "{item}: {outcome}, {detail}",
    "log.level": "log level of {target} is {value}",
    "log": "{text}",
}
"""The sentence of each kind of fact. `{why}`: what the reason code means, in words."""


class _Known(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "?"


def sentence(event: str, fields: Mapping[str, Any]) -> str:
    """The message of one line; the event itself for a fact that has no sentence."""
    pattern = SENTENCES.get(event)
    if pattern is None:
        return event
    known = _Known({"detail": "", "key": "", **fields})
    if "why" not in known:
        known["why"] = _BY_CODE.get(str(fields.get("reason")), "")
    return pattern.format_map(known).strip(": ")
