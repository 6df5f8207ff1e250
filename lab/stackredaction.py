"""The collector's second line of redaction, made of the node's own registry of names.

Owns what the collector lets pass: attributes, names of spans, events, metrics and records by closed lists, values by what
the registry says that they hold, bodies of log records by the node's own sentences. The first line is the node's; this one is
there for senders that have none. A pattern here is RE2's: it has no lookaround.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from pqvpn.facts import FACTS
from pqvpn.telemetry import names
from pqvpn.telemetry.logfiles.messages import SENTENCES

_SECRET_NAMES: Final = (
    r"(?:password|passwd|passphrase|pwd|secret|token|psk|api[_-]?key|credentials?|seed|dsn"
    r"|(?:private|network|secret|access|session|signing|encryption|static|shared|master|preshared)[_ -]?key)"
)
BLOCKED: Final = (
    r"(?s)-----BEGIN [^-]{1,64}-----.*",
    rf"(?i){_SECRET_NAMES}[\"']?\]?\s{{0,4}}(?:=>|:=|[:=])\s{{0,4}}\S+",
    r"(?i)(?:proxy-)?authorization[\"']?\s{0,4}[:=][^\r\n]+",
    r"(?i)(?:set-)?cookie:[^\r\n]+",
    r"(?i)bearer\s{1,4}[A-Za-z0-9._~+/=-]{8,}",
    r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,4}",
    r"://[^/\s@]*@",
    r"[A-Za-z0-9+/_=-]{40,}",
    r"[0-9a-fA-F]{33,}",
    r"(?:[0-9a-fA-F]{2}[: -]){11,}[0-9a-fA-F]{2}",
    r"(?:0[xX][0-9a-fA-F]{1,2}[, ]{1,2}){11,}0[xX][0-9a-fA-F]{1,2}",
    r"(?:\\{1,8}(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[0-3][0-7]{2})[^\\]{0,8}){4,}",
    r"(?:\d{1,3}, ?){15,}\d{1,3}",
    r"(?:%[0-9A-Fa-f]{2}[^%]{0,8}){6,}",
)
"""What is masked in every value that passes."""
_ALLOWED: Final = (r"^pqvpn1[02-9ac-hj-np-z]{58}$",)  # a peer ID, with `addresses = "keep"`
HOLDS: Final[dict[str, str]] = {
    "word": r"^[A-Za-z0-9_.:+()*/<>, -]{0,80}$",
    "id": r"^[0-9a-f]{1,32}$",
    "number": r"^-?[0-9]{1,20}(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?$",
    "flag": r"^(?:true|false)$",
}
"""What a value may look like, by what the registry says that it holds; names, addresses and texts go by patterns alone."""
_OF_RESOURCES: Final = ("service.", "telemetry.sdk.", "deployment.")
_SCOPE: Final = r"^[a-z0-9_.]{1,64}$"
_VERSION: Final = r"^[0-9][0-9a-z.+-]{0,31}$"
_SEVERITY: Final = r"^(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)?$"
_UNIT: Final = r"^(?:s|By|1|\{[a-z_]+\})?$"
_FREE: Final = "log"  # the one kind of record whose body is what somebody else wrote
_PLAIN: Final = r"[^\x00-\x1f\x7f]{0,400}"


def processors() -> dict[str, Any]:
    """The processors `redaction`, `filter/names` and `transform/closed`."""
    return {
        "redaction": {
            "allow_all_keys": False,
            "allowed_keys": sorted(names.ATTRIBUTES),
            "redact_all_types": True,
            "allowed_values": list(_ALLOWED),
            "blocked_values": list(BLOCKED),
            "summary": "silent",
        },
        "filter/names": {"error_mode": "propagate", "metric_conditions": [_unlike("metric.name", _metric_names())]},
        "transform/closed": {
            "error_mode": "propagate",
            "trace_statements": [*_common(), _of_spans(), _of_span_events()],
            "metric_statements": [*_common(), _of_metrics(), _of_points()],
            "log_statements": [*_common(), _of_logs()],
        },
    }


def _common() -> list[dict[str, Any]]:
    """One group for each context: in a mixed one, what is said of spans would hold for spans with events only."""
    return [
        _group('set(resource.schema_url, "")', f"keep_keys(resource.attributes, [{_listed(_of_resources())}])"),
        _group(
            'set(scope.schema_url, "")',
            f'set(scope.name, "other") where {_unlike("scope.name", _SCOPE)}',
            f'set(scope.version, "") where {_unlike("scope.version", _VERSION)}',
        ),
    ]


def _of_spans() -> dict[str, Any]:
    return _group(
        f'set(span.name, "other") where {_unlike("span.name", _one_of(span.name for span in names.SPANS))}',
        'set(span.status.message, "")',
        'set(span.trace_state, "")',
        "set(span.links, span.links)",  # empties them: the target is cleared before it is copied
        *_values("span.attributes", names.ATTRIBUTE_RECORDS),
    )


def _of_span_events() -> dict[str, Any]:
    known = _one_of(event.name for event in names.EVENTS)
    return _group(
        f'set(spanevent.name, "other") where {_unlike("spanevent.name", known)}',
        *_values("spanevent.attributes", names.ATTRIBUTE_RECORDS),
    )


def _of_metrics() -> dict[str, Any]:
    return _group(
        'set(metric.description, "")',
        f'set(metric.unit, "") where {_unlike("metric.unit", _UNIT)}',
        "keep_keys(metric.metadata, [])",
    )


def _of_points() -> dict[str, Any]:
    """Points keep the attributes that some instrument has: a session's ID is none of them."""
    wanted = {key for instrument in names.INSTRUMENTS for key in instrument.attributes}
    records = [record for record in names.ATTRIBUTE_RECORDS if record.name in wanted]
    return _group(f"keep_keys(datapoint.attributes, [{_listed(wanted)}])", *_values("datapoint.attributes", records))


