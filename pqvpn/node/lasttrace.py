"""The trace of an end that no observer heard of: a start that failed before there was one.

Owns the way from the configuration to `telemetry/signals/direct.py`. Loaded on such an end only. Never raises, and changes
nothing about how the command ends.
"""

import contextlib

from pqvpn import __version__
from pqvpn.config import paths
from pqvpn.config.schema import NodeConfig
from pqvpn.facts import Crashed
from pqvpn.identity import peer_id
from pqvpn.node import observing
from pqvpn.telemetry.redaction import Policy, Redactor


def record(config: NodeConfig, crash: Crashed, policy: Policy) -> None:
    """Put the crash's span and log record into the spool, and try to deliver them."""
    section = config.telemetry
    if not section.enabled:
        return
    with contextlib.suppress(Exception):  # the end itself matters more
        from pqvpn.telemetry.export import Endpoint
        from pqvpn.telemetry.signals import Settings, direct

        redactor = Redactor(policy)
        settings = Settings(
            version=__version__,
            instance=redactor.text(peer_id.to_text(config.card.peer_id)),
            sample=section.sample,
            environment=observing.variables(),
            kinds=frozenset(direct.KINDS),
        )
        packed = observing.endpoint_of(config)
        endpoint = Endpoint.unpack(packed) if packed else None
        place = direct.Place(config.state_folder / paths.SPOOL_FOLDER, section.spool_size, section.spool_age, endpoint)
        direct.record(crash, settings, redactor, place)
