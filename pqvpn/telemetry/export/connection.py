"""One POST a record, on one connection: what OTLP over HTTP and crash reports have in common.

Owns the connection, the reading of answers and the limits of a try: its timeout bounds connecting, sending and the whole
answer together, however slowly it drips. Follows no redirect, uses no proxy and no credentials of the environment. What a
request holds and what an answer means is the subclass's.
"""

import contextlib
import gzip
import logging
import os
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPException, IncompleteRead
from typing import Any, ClassVar, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

from pqvpn import __version__
from pqvpn.reasons import Reason
from pqvpn.telemetry.export import outcome
from pqvpn.telemetry.export.endpoint import Target
from pqvpn.telemetry.export.outcome import LARGEST_ANSWER, Outcome, Verdict
from pqvpn.telemetry.spool.layout import Record

BUSY: Final = (408, 425, 429, 502, 503, 504)
"""It cannot take anything now."""
_BAD_RECORD: Final = (400, 413, 422)
"""What says that this record cannot be taken. Other refusals (401, 403, 404, ...) are about us, and records are kept."""
_GZIP_LEVEL: Final = 3  # half of level 9's time for nearly its size
_READ: Final = 8192
_TOO_SLOW: Final = (requests.exceptions.Timeout, ReadTimeoutError)


