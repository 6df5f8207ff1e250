"""The runtime folder of a running node: its pid, locked, and its control socket.

Owns the lock that keeps a second node off the same configuration and the socket's file. The lock is the kernel's (flock), so
a killed node leaves nothing that has to be judged stale. Knows nothing of what is asked over the socket.
"""

import fcntl
import os
import socket
from pathlib import Path

from pqvpn.errors import NetworkError, PqvpnError
from pqvpn.reasons import Reason

_BACKLOG = 32


class RuntimeFolder:
    """A folder claimed for this process."""

    def __init__(self, folder: Path, pid_file: Path, socket_file: Path) -> None:
        """Make the folder (0700) and lock its pid file.

        Raises PqvpnError (ALREADY_RUNNING, with the other's pid) or NetworkError (KERNEL_REFUSED).
        """
        self._socket_file = socket_file
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise NetworkError(Reason.KERNEL_REFUSED, f"{error.strerror}", place=str(folder)) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(self._fd, 32).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise PqvpnError(Reason.ALREADY_RUNNING, f"it runs as process {pid or 'unknown'}") from None
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    @classmethod
    def resumed(cls, socket_file: Path, descriptor: int) -> "RuntimeFolder":
        """A folder that this process has claimed already, before an exec."""
        claimed = cls.__new__(cls)
        claimed._socket_file = socket_file
        claimed._fd = descriptor
        return claimed

    @property
    def descriptor(self) -> int:
        """What holds the claim."""
        return self._fd

    def listen(self) -> socket.socket:
        """The control socket, 0600. Raises NetworkError."""
        try:
            return listen(self._socket_file)
        except OSError as error:
            raise NetworkError(Reason.KERNEL_REFUSED, f"{error.strerror}", place=str(self._socket_file)) from error

    def release(self) -> None:
        """Remove the socket and give the lock back. The pid file stays, empty: removing it would race with the next node."""
        self._socket_file.unlink(missing_ok=True)
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def listen(place: Path) -> socket.socket:
    """A listening unix socket at `place`, 0600, over whatever a killed node left there. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        place.unlink(missing_ok=True)
        listener.bind(str(place))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
