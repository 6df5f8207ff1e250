"""From the spool of crashes to the server that a DSN names: Sentry, GlitchTip, Bugsink.

Owns the request, what an answer means and how long a server may ask us to wait. Order, retries, the breaker and the thread
are the OTLP drainer's, the connection is `export/connection.py`. A report is sent again when no answer came, with the
same event id, by which servers tell duplicates. Only the server's own answer counts: it repeats the event id.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import requests
from sentry_sdk.utils import BadDsn, Dsn

from pqvpn import __version__
from pqvpn.crypto.secret import Secret
from pqvpn.errors import TelemetryError
from pqvpn.reasons import Reason
from pqvpn.telemetry.crashes import reading
from pqvpn.telemetry.export import outcome
from pqvpn.telemetry.export.connection import Poster, body_of, retry_after
from pqvpn.telemetry.export.drainer import Drainer
from pqvpn.telemetry.export.endpoint import Target
from pqvpn.telemetry.export.outcome import Outcome, Verdict
from pqvpn.telemetry.export.pacing import Paces
from pqvpn.telemetry.spool import Keeper, Kind, Spool
from pqvpn.telemetry.spool.layout import Record
from pqvpn.telemetry.spool.writer import uptime

LARGEST_REPORT: Final = 900 << 10
"""Bytes: servers refuse events above one megabyte."""
_TOO_MANY: Final = 429
_WAIT_OF_429: Final = 60.0
_OURS: Final = ("", "default", "error")
"""Categories of a server's rate limits that concern crash reports; "": all."""
_MOST_LIMITS: Final = 32
_REASONS: Final = {
    Reason.COLLECTOR_UNREACHABLE: Reason.CRASH_SERVER_UNREACHABLE,
    Reason.COLLECTOR_REFUSED: Reason.CRASH_SERVER_REFUSED,
    Reason.COLLECTOR_TLS: Reason.CRASH_SERVER_TLS,
    Reason.COLLECTOR_ANSWER: Reason.CRASH_SERVER_ANSWER,
}


@dataclass(frozen=True, slots=True)
class Server:
    """Where reports go. `timeout`: seconds of one try. `ca_file` is an absolute path."""

    dsn: Secret
    ca_file: str | None = None
    timeout: float = 10.0

    def target(self) -> Target:
        """Its URL and headers. Raises TelemetryError when the DSN is none."""
        try:
            auth = Dsn(self.dsn.expose().decode("ascii")).to_auth(f"pqvpn/{__version__}")
        except (BadDsn, ValueError):
            raise TelemetryError(Reason.CONFIG_DSN) from None  # its text would repeat the DSN
        header = Secret(f"x-sentry-auth: {auth.to_header()}".encode("ascii"))
        return Target(auth.get_api_url(), headers=header, ca_file=self.ca_file, timeout=self.timeout)


class EnvelopeSender(Poster):
    """Sends reports to one server."""

    content_type: ClassVar[str] = "application/x-sentry-envelope"

    def send(self, record: Record) -> Outcome:
        """One try. Never raises."""
        if len(record.payload) > LARGEST_REPORT or not reading.event_id(record.payload):
            return Outcome(Verdict.NEVER, Reason.CRASH_SERVER_REFUSED, "the report on disk is not one")
        found = super().send(record)
        return replace(found, reason=_REASONS.get(found.reason, found.reason)) if found.reason else found

    def headers(self, _: Record) -> dict[str, str]:
        """None but the DSN's: the event id is in the envelope."""
        return {}

    def judged(self, record: Record, response: requests.Response) -> Outcome:
        """Accepted when it repeats the event id."""
        body = body_of(response)
        if isinstance(body, Outcome):
            return body
        try:
            told = json.loads(body).get("id")
        except (ValueError, AttributeError, RecursionError):
            told = None
        if not isinstance(told, str) or told.replace("-", "").lower() != reading.event_id(record.payload):
            return outcome.nonsense("its answer is not the one of a crash server")
        return Outcome(Verdict.ACCEPTED, wait=_limit(response))

    def refused(self, response: requests.Response) -> Outcome:
        """Too many: with the time after which it takes more."""
        if response.status_code != _TOO_MANY:
            return super().refused(response)
        asked = max(_limit(response) or 0.0, retry_after(response.headers.get("retry-after", "")) or 0.0)
        detail = f"it answers with status {_TOO_MANY}"
        return Outcome(Verdict.LATER, Reason.CRASH_SERVER_BUSY, detail, asked or _WAIT_OF_429)


def deliverer(
    spool: Spool | Keeper, server: Server, *, pacing: Paces | None = None, now: Callable[[], float] = uptime
) -> Drainer:
    """What sends the spool's reports to a server. Raises TelemetryError when the DSN is none."""
    return Drainer(spool, _Crashes(server.target()), pacing=pacing, make=EnvelopeSender, now=now)


@dataclass(frozen=True, slots=True)
class _Crashes:
    target: Target

    def of(self, kind: int) -> Target | None:
        return self.target if kind == Kind.CRASHES else None


def _limit(response: requests.Response) -> float | None:
    """Seconds of `X-Sentry-Rate-Limits` ("60:error;transaction:organization, ...") that concern us, within reason."""
    longest = 0.0
    for each in response.headers.get("x-sentry-rate-limits", "").split(",")[:_MOST_LIMITS]:
        seconds, _, rest = each.strip().partition(":")
        categories = rest.partition(":")[0].split(";")
        try:
            found = outcome.bounded_wait(float(seconds)) if any(c in _OURS for c in categories) else 0.0
        except ValueError:
            continue
        longest = max(longest, found if found == found else 0.0)
    return longest or None
