"""The one place that speaks to `sentry_sdk`: an event goes in, a redacted envelope goes to the spool.

Owns the client's options, all of its own collecting turned off: no integrations, no breadcrumbs, no locals, no argv, no
environment, no modules, no host name, no sessions, no traces. The whole event passes the redactor; when that fails, the
event is dropped. Imported on the first crash only: the SDK costs memory that a healthy node need not spend.
"""

from collections.abc import Callable
from typing import Any, cast

from sentry_sdk import Client
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from pqvpn import __version__

_OWN = frozenset(
    (
        "event_id", "timestamp", "platform", "level", "logger", "release", "environment", "transaction", "fingerprint",
        "exception", "tags", "contexts", "breadcrumbs", "extra", "server_name",
    )
)  # fmt: skip


class _ToSpool(Transport):
    def __init__(self, append: Callable[[bytes], None]) -> None:
        super().__init__()
        self._append = append

    def capture_envelope(self, envelope: Envelope) -> None:
        envelope.headers.pop("sent_at", None)  # it is sent later: a server would take the difference for a wrong clock
        self._append(envelope.serialize())


class CrashClient:
    """Makes envelopes. `append` stores one, bytes as they will be sent."""

    def __init__(self, scrub: Callable[[dict[str, Any]], dict[str, Any]], append: Callable[[bytes], None]) -> None:
        self._scrub = scrub
        self._client = Client(
            dsn="",  # None would let SENTRY_DSN turn something on
            spotlight=False,  # nor is SENTRY_SPOTLIGHT asked
            debug=False,
            keep_alive=False,
            environment="production",  # the event's own counts
            release=f"pqvpn@{__version__}",  # None would ask git, in a process of its own
            transport=_ToSpool(append),
            before_send=self._before_send,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[],
            max_breadcrumbs=0,
            include_local_variables=False,
            include_source_context=False,
            auto_session_tracking=False,
            send_client_reports=False,
            enable_backpressure_handling=False,
            enable_tracing=None,
            server_name="",
            shutdown_timeout=0,
        )

    def report(self, event: dict[str, Any]) -> str | None:
        """Store an event; its id (32 hex digits), or None when it was dropped."""
        return self._client.capture_event(cast(Any, event))

    def _before_send(self, event: Any, _: Any) -> Any:
        """What the SDK added is taken out, the rest is scrubbed; the SDK drops the event when this raises."""
        kept = {name: value for name, value in event.items() if name in _OWN and value not in ("", None)}
        return self._scrub(kept)
