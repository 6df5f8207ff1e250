"""The calls that change the disk, in one place, so that a test can fail or end the process at each of them.

Owns the modes and flags with which the spool's files are made (0600, no symlinks followed, no descriptor inherited).
Everything raises OSError as the kernel does.
"""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path

from pqvpn.errors import TelemetryError
from pqvpn.reasons import Reason

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MADE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # O_NONBLOCK: a FIFO must not hang the reader


class Files:
    """Calls on files below one open folder."""

    def make_folder(self, path: Path) -> None:
        """Make it (0700) with its parents, durably; one that exists is left as it is."""
        if os.path.lexists(path):
            return
        os.makedirs(path, mode=0o700, exist_ok=True)
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sync_folder(parent)
        finally:
            os.close(parent)

    def create(self, folder: int, name: str) -> int:
        """A new file (0600) for reading and writing. Raises FileExistsError."""
        return os.open(name, _MADE | os.O_EXCL, 0o600, dir_fd=folder)

    def reopen(self, folder: int, name: str) -> int:
        """An existing file for reading and writing."""
        return os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)

    def write(self, file: int, data: bytes, at: int) -> int:
        """Write at an offset; returns how many bytes went out."""
        return os.pwrite(file, data, at)

    def sync(self, file: int) -> None:
        """Return once the file's content is on the disk."""
        os.fdatasync(file)

    def sync_folder(self, folder: int) -> None:
        """Return once the folder's entries are on the disk."""
        os.fsync(folder)

    def truncate(self, file: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(file, size)

    def replace(self, folder: int, old: str, new: str) -> None:
        """Rename within the folder, over whatever is there."""
        os.replace(old, new, src_dir_fd=folder, dst_dir_fd=folder)

    def remove(self, folder: int, name: str) -> None:
        """Remove a file."""
        os.unlink(name, dir_fd=folder)

    def write_all(self, file: int, data: bytes, at: int) -> None:
        """Write the whole of it; a disk that takes only a part refuses with the next call."""
        done = 0
        while done < len(data):
            count = self.write(file, data[done:] if done else data, at + done)
            if count <= 0:
                raise OSError(errno.EIO, "nothing was written")
            done += count

    def write_file(self, folder: int, name: str, data: bytes) -> None:
        """Replace a small file as a whole: what reads it finds the former content or this."""
        temporary = f".{name}"
        file = os.open(temporary, _MADE | os.O_TRUNC, 0o600, dir_fd=folder)
        try:
            self.write_all(file, data, 0)
        finally:
            os.close(file)
        self.replace(folder, temporary, name)


def open_to_read(folder: int, name: str) -> int:
    """A regular file of this folder. Raises OSError, also when it is a symlink or something other than a file."""
    file = os.open(name, _READ, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file


def open_folder(path: Path) -> int:
    """A folder that is none behind a symlink. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def open_folder_at(folder: int, name: str) -> int:
    """A folder within another one, not behind a symlink. Raises OSError."""
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)


def claim_folder(files: Files, path: Path) -> int:
    """Make and open a folder, closed to others, and lock it for this process. Raises TelemetryError."""
    try:
        files.make_folder(path)
        folder = open_folder(path)
    except OSError as error:
        raise refused(error, path) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(folder).st_mode & 0o077:
            with contextlib.suppress(OSError):  # not ours, or read-only: what is written will say so
                os.fchmod(folder, 0o700)
    except BlockingIOError:
        os.close(folder)
        raise TelemetryError(Reason.SPOOL_IN_USE, "another process writes it", place=str(path)) from None
    except OSError as error:
        os.close(folder)
        raise refused(error, path) from None
    return folder


def refused(error: OSError, path: Path) -> TelemetryError:
    """What the disk's refusal means."""
    reason = Reason.DISK_FULL if error.errno in FULL else Reason.SPOOL_UNWRITABLE
    return TelemetryError(reason, os.strerror(error.errno) if error.errno else str(error), place=str(path))
