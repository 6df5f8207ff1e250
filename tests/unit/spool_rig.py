"""Ends or fails a spool's writer at each of its calls to the disk.

`python -m tests.unit.spool_rig FOLDER HOW [budget]` runs one scenario again and again, each time in a process of its own that
kills itself (SIGKILL) at the next call: `before` it, `half` way through a write, `after` it, or `power`: before it, and what
was not synced is lost with it. Folder N holds the spool of the N-th run and `acknowledged`, one payload number a line.
"""

import contextlib
import errno
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from pqvpn.telemetry.spool import Kind, Spool
from pqvpn.telemetry.spool.files import Files

CALLS = ("make_folder", "create", "reopen", "write", "sync", "sync_folder", "truncate", "replace", "remove")
PAYLOAD = 9000
AGE = 86400.0


class Counting(Files):
    """Calls `meet(number, name, arguments)` before each call; counts from 1."""

    def __init__(self) -> None:
        self.count = 0

    def meet(self, name: str, arguments: tuple) -> None:
        """For subclasses."""

    def left(self, number: int, name: str, arguments: tuple) -> None:
        """For subclasses: the call worked."""


def _counted(name: str):
    def call(self: Counting, *arguments):
        self.count += 1
        number = self.count  # calls are made within calls
        self.meet(name, arguments)
        result = getattr(Files, name)(self, *arguments)
        self.left(number, name, (*arguments, result))
        return result

    return call


for _name in CALLS:
    setattr(Counting, _name, _counted(_name))


class Failing(Counting):
    """The calls numbered in `at` fail with `error`; a write may do half of its work before."""

    def __init__(self, at: range, error: int) -> None:
        super().__init__()
        self.at = at
        self.error = error

    def meet(self, name: str, arguments: tuple) -> None:
        if self.count in self.at:
            if name == "write":
                file, data, where = arguments
                os.pwrite(file, data[: len(data) // 2], where)
            raise OSError(self.error, os.strerror(self.error))


class Killing(Counting):
    """Kills its process at one call."""

    def __init__(self, at: int, how: str, spool: Path) -> None:
        super().__init__()
        self.at = at
        self.spool = spool
        self.how = how
        self.sizes: dict[int, int] = {}  # by inode: what is synced
        self.fresh: dict[int, tuple[int, str]] = {}  # by inode: (folder, name) of files whose entry is not synced

    def meet(self, name: str, arguments: tuple) -> None:
        if self.count == self.at:
            if self.how == "half" and name == "write":
                file, data, where = arguments
                os.pwrite(file, data[: len(data) // 2], where)
            if self.how in ("before", "half"):
                _die()
            if self.how == "power":
                self._lose_what_is_not_synced()
                _die()

    def left(self, number: int, name: str, arguments: tuple) -> None:
        *_, result = arguments
        if name == "create":
            inode = os.fstat(result).st_ino
            self.sizes[inode], self.fresh[inode] = 0, (arguments[0], arguments[1])
        elif name == "sync":
            self.sizes[os.fstat(arguments[0]).st_ino] = os.fstat(arguments[0]).st_size
        elif name == "sync_folder":
            self.fresh.clear()
        if number == self.at and self.how == "after":
            _die()

    def _lose_what_is_not_synced(self) -> None:
        for folder, name in self.fresh.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        if not self.spool.exists():
            return
        for entry in os.scandir(self.spool):
            size = self.sizes.get(entry.inode())
            if entry.name.endswith(".seg") and size is not None:
                os.truncate(entry.path, size)
            elif entry.name.endswith(".json"):
                os.truncate(entry.path, 0)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def payload(number: int) -> bytes:
    """Tells its number."""
    return number.to_bytes(4, "big") + bytes(PAYLOAD)


def number(of: bytes) -> int:
    """Of a payload."""
    return int.from_bytes(of[:4], "big")


def scenario(folder: Path, files: Files, size: int) -> None:
    """Appends alone and together, sends some, closes and opens again, until 24 are acknowledged."""
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    done = 0
    for _ in range(3):
        with Spool(folder / "spool", size, AGE, files=files) as spool:
            for batch in (1, 3, 1, 2, 1):
                spool.append_many([(Kind.LOGS, payload(done + n), 1) for n in range(batch)])
                os.write(acknowledged, b"".join(b"%d\n" % (done + n) for n in range(batch)))
                done += batch
            for record, _ in zip(spool.unsent(), range(2), strict=False):
                spool.sent(record.id)
    os.close(acknowledged)


def main(root: str, how: str, size: str) -> int:
    """Run the scenario to its end once for each call it makes, and once whole."""
    run = 0
    while True:
        run += 1
        folder = Path(root) / str(run)
        folder.mkdir(parents=True)
        child = os.fork()
        if not child:
            scenario(folder, Killing(run, how, folder / "spool"), int(size))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            print(run)
            return 0
        if not os.WIFSIGNALED(status):
            return 1


ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
