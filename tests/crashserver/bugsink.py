"""A real crash server on loopback: Bugsink, made anew in a folder, asked through its API.

Owns its configuration and its life. Nothing leaves the machine: its phone-home is off. Everything it stores is below its
folder, so that a test can search it.
"""

import http.client
import json
import os
import secrets
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab import Namespace

ROOT = Path(__file__).resolve().parents[2]
_BIN = ROOT / ".cache" / "bugsink" / "bin"
_CONF = """\
from bugsink.settings.default import *  # noqa
from bugsink.settings.default import DATABASES
SECRET_KEY = {secret!r}
DATABASES["default"]["NAME"] = {folder!r} + "/db.sqlite3"
DATABASES["snappea"]["NAME"] = {folder!r} + "/snappea.sqlite3"
SNAPPEA = {{"TASK_ALWAYS_EAGER": True, "NUM_WORKERS": 1, "PID_FILE": None, "WAKEUP_CALLS_DIR": {folder!r} + "/wakeup"}}
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = False
EMAIL_BACKEND = "bugsink.email_backends.QuietConsoleEmailBackend"
BUGSINK = {{"BASE_URL": {url!r}, "PHONEHOME": False, "INGEST_STORE_BASE_DIR": {folder!r} + "/ingestion"}}
ALLOWED_HOSTS = ["127.0.0.1"]
"""


def installed() -> bool:
    """Whether `scripts/bugsink.sh` has made the environment."""
    return (_BIN / "bugsink-manage").exists()


class Bugsink:
    """One server with one project. `dsn` is where reports go; stop and start it as a test likes."""

    def __init__(self, folder: Path, port: int, namespace: Namespace | None = None) -> None:
        """Make its databases, which takes some seconds. It listens on the loopback of `namespace`, else on ours."""
        self.folder = folder
        self._namespace = namespace
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._server: subprocess.Popen[bytes] | None = None
        conf = _CONF.format(secret=secrets.token_hex(32), folder=str(folder), url=self.url)
        (folder / "bugsink_conf.py").write_text(conf, encoding="utf-8")
        self._manage("migrate")
        self._manage("migrate", "--database=snappea")
        self._token = self._manage("create_auth_token").split()[-1]

    def __enter__(self) -> Self:
        self.start()
        team = self._ask("teams/", {"name": "pqvpn"})
        self.project = self._ask("projects/", {"name": "pqvpn", "team": team["id"]})
        self.dsn = self._ask(f"projects/{self.project['id']}/")["dsn"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve; returns once it answers."""
        command = [
            _BIN / "gunicorn",
            "bugsink.wsgi",
            f"--bind=127.0.0.1:{self._port}",
            "--threads=4",
            "--graceful-timeout=1",
            "--no-control-socket",
        ]
        with (self.folder / "server.log").open("ab") as log:
            start = self._namespace.popen if self._namespace else subprocess.Popen
            self._server = start(
                [str(word) for word in command], cwd=self.folder, env=self._environment(), stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self._request("/health/ready")[0] == 200:
                    return
            except (http.client.HTTPException, OSError):
                pass
            time.sleep(0.1)  # nothing to wait on before it listens
        raise TimeoutError(f"the crash server does not answer: {(self.folder / 'server.log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End it; what it stored stays."""
        if self._server:
            self._server.terminate()
            self._server.wait(10)
            self._server = None

    def issues(self) -> list[dict[str, Any]]:
        """Every issue of the project."""
        return list(self._ask(f"issues/?project={self.project['id']}")["results"])

    def event(self, event_id: str) -> dict[str, Any]:
        """The event with this id."""
        found = [e for issue in self.issues() for e in self.events(issue)]
        return next(e for e in found if e["event_id"].replace("-", "") == event_id)

    def event_count(self) -> int:
        """How many events it holds."""
        return sum(len(self.events(issue)) for issue in self.issues())

    def events(self, issue: dict[str, Any]) -> list[dict[str, Any]]:
        """Every event of an issue, each as it was stored (`data`: the event as received)."""
        listed = self._ask(f"events/?issue={issue['id']}")["results"]
        return [self._ask(f"events/{event['id']}/") for event in listed]

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        status, answer = self._request(f"/api/canonical/0/{path}", data)
        if status >= 300:
            raise RuntimeError(f"the crash server answers {path} with {status}: {answer[:500]!r}")
        return dict(json.loads(answer))

    def _request(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        kind = (socket.AF_INET, socket.SOCK_STREAM)
        connection.sock = self._namespace.socket(*kind) if self._namespace else socket.socket(*kind)
        try:
            connection.sock.settimeout(20)
            connection.sock.connect(("127.0.0.1", self._port))
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _manage(self, *arguments: str) -> str:
        command = [_BIN / "bugsink-manage", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self._environment(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"bugsink-manage {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "DJANGO_SETTINGS_MODULE": "bugsink_conf"}
