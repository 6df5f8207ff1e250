"""The endpoint as configuration and `OTEL_*` variables give it; the configuration wins, setting by setting.

Owns the variables' meaning. What would bypass redaction or send records unencrypted across a network is refused by name,
and no value of a variable is ever repeated in a message: it may hold a token.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn, cast
from urllib.parse import unquote, urlsplit

from pqvpn.config.schema import TelemetrySection
from pqvpn.crypto.secret import Secret
from pqvpn.errors import TelemetryError
from pqvpn.reasons import Reason
from pqvpn.telemetry.export.endpoint import SIGNALS, Compression, Endpoint, Protocol, Target

_BYPASSES: Final = ("OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE")
_TIMEOUT_RANGE: Final = (1.0, 60.0)
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_VALUE: Final = re.compile(r"[\x20-\x7e]{0,8192}")
_OURS: Final = frozenset(
    ("content-type", "content-length", "content-encoding", "host", "transfer-encoding", "connection", "x-pqvpn-record")
)


def endpoint_of(
    telemetry: TelemetrySection, headers: Secret | None, environ: Mapping[str, str], folder: Path = Path()
) -> Endpoint | None:
    """Where records go; None: nowhere. `headers`: the content of `headers_file`; `folder`: where relative paths start.

    Raises TelemetryError naming the setting or variable that cannot be followed.
    """
    variables = _Variables(environ)
    for name in _BYPASSES:
        if variables.get(name):
            _refuse(name, "it would configure exporters that records reach unredacted")
    wanted = {signal: variables.is_exported(signal) for signal in SIGNALS.values()}
    disabled = variables.get("OTEL_SDK_DISABLED").lower() == "true"
    if not telemetry.enabled or disabled:
        return None
    own = _lines_checked(headers) if headers else None
    found = Endpoint(
        **{
            signal: _target(signal, telemetry, own, variables, folder) if is_wanted else None
            for signal, is_wanted in wanted.items()
        }
    )
    return found if any((found.traces, found.metrics, found.logs)) else None


class _Variables:
    """`OTEL_EXPORTER_OTLP_*`, of a signal first, then of all; an empty one counts as unset."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def get(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def otlp(self, signal: str, what: str) -> tuple[str, str]:
        """(name, value) of the variable that applies; value empty when there is none."""
        for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}"):
            if value := self.get(name):
                return name, value
        return "", ""

    def is_exported(self, signal: str) -> bool:
        name = f"OTEL_{signal.upper()}_EXPORTER"
        value = self.get(name).lower() or "otlp"
        if value not in ("otlp", "none"):
            _refuse(name, "it is `otlp` or `none`: other exporters would receive records unredacted")
        return value == "otlp"


def _target(
    signal: str, telemetry: TelemetrySection, own: Secret | None, variables: _Variables, folder: Path
) -> Target | None:
    given = telemetry.model_fields_set
    name, protocol = variables.otlp(signal, "PROTOCOL")
    if "protocol" in given or not protocol:
        protocol = telemetry.protocol
    elif protocol not in ("http/protobuf", "grpc"):
        _refuse(name, "the protocol is `http/protobuf` or `grpc`")
    url = _url(signal, protocol, telemetry, variables)
    if url is None:
        return None
    return Target(
        url=url,
        protocol=cast(Protocol, protocol),
        headers=own or _headers_of(*variables.otlp(signal, "HEADERS")),
        ca_file=_file(telemetry.ca_file, variables.otlp(signal, "CERTIFICATE")[1], folder),
        certificate_file=_file(telemetry.certificate_file, variables.otlp(signal, "CLIENT_CERTIFICATE")[1], folder),
        key_file=_file(telemetry.key_file, variables.otlp(signal, "CLIENT_KEY")[1], folder),
        compression=_compression(signal, telemetry, variables),
        timeout=telemetry.timeout if "timeout" in given else _timeout(signal, telemetry, variables),
    )


