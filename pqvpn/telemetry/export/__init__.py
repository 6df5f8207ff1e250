"""The way from the spool to an OTLP endpoint: settings, senders for HTTP and gRPC, and the drainer that drives them.

What is asked for is loaded: the supervisor needs the settings and no HTTP client, the observer needs no schema.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pqvpn.telemetry.export.endpoint import Endpoint, Target

if TYPE_CHECKING:
    from pqvpn.telemetry.export.drainer import Drainer, ExportState
    from pqvpn.telemetry.export.environment import endpoint_of

__all__ = ["Drainer", "Endpoint", "ExportState", "Target", "endpoint_of"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    module = "environment" if name == "endpoint_of" else "drainer"
    return getattr(import_module(f"pqvpn.telemetry.export.{module}"), name)