def _of_logs() -> dict[str, Any]:
    return _group(
        f'set(log.event_name, "other") where {_unlike("log.event_name", _one_of(_told()))}',
        f'set(log.severity_text, "") where {_unlike("log.severity_text", _SEVERITY)}',
        'set(log.body, "other") where not IsString(log.body)',
        f'set(log.body, "other") where log.event_name != "{_FREE}" and {_unlike("log.body", _sentences())}',
        f'set(log.body, "other") where {_unlike("log.body", f"^{_PLAIN}$")}',
        *_values("log.attributes", names.ATTRIBUTE_RECORDS),
    )


def _values(where: str, records: Iterable[names.Attribute]) -> list[str]:
    """Values of the wrong kind are taken out."""
    return [
        f'delete_key({where}, "{record.name}") where {where}["{record.name}"] != nil and '
        f"{_unlike(f'{where}[{_quoted(record.name)}]', HOLDS[record.holds])}"
        for record in records
        if record.holds in HOLDS
    ]


def _of_resources() -> list[str]:
    return [key for key in names.ATTRIBUTES if key.startswith(_OF_RESOURCES)]


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(f'"{key}"' for key in sorted(keys))


def _told() -> list[str]:
    return [event for event, kind in FACTS.items() if kind.told]


def _metric_names() -> str:
    return _one_of(instrument.name for instrument in names.INSTRUMENTS)


def _sentences() -> str:
    """The bodies that a node makes: its sentences, with anything short where they have fields."""
    forms = {re.sub(r"\\\{[a-z_]+\\\}", lambda _: ".{0,120}", re.escape(text)) for text in SENTENCES.values()}
    bare = {event for event in _told() if event not in SENTENCES}
    known = sorted((forms - {".{0,120}"}) | {re.escape(event) for event in bare})
    return (
        f"^(?:{'|'.join(each.replace(chr(92) + ' ', ' ').replace(': .{0,120}', '(?:: .{0,120})?') for each in known)})$"
    )


def _one_of(known: Iterable[str]) -> str:
    return f"^(?:{'|'.join(sorted(name.replace('.', '[.]') for name in known))})$"


def _unlike(path: str, pattern: str) -> str:
    return f"not IsMatch({path}, {_quoted(pattern)})"


def _quoted(text: str) -> str:
    """A string of OTTL."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _group(*statements: str) -> dict[str, Any]:
    return {"statements": list(statements)}