class Poster(ABC):
    """Sends to one target."""

    content_type: ClassVar[str]

    def __init__(self, target: Target) -> None:
        logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)  # what it logs would be sent, and logged again
        self._target = target
        self._watch = _Watch()
        self._session: requests.Session | None = None

    @abstractmethod
    def headers(self, record: Record) -> dict[str, str]:
        """What this record's request has besides the target's headers."""

    @abstractmethod
    def judged(self, record: Record, response: requests.Response) -> Outcome:
        """What an answer with status 200 means."""

    def refused(self, response: requests.Response) -> Outcome:
        """What an answer with any other status means."""
        status = response.status_code
        detail = f"it answers with status {status}"
        if status in BUSY:
            return outcome.unreachable(detail, wait=retry_after(response.headers.get("retry-after", "")))
        if status in _BAD_RECORD:
            return Outcome(Verdict.NEVER, Reason.COLLECTOR_REFUSED, detail)
        if 400 <= status < 500:
            return Outcome(Verdict.LATER, Reason.COLLECTOR_REFUSED, detail)
        if status >= 500:
            return outcome.unreachable(detail, uncertain=True)
        return outcome.nonsense(detail)

    def send(self, record: Record) -> Outcome:
        """One try. Never raises."""
        with self._watch.limit(self._target.timeout) as limit:
            try:
                found = self._post(record)
                # what was cut off by us may look like an answer that ended
                return self._too_slow() if limit.reached else found
            except (requests.exceptions.RequestException, HTTPError) as error:
                self.close()  # the next try begins with a new connection
                is_slow = limit.reached or isinstance(error, _TOO_SLOW)
                return self._too_slow(error) if is_slow else _failed(error)
            except (OSError, ValueError) as error:  # a file of certificates that is missing or not one
                self.close()
                detail = f"a certificate or key file cannot be used ({type(error).__name__})"
                return Outcome(Verdict.LATER, Reason.COLLECTOR_TLS, detail)

    def abort(self) -> None:
        """Cut the connection."""
        self._watch.cut()

    def close(self) -> None:
        """Close the connection."""
        if self._session:
            self._session.close()
            self._session = None
        self._watch.forget()

    def _too_slow(self, error: Exception | None = None) -> Outcome:
        self.close()
        detail = f"no whole answer within {self._target.timeout:g} s"
        return outcome.unreachable(detail, uncertain=not isinstance(error, requests.exceptions.ConnectTimeout))

    def _post(self, record: Record) -> Outcome:
        session = self._session = self._session or self._made()
        is_gzip = self._target.compression == "gzip"
        headers = self.headers(record) | ({"content-encoding": "gzip"} if is_gzip else {})
        body = gzip.compress(record.payload, _GZIP_LEVEL) if is_gzip else record.payload
        with session.post(
            self._target.url,
            data=body,
            headers=headers,
            timeout=self._target.timeout,
            allow_redirects=False,
            stream=True,
        ) as response:
            found = self.judged(record, response) if response.status_code == 200 else self.refused(response)
        if found.verdict is not Verdict.ACCEPTED:
            self.close()
        return found

    def _made(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.headers.clear()
        session.headers.update(dict(self._target.header_pairs()))
        session.headers.update({"content-type": self.content_type, "accept-encoding": "identity"})
        session.headers.setdefault("user-agent", f"pqvpn/{__version__}")
        session.verify = self._target.ca_file or True
        if self._target.certificate_file and self._target.key_file:
            session.cert = (self._target.certificate_file, self._target.key_file)
        session.mount(self._target.url.partition(":")[0] + "://", _Adapter(self._watch))
        return session


def body_of(response: requests.Response) -> bytes | Outcome:
    """The whole body of an answer, or what is wrong with it."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return outcome.nonsense("its answer is compressed, which was not asked for")
    length = response.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        return outcome.nonsense("it does not speak HTTP")
    body = b"".join(_bounded(response))
    if not body and not {"content-length", "transfer-encoding"} & {name.lower() for name in response.headers}:
        return outcome.unreachable("the connection broke", uncertain=True)  # an answer without end is cut off anywhere
    return body if len(body) <= LARGEST_ANSWER else outcome.nonsense("its answer is too large")


def content_type_of(response: requests.Response) -> str:
    """What an answer says that it is, lower case, without parameters."""
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _bounded(response: requests.Response) -> Iterator[bytes]:
    left = LARGEST_ANSWER + 1
    while left > 0 and (chunk := response.raw.read(min(_READ, left))):
        left -= len(chunk)
        yield chunk


def retry_after(value: str) -> float | None:
    """Seconds, from a number or a date; None when it is neither."""
    if value.strip().isascii() and value.strip().isdigit():
        return outcome.bounded_wait(float(value.strip()[:9]))
    try:
        return outcome.bounded_wait(parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _failed(error: Exception) -> Outcome:
    """A connection that could not be made, or broke."""
    chain = tuple(_chain(error))
    if any(isinstance(each, ssl.SSLError | requests.exceptions.SSLError) for each in chain):
        return Outcome(Verdict.LATER, Reason.COLLECTOR_TLS, _tls_detail(error))
    for each in chain:
        if isinstance(each, ConnectionRefusedError):
            return outcome.unreachable("the connection is refused")
        if isinstance(each, socket.gaierror):
            return outcome.unreachable("its name does not resolve")
        if isinstance(each, HTTPException) and not isinstance(each, ConnectionResetError | IncompleteRead):
            return outcome.nonsense("it does not speak HTTP")
    texts = [os.strerror(each.errno) for each in chain if isinstance(each, OSError) and each.errno]
    was_sent = not any(isinstance(each, NewConnectionError) for each in chain)
    return outcome.unreachable(texts[-1].lower() if texts else "the connection broke", uncertain=was_sent)


def _tls_detail(error: Exception) -> str:
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return each.verify_message or "its certificate does not verify"
        if isinstance(each, ssl.SSLError) and each.reason:
            return each.reason.lower().replace("_", " ")
    return "TLS fails"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was made of: requests wraps urllib3's, which hides the cause in `args` or `reason`."""
    waiting, seen = [error], 0
    while waiting and seen < 20:
        each = waiting.pop(0)
        seen += 1
        yield each
        inner = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        waiting += [found for found in inner if isinstance(found, BaseException)]


# -- the limit of a try ----------------------------------------------------------------------------------------------


class _Limit:
    """Whether a try took too long, or was aborted."""

    reached = False


class _Watch:
    """Holds a second descriptor of the connection, so that another thread can cut it whatever waits on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = -1
        self._limit = _Limit()

    def see(self, connection: socket.socket) -> None:
        """A connection was made."""
        with self._lock:
            self._close()
            self._descriptor = os.dup(connection.fileno())
            if self._limit.reached:
                connection.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End the connection: whoever reads or writes on it fails."""
        with self._lock:
            self._limit.reached = True
            if self._descriptor >= 0:
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as connection:
                    connection.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """The connection was closed."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[_Limit]:
        """Cut the connection when the block takes longer."""
        self._limit = _Limit()
        timer = threading.Timer(seconds, self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield self._limit
        finally:
            timer.cancel()


class _Adapter(HTTPAdapter):
    """Makes connections that the watch sees."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """As the library's, with our kinds of connection."""
        super().init_poolmanager(*args, **kwargs)
        watch = self._watch

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                watch.see(made)
                return made

        class Tls(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                watch.see(made)
                return made

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = Tls

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
