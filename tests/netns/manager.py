"""A service manager as a node sees it: a notify socket, a store of descriptors, and restarts that pass them on.

Does what systemd does of it (sd_notify(3), sd_listen_fds(3)), and nothing else: it reads what the main process sends,
keeps descriptors by name, and passes them to the next process.
"""

import os
import socket
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from lab import wait_for
from lab.nodes import PQVPN, ROOT, Node

_LAUNCH = """
import os, sys
count, names = sys.argv[1], sys.argv[2]
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names}
os.execv(sys.argv[3], sys.argv[3:])
"""


class Manager:
    """Runs one node as a service."""

    def __init__(self, node: Node, *, watchdog: float = 0.0) -> None:
        self.node = node
        self.said: list[str] = []
        self.store: dict[str, int] = {}
        self._watchdog = watchdog
        self._marks = 0
        self._place = node.folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._place))
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"END", str(self._place))
        self._thread.join()
        self._socket.close()
        for descriptor in self.store.values():
            os.close(descriptor)
        self._place.unlink()

    def start(self, *, ready: bool = True) -> None:
        """Start the node with everything in the store, and wait until it says that it is ready."""
        count = self.said.count("READY=1")
        kept = list(self.store.items())
        command = [*PQVPN, "up", "--config", str(self.node.config)]
        if kept:
            command = [sys.executable, "-c", _LAUNCH, str(len(kept)), ":".join(name for name, _ in kept), *command]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(self._place)}
        if self._watchdog:
            environment["WATCHDOG_USEC"] = str(int(self._watchdog * 1e6))
        with open(self.node.log_file, "ab") as log:
            self.node.process = self._popen(command, environment, log, [descriptor for _, descriptor in kept])
        if ready:
            wait_for(
                "READY=1", lambda: self.said.count("READY=1") > count or self.node.process.poll() is not None, 30.0
            )
            assert self.node.process.poll() is None, self.node.log()[-2000:]

    def signs(self) -> int:
        """The signs of life until now: whatever was sent before this call is counted."""
        self._marks += 1
        mark = f"X_MARK={self._marks}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(mark.encode(), str(self._place))
        wait_for("what was sent before", lambda: mark in self.said)
        return self.said.count("WATCHDOG=1")

    def _popen(
        self, command: list[str], environment: dict[str, str], log: object, descriptors: list[int]
    ) -> "subprocess.Popen[bytes]":
        """The descriptors have to be 3, 4, ...: a launcher of our own places them."""
        numbers = ",".join(map(str, descriptors))
        place = (
            "import os, sys, fcntl\n"
            "given = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 200) for n in sys.argv[1].split(',') if n]\n"
            "for at, n in enumerate(given): os.dup2(n, 3 + at, True)\n"
            "os.closerange(3 + len(given), 4096)\n"
            "os.execvp(sys.argv[2], sys.argv[2:])\n"
        )
        full = [sys.executable, "-S", "-c", place, numbers, *command]
        return self.node.namespace.popen(
            full, cwd=ROOT, env=environment, stdout=log, stderr=log, pass_fds=descriptors
        )  # fmt: skip

    def _listen(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 16)
            if data == b"END":
                return
            lines = data.decode().split("\n")
            self.said += lines
            values = dict(line.partition("=")[::2] for line in lines)
            name = values.get("FDNAME", "")
            if "FDSTORE" in values:
                self._drop(name)
                self.store[name] = descriptors.pop()
            elif "FDSTOREREMOVE" in values:
                self._drop(name)
            for left in descriptors:  # of a barrier
                os.close(left)

    def _drop(self, name: str) -> None:
        if name in self.store:
            os.close(self.store.pop(name))


def interface_index(node: Node, name: str = "pqvpn0") -> int:
    """The kernel's number of an interface, another one after it was made anew; 0: there is none."""
    shown = node.namespace.run(["ip", "-o", "link", "show", "dev", name], check=False).stdout
    return int(shown.partition(":")[0]) if shown else 0
