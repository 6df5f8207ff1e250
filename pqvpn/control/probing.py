"""What the network allows now: one round of probes for `pqvpn diag net`, as plain data (docs/architecture.md).

Owns the round and its bounds: one at a time, the next no sooner than `APART` after it, and who asks meanwhile gets what
was found. So it cannot be made to send more than a few datagrams a second to each peer, and to none without a session.
Sessions, sizes in use, breakers and waits are not touched (`protocol/survey.py`, `lookups.py`).
"""

import asyncio
from typing import TYPE_CHECKING, Any

from pqvpn.control import resolver
from pqvpn.control.lookups import Lookups
from pqvpn.drops import DropReason
from pqvpn.host import ways
from pqvpn.host.clock import now
from pqvpn.protocol import survey
from pqvpn.protocol.effects import PathSurvey, Surveyed
from pqvpn.protocol.views import PeerView
from pqvpn.wire.address import Address

if TYPE_CHECKING:
    from pqvpn.control.process import ControlProcess

LASTS = 8.0
"""Seconds that a round takes at most."""
APART = 5.0
SIDE_BY_SIDE = 16
"""Peers at a time: they share the way out of here, and a burst of all at once would find itself in the way."""
_ELSEWHERE = {"ipv4": bytes((198, 51, 100, 1)), "ipv6": bytes.fromhex("20010db8") + bytes(11) + b"\1"}
"""Addresses of nobody (RFC 5737, 3849): is there a way to what is not near? Nothing is sent there."""
_HEADERS = {4: 40 + 28, 16: 40 + 48}
"""Bytes around an inner packet by the length of the outer address: overhead, UDP, IP."""


