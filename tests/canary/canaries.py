"""Secrets whose every spelling is known, and the search for them in whatever was written, sent or answered.

Owns `Canary`, its spellings, and the search, which looks into compressed files, too. Knows nothing of nodes or sinks.
"""

import base64
import gzip
import ipaddress
import json
import sys
import urllib.parse
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

_HALVED = 24
"""A secret of so many bytes is searched for by its halves: half a key is a leak, too."""
_SHORTEST_BASE64 = 6
_HEAD = 8
_PACKED = (b"\x1f\x8b\x08", b"x\x9c", b"x\x01", b"x\xda")


@dataclass(frozen=True)
class Hit:
    """A canary that got out: which, where, how it was spelled."""

    canary: str
    sink: str
    spelling: str
    place: int
    around: bytes

    def __str__(self) -> str:
        return f"{self.canary} as {self.spelling} in {self.sink} at {self.place}: {self.around!r}"


@dataclass(frozen=True)
class Canary:
    """A secret: bytes, or an address. `spellings` are given by `of_bytes`, `of_text` and `of_address`."""

    name: str
    raw: bytes
    address: str = ""

    @classmethod
    def of_text(cls, name: str, text: str) -> Self:
        """A secret that is a text, such as a token."""
        return cls(name, text.encode())

    @classmethod
    def of_address(cls, name: str, address: str) -> Self:
        """An IP address, secret under `mask`. Take one whose four bytes do not occur by chance."""
        return cls(name, ipaddress.ip_address(address).packed, address)

    @cached_property
    def _forms(self) -> dict[str, bytes]:
        if self.address:
            return _address_forms(self.address)
        parts = {"": self.raw}
        if len(self.raw) >= _HALVED:
            half = len(self.raw) // 2
            parts |= {"first half, ": self.raw[:half], "second half, ": self.raw[half:]}
        return {f"{part}{name}": form for part, raw in parts.items() for name, form in _forms(raw).items()}

    def forms(self) -> dict[str, bytes]:
        """Every spelling that is searched for, by its name."""
        return self._forms

    def texts(self) -> dict[str, str]:
        """Spellings of the whole as texts that a careless program could write."""
        return {name: form.decode("latin-1") for name, form in self._forms.items() if "half" not in name}


def _forms(raw: bytes) -> dict[str, bytes]:
    characters = raw.decode("latin-1")
    found = {
        "raw": raw,
        "characters in UTF-8": characters.encode(),
        "characters in JSON": json.dumps(characters)[1:-1].encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "hex with colons": raw.hex(":").encode(),
        "repr": repr(raw)[2:-1].encode(),
        "repr in JSON": json.dumps(repr(raw)[2:-1])[1:-1].encode(),
        "url": urllib.parse.quote_from_bytes(raw, safe="").encode(),
        "list": ", ".join(map(str, raw)).encode(),
        "list in JSON": ",".join(map(str, raw)).encode(),
    }
    found["url in small letters"] = _small(found["url"])
    found |= _base64_forms(raw)
    return {name: form for name, form in found.items() if len(form) >= _SHORTEST_BASE64}


def _small(quoted: bytes) -> bytes:
    parts = quoted.split(b"%")
    return parts[0] + b"".join(b"%" + part[:2].lower() + part[2:] for part in parts[1:])


def _base64_forms(raw: bytes) -> dict[str, bytes]:
    """The characters that these bytes alone decide, wherever they begin in what was encoded."""
    found = {}
    for before in range(3):
        data = bytes(before) + raw
        text = base64.b64encode(data)
        first = -(-before * 8 // 6)
        last = len(data) * 8 // 6
        found[f"base64 at {before}"] = text[first:last]
        found[f"base64url at {before}"] = text[first:last].translate(bytes.maketrans(b"+/", b"-_"))
        found[f"base64 in url at {before}"] = urllib.parse.quote_from_bytes(text[first:last], safe="").encode()
    return found


def _address_forms(text: str) -> dict[str, bytes]:
    address = ipaddress.ip_address(text)
    found = {"text": str(address).encode(), "packed": address.packed, "packed in hex": address.packed.hex().encode()}
    if address.version == 4:
        mapped = f"{address.packed[:2].hex().lstrip('0')}:{address.packed[2:].hex().lstrip('0')}"
        return found | {"mapped": f"::ffff:{mapped}".encode(), "number": str(int(address)).encode()}
    found |= {"long": address.exploded.encode(), "LONG": address.exploded.upper().encode()}
    return found | {"TEXT": str(address).upper().encode(), "in url": urllib.parse.quote(str(address), safe="").encode()}


def search(canaries: Iterable[Canary], sinks: Mapping[str, bytes]) -> list[Hit]:
    """Every canary in every sink, spelled any way; what is compressed is opened."""
    wanted = _Wanted(canaries)
    hits = []
    for sink, content in sinks.items():
        for layer, data in _layers(content):
            for canary, spelling, form in wanted.possible(data):
                place = data.find(form)
                if place >= 0:
                    around = data[max(0, place - 40) : place + len(form) + 20]
                    hits.append(Hit(canary, f"{sink}{layer}", spelling, place, around))
    return hits


Form = tuple[str, str, bytes]
"""The canary's name, the spelling's, and the bytes to look for."""


class _Wanted:
    """Everything to look for, by its first eight bytes: sessions have thousands of secrets with scores of spellings each."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._short: list[Form] = []
        self._by_head: dict[int, list[Form]] = {}
        for canary in canaries:
            for name, form in canary.forms().items():
                if len(form) < _HEAD:
                    self._short.append((canary.name, name, form))
                else:
                    head = int.from_bytes(form[:_HEAD], sys.byteorder)
                    self._by_head.setdefault(head, []).append((canary.name, name, form))
        self._heads = frozenset(self._by_head)

    def possible(self, data: bytes) -> list[Form]:
        """What may be in the data: nothing else is."""
        found: set[int] = set()
        for begin in range(_HEAD):
            if whole := max(0, len(data) - begin) // _HEAD * _HEAD:
                found |= self._heads.intersection(memoryview(data)[begin : begin + whole].cast("Q"))
        return self._short + [form for head in sorted(found) for form in self._by_head[head]]


def _layers(content: bytes) -> Iterable[tuple[str, bytes]]:
    """The content, and what is compressed in it, wherever it begins."""
    yield "", content
    for magic in _PACKED:
        place = content.find(magic)
        while place >= 0:
            if opened := _opened(content[place:]):
                yield f" (compressed at {place})", opened
            place = content.find(magic, place + 1)


def _opened(data: bytes) -> bytes:
    unpack = zlib.decompressobj(wbits=47)  # gzip or zlib, by the header
    try:
        return unpack.decompress(data, 64 << 20)
    except zlib.error:
        return b""


def contents(*folders: Path, prefix: str = "") -> dict[str, bytes]:
    """Every byte of every file below the folders, and the files' names, as sinks."""
    found: dict[str, bytes] = {}
    for folder in folders:
        for path in sorted([folder, *folder.rglob("*")]):
            name = f"{prefix}{path.relative_to(folder.parent)}"
            found[f"name of {name}"] = path.name.encode()
            if path.is_file() and not path.is_symlink():
                found[name] = path.read_bytes()
    return found


def report(hits: Iterable[Hit]) -> str:
    """Hits in words; empty when there are none."""
    return "\n".join(str(hit) for hit in hits)


def compressed(data: bytes) -> bytes:
    """As a rotated log file holds it."""
    return gzip.compress(data)
