"""Facts become OpenTelemetry's signals: spans (`traces`), metrics (`metrics`), log records (`logs`), in OTLP.

`Signals` is what the observer drives; `factory` makes everything of OpenTelemetry's SDK, and is alone in that.
"""

from pqvpn.telemetry.signals.readings import Readings, Usage, usage
from pqvpn.telemetry.signals.settings import Settings, Sink, Wanted
from pqvpn.telemetry.signals.signals import Signals

__all__ = ["Readings", "Settings", "Signals", "Sink", "Usage", "Wanted", "usage"]
