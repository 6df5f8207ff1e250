"""OTLP over HTTP: what a request holds and what an answer means. The connection is `connection.py`."""

from typing import ClassVar, Final

import requests

from pqvpn.telemetry.export import outcome
from pqvpn.telemetry.export.connection import Poster, body_of, content_type_of
from pqvpn.telemetry.export.outcome import Outcome
from pqvpn.telemetry.spool.layout import Record

_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"


class HttpSender(Poster):
    """Sends to one target."""

    content_type: ClassVar[str] = _PROTOBUF

    def headers(self, record: Record) -> dict[str, str]:
        """The record's id."""
        return {outcome.RECORD_HEADER: record.id.hex()}

    def judged(self, record: Record, response: requests.Response) -> Outcome:
        """Accepted, perhaps in part; or no answer of OTLP."""
        body = body_of(response)
        if isinstance(body, Outcome):
            return body
        content_type = content_type_of(response)
        if content_type == _PROTOBUF or (not content_type and not body):
            return outcome.accepted(record.kind, body)
        if content_type == _JSON:
            return outcome.accepted_json(record.kind, body or b"{}")
        return outcome.nonsense("its answer is no OTLP")
