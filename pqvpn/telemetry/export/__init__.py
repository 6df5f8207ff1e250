"""The way from the spool to an OTLP endpoint: settings, senders for HTTP and gRPC, and the drainer that drives them."""

from pqvpn.telemetry.export.drainer import Drainer, ExportState
from pqvpn.telemetry.export.endpoint import Endpoint, Target
from pqvpn.telemetry.export.environment import endpoint_of

__all__ = ["Drainer", "Endpoint", "ExportState", "Target", "endpoint_of"]
