"""Reading the files that a configuration names: bounded, regular files only, keys only when private.

Owns the checks of modes and sizes. Knows nothing of formats. What cannot be used is a `ConfigError` without a place;
the caller knows which setting named the file.
"""

import base64
import binascii
import os
import shlex
import stat
from pathlib import Path

from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError
from pqvpn.reasons import Reason

CONFIG_LIMIT = 1 << 20
FILE_LIMIT = 1 << 14
KEY_SIZE = 32  # psk and network_key, PROTOCOL section 1
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read(path: Path, limit: int = FILE_LIMIT, *, private: bool = False) -> bytes:
    """The contents of a regular file of at most `limit` bytes; `private`: refuse modes looser than 0600.

    Raises ConfigError (config.file, config.key_mode).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
    except (OSError, ValueError) as error:
        raise ConfigError(Reason.CONFIG_FILE, f"cannot open {path}: {_why(error)}") from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError(Reason.CONFIG_FILE, f"{path} is not a regular file")
        if private and state.st_mode & _OPEN_TO_OTHERS:
            raise _loose(path, state.st_mode, "600")
        data = os.read(descriptor, limit + 1)  # of a regular file this is short at its end only
    except OSError as error:
        raise ConfigError(Reason.CONFIG_FILE, f"cannot read {path}: {_why(error)}") from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise ConfigError(Reason.CONFIG_FILE, f"{path} is larger than {limit} bytes")
    return data


def check_folder(folder: Path) -> None:
    """Refuse a folder of keys that others may enter. Raises ConfigError (config.file, config.key_mode)."""
    try:
        mode = os.stat(folder).st_mode
    except (OSError, ValueError) as error:
        raise ConfigError(Reason.CONFIG_FILE, f"cannot look at {folder}: {_why(error)}") from None
    if mode & _OPEN_TO_OTHERS:
        raise _loose(folder, mode, "700")


def read_key(path: Path) -> Secret:
    """A psk or network key: 32 bytes in base64 on one line, in a file of mode 0600.

    Raises ConfigError (config.file, config.key_mode, config.key_is_zero).
    """
    text = read(path, private=True).strip()
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_SIZE or base64.b64encode(key) != text:
        remedy = f"make one: (umask 077; openssl rand -base64 32 > {shlex.quote(str(path))})"
        raise ConfigError(Reason.CONFIG_FILE, f"{path} does not hold {KEY_SIZE} bytes in base64", remedy=remedy)
    if key == bytes(KEY_SIZE):
        raise ConfigError(Reason.CONFIG_KEY_ZERO, f"the key in {path} is all zeros")
    return Secret(key)


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _loose(path: Path, mode: int, wanted: str) -> ConfigError:
    return ConfigError(
        Reason.CONFIG_KEY_MODE,
        f"{path} has mode {stat.S_IMODE(mode):04o}: others may read what only this node may",
        remedy=f"chmod {wanted} {shlex.quote(str(path))}",
    )
