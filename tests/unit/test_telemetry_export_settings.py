"""Where records go, by configuration and by `OTEL_*`; what is refused, and that no value of a variable is repeated."""

from pathlib import Path

import pytest

from pqvpn.config.schema import TelemetrySection
from pqvpn.crypto.secret import Secret
from pqvpn.errors import TelemetryError
from pqvpn.reasons import Reason
from pqvpn.telemetry.export import Endpoint, Target, endpoint_of
from pqvpn.telemetry.spool import Kind

LOCAL = "http://127.0.0.1:4318"
NOTHING = TelemetrySection()


def given(headers: bytes | None = None, environ: dict[str, str] | None = None, **settings: object) -> Endpoint | None:
    telemetry = TelemetrySection.model_validate(settings)
    return endpoint_of(telemetry, Secret(headers) if headers else None, environ or {}, Path("/etc/pqvpn"))


def by(**environ: str) -> Endpoint | None:
    return given(environ={f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()})


def test_without_an_endpoint_nothing_leaves_the_host() -> None:
    assert given() is None
    assert given(environ={"OTEL_TRACES_EXPORTER": "otlp"}) is None
    assert given(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) is None
    assert given(enabled=False, endpoint=LOCAL) is None


def test_the_configuration_gives_each_signal_its_path() -> None:
    found = given(endpoint="https://c.example:4318/base", ca_file="ca.pem", timeout="3s")
    assert found is not None
    assert found.traces == Target("https://c.example:4318/base/v1/traces", ca_file="/etc/pqvpn/ca.pem", timeout=3.0)
    assert found.of(Kind.LOGS) is found.logs
    assert found.of(Kind.CRASHES) is None
    assert found.of(99) is None


def test_grpc_has_no_path() -> None:
    found = given(endpoint="https://c.example:4317/base", protocol="grpc")
    assert found is not None
    assert {t.url for t in (found.traces, found.metrics, found.logs) if t} == {"https://c.example:4317"}


def test_the_environment_gives_what_the_configuration_does_not() -> None:
    found = by(
        ENDPOINT="https://c.example:4318/", TRACES_ENDPOINT="https://t.example/in", HEADERS="authorization=Bearer%20t,a=b",
        COMPRESSION="none", TIMEOUT="2500", CERTIFICATE="/ca.pem", CLIENT_KEY="/k.pem", CLIENT_CERTIFICATE="/c.pem",
        LOGS_PROTOCOL="grpc", LOGS_HEADERS="c=d",
    )  # fmt: skip
    assert found is not None
    assert found.traces
    assert found.metrics
    assert found.logs
    assert found.traces.url == "https://t.example/in"
    assert found.metrics.url == "https://c.example:4318/v1/metrics"
    assert (found.logs.url, found.logs.protocol) == ("https://c.example:4318", "grpc")
    assert found.metrics.header_pairs() == (("authorization", "Bearer t"), ("a", "b"))
    assert found.logs.header_pairs() == (("c", "d"),)
    assert (found.metrics.compression, found.metrics.timeout) == ("none", 2.5)
    assert (found.metrics.ca_file, found.metrics.key_file, found.metrics.certificate_file) == (
        "/ca.pem",
        "/k.pem",
        "/c.pem",
    )


def test_the_configuration_wins() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://other.example:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://other:2",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_HEADERS": "x=1", "OTEL_EXPORTER_OTLP_TIMEOUT": "2000",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/other.pem",
    }  # fmt: skip
    found = given(
        b"# mine\nx: 2\n\n",
        environ,
        endpoint=LOCAL,
        protocol="http/protobuf",
        timeout="5s",
        compression="gzip",
        ca_file="m",
    )
    assert found is not None
    assert found.traces == Target(f"{LOCAL}/v1/traces", headers=Secret(b"x: 2"), ca_file="/etc/pqvpn/m", timeout=5.0)


