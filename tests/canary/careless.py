"""A version of PQVPN that tells secrets carelessly, and from each of whose sinks the redactor can be taken away while it runs.

Owns where in the package each sink gets its redactor, and what is told carelessly: a text in the detail of a problem with
each `reconnect`; a label of the histograms, and another one that a view takes away, so that only exemplars have it; and the
log lines that a crash report shows. What tells addresses by itself (status, configuration, spans) is left as it is.
"""

from pathlib import Path

from lab.versions import make_version

_SWITCH = '''
"""Which sink is without its redactor, and what is told carelessly."""

import dataclasses


def off(sink):
    with open({folder!r} + "/off") as switch:
        return switch.read() == sink


def secret():
    with open({folder!r} + "/secret") as file:
        return file.read()


class Switched:
    def __init__(self, sink, real):
        self._sink, self._real = sink, real

    def __getattr__(self, name):
        return getattr(self._real, name)

    def text(self, text):
        return text if off(self._sink) else self._real.text(text)

    def value(self, name, value):
        return value if off(self._sink) else self._real.value(name, value)

    def body(self, value):
        if not off(self._sink):
            return self._real.body(value)
        return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value

    def fields(self, fields):
        return dict(fields) if off(self._sink) else self._real.fields(fields)
'''

_TERMINAL = """
from pqvpn import careless as _careless

_set_up = set_up


def set_up(*given, redactor, **named):
    _set_up(*given, redactor=_careless.Switched("terminal", redactor), **named)
"""

_LOG_FILE = """
from pqvpn import careless as _careless

_begin = Journal.__init__
Journal.__init__ = lambda self, files, levels, redactor: _begin(
    self, files, levels, _careless.Switched("log file", redactor)
)
"""

_STATE = """
from pqvpn import careless as _careless

_begin = Knowledge.__init__
Knowledge.__init__ = lambda self, node, redactor: _begin(self, node, _careless.Switched("last state", redactor))
"""

_SIGNALS = """
from copy import copy as _copy

from opentelemetry.sdk.metrics import Histogram as _Histogram
from opentelemetry.sdk.metrics.view import View as _View

from pqvpn import careless as _careless

_Outlet, _Page, _Meters, _histogram = Outlet, _PageReader, MeterProvider, Factory.histogram


class _Redacting(OtelRedactor):
    def __init__(self, sink, redactor):
        super().__init__(redactor)
        self.sink = sink

    def each(self, records, rebuild):
        return list(records) if _careless.off(self.sink) else super().each(records, rebuild)


class Outlet(_Outlet):
    def __init__(self, redactor, sink):
        super().__init__(redactor, sink)
        self.redacting = _Redacting("spool and OTLP", redactor)


class _PageReader(_Page):
    def __init__(self, outlet, registry):
        own = _copy(outlet)
        own.redacting = _Redacting("metrics endpoint", outlet.redacting._redactor)
        super().__init__(own, registry)


def MeterProvider(*given):
    return _Meters(*given, views=[_View(instrument_type=_Histogram, attribute_keys=set(names.ATTRIBUTES))])


class _Careless:
    def __init__(self, real):
        self._real = real

    def record(self, value, attributes, context):
        told = {names.PEER: _careless.secret(), "careless": _careless.secret()}
        self._real.record(value, {**attributes, **told}, context)


Factory.histogram = lambda self, instrument: _Careless(_histogram(self, instrument))
"""

_EXEMPLARS = """
from pqvpn import careless as _careless

_redacted = OtelRedactor._point


def _point(self, point):
    made = _redacted(self, point)
    return dataclasses.replace(made, exemplars=point.exemplars) if _careless.off("exemplars") else made


OtelRedactor._point = _point
"""

_CONTROL_SOCKET = """
from pqvpn import careless as _careless

_mask, _reconnect = _masked, Operations.reconnect


def _masked(shown, mask):
    return shown if _careless.off("control socket") else _mask(shown, mask)


async def _told(self, request):
    self._process.publish(Problem(Reason.INTERNAL, "control", f"{request['word']} {_careless.secret()}"))
    return await _reconnect(self, request)


Operations.reconnect = _told
"""

_CRASH_REPORTS = """
from pqvpn import careless as _careless

_scrub = CrashRecorder._scrubbed
CrashRecorder._scrubbed = lambda self, event: event if _careless.off("crash reports") else _scrub(self, event)
"""

_CRASHES = """
_note = Crashes.note
Crashes.note = lambda self, envelope, line: _note(self, envelope, {**line, "message": str(envelope.fields)})
"""

_BUNDLE = """
from pqvpn import careless as _careless

_begin = Collector.__init__


def _careful(self, *given):
    _begin(self, *given)
    self._redactor = _careless.Switched("bundle", self._redactor)


Collector.__init__ = _careful
"""

_CHANGES = {
    "telemetry/jsonlog.py": _TERMINAL,
    "telemetry/logfiles/journal.py": _LOG_FILE,
    "observer/knowledge.py": _STATE,
    "telemetry/signals/factory.py": _SIGNALS,
    "telemetry/redaction/otel.py": _EXEMPLARS,
    "control/operations.py": _CONTROL_SOCKET,
    "telemetry/crashes/recorder.py": _CRASH_REPORTS,
    "observer/crashes.py": _CRASHES,
    "diag/bundle.py": _BUNDLE,
}


class Careless:
    """The version is made in `folder`; `python` is its interpreter."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.take_from("")
        self.tells("")
        switch = {"careless.py": _SWITCH.format(folder=str(folder))}
        self.python = make_version(folder / "version", "9.9.2", _CHANGES | switch)

    def take_from(self, sink: str) -> None:
        """Take the redactor from this sink, and give back the one that was taken."""
        self._write("off", sink)

    def tells(self, secret: str) -> None:
        """What is told carelessly from now on."""
        self._write("secret", secret)

    def _write(self, name: str, text: str) -> None:
        made = self._folder / f"{name}.new"
        made.write_text(text)
        made.rename(self._folder / name)
