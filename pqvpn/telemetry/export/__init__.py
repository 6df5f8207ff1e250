"""The way from the spool to an OTLP endpoint: settings, senders for HTTP and gRPC, and the drainer that drives them.

`Drainer` is loaded when it is asked for: the supervisor needs the settings only, and no HTTP client.
"""

from typing import TYPE_CHECKING, Any

from pqvpn.telemetry.export.endpoint import Endpoint, Target
from pqvpn.telemetry.export.environment import endpoint_of

if TYPE_CHECKING:
    from pqvpn.telemetry.export.drainer import Drainer, ExportState

__all__ = ["Drainer", "Endpoint", "ExportState", "Target", "endpoint_of"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from pqvpn.telemetry.export import drainer

    return getattr(drainer, name)