def _url(signal: str, protocol: str, telemetry: TelemetrySection, variables: _Variables) -> str | None:
    name, url = "telemetry.endpoint", telemetry.endpoint
    is_whole = False
    if url is None:
        name, url = variables.otlp(signal, "ENDPOINT")
        if not url:
            return None
        is_whole = name.endswith(f"{signal.upper()}_ENDPOINT")
        if "://" not in url:  # as gRPC's may be
            secure = variables.otlp(signal, "INSECURE")[1].lower() != "true"
            url = f"{'https' if secure else 'http'}://{url}"
        _check(name, url)
    parts = urlsplit(url)
    if parts.scheme == "http" and not telemetry.insecure and not _is_loopback(parts.hostname or ""):
        raise TelemetryError(Reason.CONFIG_TELEMETRY_PLAIN, "records would cross the network unencrypted", place=name)
    if protocol == "grpc":
        return f"{parts.scheme}://{parts.netloc}"
    return url if is_whole else f"{url.rstrip('/')}/v1/{signal}"


def _check(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        _refuse(name, "it is not a URL")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        _refuse(name, "it is not a URL like https://collector.example:4318")
    if "@" in parts.netloc or parts.query or parts.fragment:
        _refuse(name, "it holds more than scheme, host, port and path; tokens belong into the headers")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _headers_of(name: str, value: str) -> Secret | None:
    """`a=b,c=d`, values URL-encoded, to lines `name: value`."""
    if not value:
        return None
    lines = []
    for pair in filter(None, (each.strip() for each in value.split(","))):
        key, equals, content = pair.partition("=")
        key, content = unquote(key).strip(), unquote(content).strip()
        if not equals or not _is_header(key, content):
            _refuse(name, "it is not a list like `name=value,name=value`, values URL-encoded")
        lines.append(f"{key}: {content}")
    return Secret("\n".join(lines).encode())


def _lines_checked(headers: Secret) -> Secret | None:
    """The lines of `headers_file` that are headers; blank ones and comments are left out."""
    try:
        lines = headers.expose().decode("ascii").splitlines()
    except UnicodeDecodeError:
        _refuse_file("it is not plain ASCII text")
    kept = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, colon, content = line.partition(":")
        if not colon or not _is_header(key.strip(), content.strip()):
            _refuse_file(f"line {number} is not `name: value`, or the header is not yours to give")
        kept.append(f"{key.strip()}: {content.strip()}")
    return Secret("\n".join(kept).encode()) if kept else None


def _is_header(name: str, value: str) -> bool:
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value)) and name.lower() not in _OURS


def _file(configured: str | None, variable: str, folder: Path) -> str | None:
    if configured is not None:
        return str(folder / configured)
    return str(Path(variable).absolute()) if variable else None


def _compression(signal: str, telemetry: TelemetrySection, variables: _Variables) -> Compression:
    name, value = variables.otlp(signal, "COMPRESSION")
    if "compression" in telemetry.model_fields_set or not value:
        return telemetry.compression
    if value not in ("gzip", "none"):
        _refuse(name, "compression is `gzip` or `none`")
    return cast(Compression, value)


def _timeout(signal: str, telemetry: TelemetrySection, variables: _Variables) -> float:
    """The variable is in milliseconds. Some SDKs read seconds: whoever writes 10 for those gets the lowest value."""
    name, value = variables.otlp(signal, "TIMEOUT")
    if not value:
        return telemetry.timeout
    if not re.fullmatch(r"[0-9]{1,9}", value):
        _refuse(name, "it is a number of milliseconds")
    lowest, highest = _TIMEOUT_RANGE
    return min(max(int(value) / 1000, lowest), highest)


def _refuse(name: str, why: str) -> NoReturn:
    raise TelemetryError(Reason.TELEMETRY_ENVIRONMENT, why, place=name)


def _refuse_file(why: str) -> NoReturn:
    raise TelemetryError(Reason.CONFIG_FILE, why, place="telemetry.headers_file")
