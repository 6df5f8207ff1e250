"""A version of PQVPN that keeps a copy of every secret it makes: in a file that only the test reads, beside every sink.

Owns where secrets come into being (the type `Secret`, the KDF, the KEM) and what of that is one. What a test holds is
searched for as the secrets that were configured are.
"""

import re
from collections import Counter
from pathlib import Path

from canaries import Canary

from lab.versions import make_version

_SHORTEST = 16
_KEY = 32  # longer ones are several keys in a row
_FEWEST_VALUES = 8  # different bytes, else it stands for "none" or was made up for a self-test

_KEPT = '''
"""Keeps secrets for a test."""

import os


def keep(kind, *secrets):
    place = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(place, "".join(f"{{kind}} {{bytes(each).hex()}}\\n" for each in secrets).encode())
    finally:
        os.close(place)
'''

_SECRET = """
from pqvpn.kept import keep as _keep

_made = Secret.__init__


def _kept(self, value):
    _made(self, value)
    _keep("secret", value)


Secret.__init__ = _kept
"""

# Session IDs are public. Every other thing that is derived is a key, or a state from which keys follow.
_KDF = """
from pqvpn.crypto import labels as _labels
from pqvpn.kept import keep as _keep

_extract, _expand = extract, expand


def extract(salt, ikm):
    made = _extract(salt, ikm)
    _keep("extracted", made)
    return made


def expand(prk, info, length):
    made = _expand(prk, info, length)
    if info != _labels.SESSION_ID:
        kinds = ("lane", _labels.LANE), ("session", _labels.SESSION)
        _keep(next((kind for kind, label in kinds if info.startswith(label)), "derived"), made)
    return made
"""

_XWING = """
from pqvpn.kept import keep as _keep

_combine, _parsed, _X25519 = combine, PrivateKey.__init__, X25519PrivateKey


def combine(ss_m, ss_x, ct_x, pk_x):
    made = _combine(ss_m, ss_x, ct_x, pk_x)
    _keep("shared", ss_m, ss_x, made.expose())
    return made


def _kept(self, seed):
    _parsed(self, seed)
    _keep("private", seed.expose(), hashlib.shake_256(seed.expose()).digest(96))


PrivateKey.__init__ = _kept


class X25519PrivateKey:
    from_private_bytes = staticmethod(_X25519.from_private_bytes)

    @staticmethod
    def generate():
        made = _X25519.generate()
        _keep("private", made.private_bytes_raw())
        return made
"""


class KeptKeys:
    """The version is made in `folder`; `python` is its interpreter."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "kept"
        self._read = 0
        self._found: dict[bytes, Canary] = {}
        self.kinds: Counter[str] = Counter()
        """Different secrets of each kind, as far as `canaries` has looked."""
        changes = {
            "kept.py": _KEPT.format(path=str(self._path)),
            "crypto/secret.py": _SECRET,
            "crypto/kdf.py": _KDF,
            "crypto/xwing.py": _XWING,
        }
        self.python = make_version(folder / "version", "9.9.1", changes)

    def canaries(self) -> list[Canary]:
        """Every secret so far, once."""
        with open(self._path, "rb") as kept:
            kept.seek(self._read)
            lines = kept.read().rpartition(b"\n")[0]
        self._read += len(lines) + bool(lines)
        for kind, raw in re.findall(r"(\w+) ([0-9a-f]+)", lines.decode()):
            self._add(kind, bytes.fromhex(raw))
        return list(self._found.values())

    def _add(self, kind: str, value: bytes) -> None:
        for begin in range(0, len(value), _KEY):
            part = value[begin : begin + _KEY]
            if part not in self._found and _is_key(part):
                self.kinds[kind] += 1
                self._found[part] = Canary(f"{kind} {self.kinds[kind]}", part)


def _is_key(value: bytes) -> bool:
    """Not a text, which the configuration gave and the test knows as what it is, nor an IV."""
    return len(value) >= _SHORTEST and len(set(value)) >= _FEWEST_VALUES and not (value.isascii() and _is_text(value))


def _is_text(value: bytes) -> bool:
    return all(each.isprintable() or each in "\n\t" for each in value.decode("ascii"))
