"""The log's files: one that grows, older ones compressed beside it, the oldest removed.

Owns the folder of log files: names, modes, rotation by size and age, retention by total size. Every method may wait for
the disk and raises OSError when the disk refuses; what was written before stands then, whole. There is one writer.
"""

import contextlib
import gzip
import os
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

NAME: Final = "pqvpn.log"
PACKED: Final = ".gz"
_PART: Final = ".part"
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_FIRST_LINE: Final = 4096
_NOTHING: Final = -1


class LogFiles:
    """The files in `folder`, which is made when it is missing. Sizes in bytes, `rotate_age` in seconds."""

    def __init__(
        self,
        folder: Path,
        rotate_size: int,
        rotate_age: float,
        keep_size: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self._rotate_size = max(1, min(rotate_size, keep_size // 2))  # the newest must never be what is removed
        self._rotate_age = rotate_age
        self._keep_size = keep_size
        self._clock = clock
        self._descriptor = _NOTHING
        self._size = 0
        self._began = 0.0

    @property
    def path(self) -> Path:
        """The file that grows."""
        return self.folder / NAME

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, each whole or none of them; rotates before and removes the oldest files after."""
        if not lines:
            return
        self._open()
        data = b"\n".join(lines) + b"\n"
        if self._size and (self._size + len(data) > self._rotate_size or self._aged()):
            self.rotate()
        self._append(data)
        if self._size > self._rotate_size:
            self.rotate()

    def rotate(self) -> None:
        """Set the file aside, compressed, and begin a new one."""
        self.close()
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, self.folder / f"{NAME}-{stamp}")
        self._open()
        self.tidy()

    def tidy(self) -> None:
        """Compress what is set aside (also by a predecessor that was killed), then remove the oldest beyond the limit."""
        for part in self.folder.glob(f"{NAME}-*{_PART}"):
            part.unlink(missing_ok=True)
        for plain in self._aside():
            if plain.suffix != PACKED:
                _pack(plain)
        self._retain()

    def total(self) -> int:
        """Bytes that all files take."""
        return sum(_size_of(path) for path in (self.path, *self._aside()))

    def close(self) -> None:
        """Close the file; a later `write` opens it again."""
        if self._descriptor != _NOTHING:
            os.close(self._descriptor)
            self._descriptor = _NOTHING

    def _open(self) -> None:
        """Open the file, again when somebody removed or replaced it or its folder."""
        if self._descriptor != _NOTHING and self._is_ours():
            return
        first = self._descriptor == _NOTHING and not self._began
        self.close()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, _APPEND, 0o600)
        os.fchmod(self._descriptor, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        self._began = _began(self.path) if self._size else self._clock()
        if first:
            self.tidy()

    def _is_ours(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._descriptor))
        except OSError:
            return False

    def _append(self, data: bytes) -> None:
        before = self._size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, before)  # no half line stays
            raise
        self._size = before + len(data)

    def _aged(self) -> bool:
        return self._clock() - self._began >= self._rotate_age

    def _aside(self) -> list[Path]:
        return sorted(p for p in self.folder.glob(f"{NAME}-*") if not p.name.endswith(_PART))

    def _retain(self) -> None:
        total = self.total()
        for oldest in self._aside():
            if total <= self._keep_size - self._rotate_size:  # room for the one that grows
                return
            total -= _size_of(oldest)
            oldest.unlink(missing_ok=True)


def _pack(plain: Path) -> None:
    part = plain.with_name(plain.name + PACKED + _PART)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(plain, "rb") as source, open(descriptor, "wb") as raw, gzip.GzipFile("", "wb", 6, raw) as target:
            shutil.copyfileobj(source, target, 1 << 16)
        os.rename(part, plain.with_name(plain.name + PACKED))
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        return  # it stays as it is, counts in full, and is tried again at the next rotation
    plain.unlink(missing_ok=True)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _began(path: Path) -> float:
    """When the first line of a file was written; when its last one was, for a line that does not say."""
    with open(path, "rb") as file:
        line = file.read(_FIRST_LINE).partition(b"\n")[0]
        try:
            return datetime.fromisoformat(msgspec.json.decode(line)["time"]).timestamp()
        except (ValueError, TypeError, KeyError):
            return os.fstat(file.fileno()).st_mtime