@pytest.mark.parametrize(("value", "seconds"), [("1", 1.0), ("10", 1.0), ("10000", 10.0), ("999999999", 60.0)])
def test_a_timeout_is_in_milliseconds_and_bounded(value: str, seconds: float) -> None:
    found = by(ENDPOINT=LOCAL, TIMEOUT=value)
    assert found is not None
    assert found.logs
    assert found.logs.timeout == seconds


def test_signals_are_turned_off_one_by_one() -> None:
    environ = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "otlp"}
    found = given(environ=environ, endpoint=LOCAL)
    assert found is not None
    assert found.traces is None
    assert found.metrics
    assert found.logs
    none = dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "none")
    assert given(environ=none, endpoint=LOCAL) is None
    assert given(environ={"OTEL_SDK_DISABLED": "true"}, endpoint=LOCAL) is None
    assert given(environ={"OTEL_SDK_DISABLED": "false"}, endpoint=LOCAL) is not None


def test_grpc_places_need_no_scheme() -> None:
    secure = by(ENDPOINT="c.example:4317", PROTOCOL="grpc")
    assert secure is not None
    assert secure.traces
    assert secure.traces.url == "https://c.example:4317"
    plain = by(ENDPOINT="localhost:4317", PROTOCOL="grpc", INSECURE="true")
    assert plain is not None
    assert plain.traces
    assert plain.traces.url == "http://localhost:4317"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_CONFIG_FILE", "sesame.yaml"),
        ("OTEL_EXPERIMENTAL_CONFIG_FILE", "sesame.yaml"),
        ("OTEL_TRACES_EXPORTER", "sesame"),
        ("OTEL_LOGS_EXPORTER", "otlp,sesame"),
        ("OTEL_METRICS_EXPORTER", "sesame"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "sesame"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "sesame"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "sesame"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "sesame"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=sesame%0d%0aX: y"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "host=sesame"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:sesame@c.example"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/?token=sesame"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://sesame"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example:sesame"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://[sesame"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name_only(name: str, value: str) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": LOCAL} | {name: value}
    with pytest.raises(TelemetryError) as caught:
        given(environ=environ)
    assert caught.value.reason is Reason.TELEMETRY_ENVIRONMENT
    assert caught.value.place == name
    assert "sesame" not in f"{caught.value!s} {caught.value!r} {caught.value.detail} {caught.value.remedy}"


def test_a_configuration_file_of_the_sdk_is_refused_even_without_endpoint() -> None:
    with pytest.raises(TelemetryError):
        given(environ={"OTEL_CONFIG_FILE": "/x.yaml"}, enabled=False)


@pytest.mark.parametrize(
    ("protocol", "value"), [("http/protobuf", "http://c.example:4318"), ("grpc", "http://10.0.0.1:4317")]
)
def test_nothing_goes_unencrypted_to_another_host(protocol: str, value: str) -> None:
    with pytest.raises(TelemetryError) as caught:
        by(ENDPOINT=value, PROTOCOL=protocol)
    assert caught.value.reason is Reason.CONFIG_TELEMETRY_PLAIN
    assert caught.value.place == "OTEL_EXPORTER_OTLP_ENDPOINT"
    assert given(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": value}, insecure=True) is not None


@pytest.mark.parametrize("content", [b"sesame", b"a: b\nx\xff: y", b"content-length: 5", b"a b: c", b"a: b\n\tsesame"])
def test_a_file_of_headers_that_holds_something_else_is_refused(content: bytes) -> None:
    with pytest.raises(TelemetryError) as caught:
        given(content, endpoint=LOCAL)
    assert caught.value.place == "telemetry.headers_file"
    assert "sesame" not in str(caught.value)


def test_headers_never_show_and_cross_to_another_process() -> None:
    found = given(b"authorization: Bearer sesame\n", endpoint=LOCAL, ca_file="ca.pem")
    assert found is not None
    assert "sesame" not in f"{found!r} {found!s} {found.traces!r}"
    again = Endpoint.unpack(found.pack())
    assert again == found
    assert again.traces
    assert again.traces.header_pairs() == (("authorization", "Bearer sesame"),)
    assert Endpoint.unpack(Endpoint(logs=Target("x")).pack()) == Endpoint(logs=Target("x"))
