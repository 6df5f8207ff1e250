"""What the core is configured with, out of what the supervisor says.

Owns the correspondence of messages and settings. Pure.
"""

from pqvpn.control.resolver import literal
from pqvpn.control.supervision import ControlStart, PeerSpec
from pqvpn.crypto import selftest
from pqvpn.crypto.secret import Secret
from pqvpn.protocol.settings import NodeSettings, PeerSettings


def node_settings(start: ControlStart, failed: tuple[str, ...]) -> NodeSettings:
    """This node. `failed`: primitives that did not give their known answer."""
    return NodeSettings(
        peer_id=start.peer_id,
        seed=Secret(start.seed),
        network_key=Secret(start.network_key) if start.network_key else None,
        lanes=start.lanes,
        mtu=start.mtu,
        aeads=selftest.usable_aeads(failed),
        prefer_chacha=not start.aes_instructions,
        handshakes=selftest.handshakes_possible(failed),
        boot_id=start.boot_id,
        sample=start.sample,
        timers=start.timers,
    )


def peer_settings(spec: PeerSpec) -> PeerSettings:
    """One peer; names among its endpoints are resolved later."""
    return PeerSettings(
        peer_id=spec.peer_id,
        name=spec.name,
        public_key=spec.public_key,
        psk=Secret(spec.psk) if spec.psk else None,
        endpoints=tuple(a for a in map(literal, spec.endpoints) if a),
        keepalive=spec.keepalive,
        trace=spec.trace,
        allow_degraded=spec.allow_degraded,
        degraded_until=spec.degraded_until,
    )
