"""What an operator can ask a running node for: status, reload, reconnect, breakers, probe, down.

Owns the operations of the control socket and the requests that wait for the supervisor's answer. Knows no protocol.
"""

import asyncio
import socket
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from pqvpn.control import loglevels, supervision
from pqvpn.control.api import Api, RequestRefusedError
from pqvpn.control.probing import Probing
from pqvpn.control.supervision import (
    BreakerRequested,
    Configure,
    ErrorInfo,
    PeerSpec,
    Processes,
    ReloadRefused,
    SupervisorBreakers,
)
from pqvpn.errors import CryptoError, PqvpnError
from pqvpn.facts import ConfigurationApplied, ConfigurationRefused, Problem
from pqvpn.host.clock import now
from pqvpn.identity import peer_id
from pqvpn.reasons import Reason
from pqvpn.resilience.registry import Action, Kind, without_hosts
from pqvpn.telemetry import jsonlog
from pqvpn.telemetry.redaction import Policy, Redactor

if TYPE_CHECKING:
    from pqvpn.control.process import ControlProcess

_RELOAD_LIMIT = 20.0


class Operations:
    """The operations on one control process."""

    def __init__(self, process: "ControlProcess") -> None:
        self._process = process
        self.probing = Probing(process)
        self._requests = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._api: Api | None = None
        start = process.start
        masked = start.redact_addresses == "mask"  # else an operator who may ask sees addresses: nothing records them
        self._mask = Redactor(Policy("mask", start.redact_key, frozenset(start.redact_hosts))) if masked else None

    async def start(self, listener: socket.socket) -> None:
        """Answer on the listening socket."""
        operations = {
            "status": self.status,
            "reload": self.reload,
            "reconnect": self.reconnect,
            "degrade": self.degrade,
            "log_level": self.log_level,
            "breakers": self.breakers,
            "breaker": self.breaker,
            "probe": self.probe,
            "down": self.down,
        }
        self._api = Api(listener, operations, self._process.failed)
        await self._api.start()

    def close(self) -> None:
        """Answer no more."""
        if self._api:
            self._api.close()

    async def status(self, _: dict[str, Any]) -> dict[str, Any]:
        """Everything that `pqvpn status` shows."""
        process, time = self._process, now()
        views = process.core.peers(time)
        shown = process.node_status(views, time)
        drops = shown.pop("drops")
        shown |= {"peers": process.peer_statuses(views, time), "drops": drops}
        return _masked(shown, self._mask) if self._mask else shown

    async def reload(self, _: dict[str, Any]) -> dict[str, Any]:
        """Have the configuration file read again and applied; nothing changes when it has errors."""
        return await self._ask_supervisor(supervision.ReloadRequested)

    async def _ask_supervisor(self, message: Callable[[int], supervision.ToSupervisor]) -> dict[str, Any]:
        """Send a message with a number, and wait for the answer to it."""
        request = next(self._requests)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        supervision.send(self._process.link, message(request))
        try:
            return await asyncio.wait_for(answer, _RELOAD_LIMIT)
        finally:
            self._waiting.pop(request, None)

    async def reconnect(self, request: dict[str, Any]) -> dict[str, Any]:
        """Begin a handshake with the peer named, whatever its state."""
        peer = self._named(request)
        process = self._process
        held = process.gates.registry.get(Kind.PEER, peer.name)
        if held.held and held.opened:
            name = f"{Kind.PEER}/{peer.name}"
            raise PqvpnError(Reason.BREAKER_OPEN, f"{name} is held open", remedy=f"pqvpn breaker reset {name}")
        process.do(lambda: process.core.want_session(peer.peer_id, now(), force=True))
        process.resolver.look_again(peer.peer_id)
        return {"peer": peer.name}

    async def degrade(self, request: dict[str, Any]) -> dict[str, Any]:
        """Arm or disarm auth-plaintext for the peer named: the one way into a degraded mode (PROTOCOL section 8)."""
        peer = self._named(request)
        armed = request.get("armed") is True
        if armed and not peer.allow_degraded:
            raise CryptoError(Reason.DEGRADE_REFUSED, f"peer {peer.name} has no allow_degraded")
        if armed and peer.degraded_until is not None and peer.degraded_until <= now():
            raise CryptoError(Reason.DEGRADE_REFUSED, f"degraded_until of peer {peer.name} is over")
        process = self._process
        process.do(lambda: process.core.arm_degraded(peer.peer_id, now(), armed))
        if armed:
            process.publish(Problem(Reason.SECURITY_DEGRADED, "control", "armed by an operator", peer.name))
        process.do(lambda: process.core.want_session(peer.peer_id, now(), force=True))
        return {"peer": peer.name, "armed": armed}

    async def log_level(self, request: dict[str, Any]) -> dict[str, Any]:
        """Show the log's levels, or set the one of an area for a while."""
        return loglevels.change(request, self._process.publish, self._process.link)

    async def breakers(self, _: dict[str, Any]) -> dict[str, Any]:
        """Every breaker of control and supervisor."""
        return {"breakers": self._process.breakers()}

    async def probe(self, _: dict[str, Any]) -> dict[str, Any]:
        """What the network allows, probed now or a moment ago."""
        found = await self.probing.ask()
        return self._mask.fields(found) if self._mask else found

    async def breaker(self, request: dict[str, Any]) -> dict[str, Any]:
        """Open, close or reset the breaker named."""
        name = str(request.get("name", ""))
        try:
            action = Action(str(request.get("action")))
        except ValueError:
            raise PqvpnError(Reason.REQUEST_REFUSED, "the action is open, close or reset") from None
        if any(row["name"] == name for row in self._process.supervisor_breakers):
            return await self._ask_supervisor(lambda number: BreakerRequested(number, name, action.value))
        row = self._process.gates.registry.act(name, action)
        if action is not Action.OPEN:
            self._try_now(name)
        return row

    def _try_now(self, name: str) -> None:
        """A breaker that lets calls through again: those who wait for it need not wait any longer."""
        process = self._process
        for peer, spec in process.peers.items():
            if name.startswith((f"{Kind.PEER}/{spec.name}", f"{Kind.PATH}/{spec.name}/")):
                process.do(lambda: process.core.released(peer, now()))  # noqa: B023 - called at once
        if name.startswith(f"{Kind.DNS}/"):
            process.resolver.good_news()

    def _named(self, request: dict[str, Any]) -> PeerSpec:
        name = str(request.get("peer", ""))
        for peer, spec in self._process.peers.items():
            if name in (spec.name, peer_id.to_text(peer)):
                return spec
        raise PqvpnError(Reason.REQUEST_REFUSED, f"no peer {name[:64]!r} is configured")

    async def down(self, _: dict[str, Any]) -> dict[str, Any]:
        """End the node."""
        supervision.send(self._process.link, supervision.StopRequested())
        return {"pid": self._process.start.supervisor_pid}

    def from_supervisor(self, message: supervision.ToControl) -> None:
        """Take the supervisor's news and its answers to requests."""
        match message:
            case Processes():
                self._process.processes = message
            case SupervisorBreakers(rows, request):
                self._process.supervisor_breakers = rows
                if request and rows:
                    self._answer(request, rows[0])
            case Configure(request, peers, changes, restart_needed, breakers, crypto_interval, crypto_timeout, hosts):
                self._learn(hosts)
                self._process.gates.registry.apply(breakers)
                self._process.watch.crypto_every = crypto_interval
                self._process.watch.crypto_timeout = crypto_timeout
                added = {p.peer_id for p in peers} - self._process.peers.keys()
                self._process.configure(peers)
                self._process.call(added)
                self._process.publish(ConfigurationApplied(", ".join(changes), ", ".join(restart_needed)))
                self._answer(request, {"changes": list(changes), "restart_needed": list(restart_needed)})
            case ReloadRefused(request, errors):
                self._process.publish(ConfigurationRefused(Reason.CONFIG_VALUE, len(errors)))
                self._refuse(request, errors)
            case _:
                pass

    def _learn(self, hosts: tuple[str, ...]) -> None:
        jsonlog.learn(hosts)
        if self._mask:
            self._mask.learn(hosts)

    def _answer(self, request: int, result: dict[str, Any]) -> None:
        waiting = self._waiting.get(request)
        if waiting and not waiting.done():
            waiting.set_result(result)

    def _refuse(self, request: int, errors: tuple[ErrorInfo, ...]) -> None:
        waiting = self._waiting.get(request)
        if waiting and not waiting.done():
            waiting.set_exception(
                RequestRefusedError(
                    [
                        {"code": e.code, "text": e.text, "detail": e.detail, "place": e.place, "remedy": e.remedy}
                        for e in errors
                    ]
                )
            )


def _masked(shown: dict[str, Any], mask: Redactor) -> dict[str, Any]:
    """The answer without addresses."""
    return mask.fields(shown | {"breakers": without_hosts(shown.get("breakers", ()))})