class Probing:
    """Of one control process."""

    def __init__(self, process: "ControlProcess") -> None:
        self._process = process
        self._lookups = Lookups()
        self._round: asyncio.Task[dict[str, Any]] | None = None
        self._ended = float("-inf")
        self._asked: dict[bytes, asyncio.Future[PathSurvey | None]] = {}
        self._icmp: dict[Address, dict[str, int]] = {}  # of the round under way: how often each kind came

    async def ask(self) -> dict[str, Any]:
        """What the round finds that is under way, was a moment ago, or begins now."""
        known = self._round
        failed = known is not None and known.done() and (known.cancelled() or known.exception() is not None)
        if known is None or failed or (known.done() and now() >= self._ended + APART):
            known = self._round = asyncio.create_task(self._probe(), name="probe")
        found = await asyncio.shield(known)
        return found | {"age_seconds": round(now() - self._ended, 3)}

    def surveyed(self, told: Surveyed) -> None:
        """The core's answer about one peer."""
        asked = self._asked.get(told.peer_id)
        if asked is not None and not asked.done():
            asked.set_result(told.found)

    def icmp(self, kind: str, to: Address) -> None:
        """The network says something of what we sent; it is kept where it is about a peer's address."""
        if self._round is not None and not self._round.done() and to in self._icmp:
            self._icmp[to][kind] = self._icmp[to].get(kind, 0) + 1

    async def _probe(self) -> dict[str, Any]:
        began, refused = now(), self._refused()
        looking = asyncio.create_task(self._lookups.ask(self._names()), name="look-ups")
        views = self._process.core.peers(began)
        self._icmp = {view.endpoint: {} for view in views if view.endpoint is not None}
        found = await self._survey([view.peer_id for view in views if view.session is not None])
        dns = await looking
        views = self._process.core.peers(now())  # a reload may have changed them
        mark = ways.mark_of(self._process.udp)
        result = {
            "families": [self._family(name, ip, mark) for name, ip in _ELSEWHERE.items()],
            "refused": self._refused() - refused,
            "peers": [self._peer(view, found.get(view.peer_id), mark) for view in views],
            "dns": dns,
            "seconds": round(now() - began, 3),
        }
        self._ended = now()
        return result

    async def _survey(self, peers: list[bytes]) -> dict[bytes, PathSurvey]:
        """What was found of these peers; those that the time was too short for are missing."""
        room = asyncio.Semaphore(SIDE_BY_SIDE)
        tasks = {asyncio.create_task(self._survey_one(peer, room)): peer for peer in peers}
        if not tasks:
            return {}
        done, late = await asyncio.wait(tasks, timeout=LASTS)
        for task in late:
            task.cancel()
        found = {tasks[task]: task.result() for task in done}
        return {peer: survey for peer, survey in found.items() if survey is not None}

    async def _survey_one(self, peer: bytes, room: asyncio.Semaphore) -> PathSurvey | None:
        process = self._process
        async with room:
            asked = self._asked[peer] = asyncio.get_running_loop().create_future()
            try:
                process.do(lambda: process.core.survey(peer, now()), process.whose.peer(peer))
                return await asyncio.wait_for(asked, survey.LASTS + 1.0)
            except TimeoutError:  # the peer was removed meanwhile
                return None
            finally:
                self._asked.pop(peer, None)

    def _names(self) -> list[tuple[str, str, int]]:
        specs = self._process.peers.values()
        found = [(spec.name, *resolver.split(e)) for spec in specs for e in spec.endpoints if not resolver.literal(e)]
        return list(dict.fromkeys(found))

    def _refused(self) -> int:
        """Datagrams that this machine's kernel did not take, by lanes and control."""
        process = self._process
        return int(process.counters.drops()[DropReason.UDP_SEND] + process.core.drops[DropReason.UDP_SEND])

    def _family(self, name: str, ip: bytes, mark: int) -> dict[str, Any]:
        able = name == "ipv4" or self._process.start.ipv6
        way = ways.to(ip, mark)
        return {"family": name, "able": able, "route": None if way is None else not way.error, "error": _error(way)}

    def _peer(self, view: PeerView, found: PathSurvey | None, mark: int) -> dict[str, Any]:
        endpoint = found.endpoint if found is not None and found.endpoint is not None else view.endpoint
        way = ways.to(endpoint.ip, mark) if endpoint is not None else None
        source = (found.source if found is not None else None) or (way.source if way is not None else None)
        looked = found or PathSurvey()
        icmp = self._icmp.get(endpoint, {}) if endpoint is not None else {}
        size, rtts = looked.size, [round(1000 * rtt, 3) for rtt in looked.rtts]
        return {
            "name": view.name,
            "state": view.state.value,
            "endpoint": None if endpoint is None else str(endpoint),
            "route": None if way is None else not way.error,
            "error": _error(way),
            "interface": way.interface or None if way is not None else None,
            "source": None if source is None else Address.of(source, 0).host(),
            "translated": _translated(source, endpoint, way),
            "seen": _seen(self._process.peers[view.peer_id].endpoints, view) if view.session else None,
            "probed": found is not None,
            "finished": looked.finished,
            "sent": looked.sent,
            "answered": len(rtts),
            "rtt_ms": min(rtts, default=None),
            "rtt_most_ms": max(rtts, default=None),
            "path_mtu": size,
            "outside": None if size is None or endpoint is None else size + _HEADERS[len(endpoint.ip)],
            "arrived": looked.largest,
            "largest": looked.top or None,
            "in_use": view.path_mtu,
            "icmp": [{"kind": kind, "count": count} for kind, count in icmp.items()],
        }


def _error(way: ways.Way | None) -> str | None:
    return None if way is None else way.error or None


def _translated(source: bytes | None, to: Address | None, way: ways.Way | None) -> str | None:
    """Whether a NAT is between this node and a peer's address, as far as the addresses tell: "yes", "no", "unknown"."""
    if source is None or to is None or len(source) != len(to.ip):
        return None
    if not ways.is_private(source):
        return "no"
    if not ways.is_private(to.ip):
        return "yes"
    near = way is not None and not way.error and not way.gateway
    return "no" if near else "unknown"


def _seen(endpoints: tuple[str, ...], view: PeerView) -> str | None:
    """Where the peer's packets come from, against what is configured: "configured", "port", "address"."""
    known = [address for address in map(resolver.literal, endpoints) if address is not None]
    if view.endpoint is None or not known or len(known) < len(endpoints):
        return None
    if view.endpoint in known:
        return "configured"
    return "port" if view.endpoint.ip in [each.ip for each in known] else "address"
