"""The burst engine: AEAD and transport headers for many packets in one call (PROTOCOL section 5).

Owns keys in use, nonces and header bytes. Knows no sockets, sessions, replay or policy beyond the two forms of
sealing.
The interface is narrow on purpose, so that a native engine can take its place: `Places` says where packets of one
size
lie, `seal_burst` fills datagrams from plaintexts, `open_burst` fills plaintexts from datagrams. Interpreted work is
paid per burst; per packet only the cipher's own call remains.
"""

import sys
from array import array
from collections import deque
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag

from pqvpn.crypto.aead import NONCE_SIZE, TAG_SIZE, ZERO_NONCE, Aead, transport_nonce
from pqvpn.crypto.secret import Secret
from pqvpn.wire.transport import HEADER, HEADER_SIZE, LANE_MASK, RUN, TYPE_TRANSPORT

MAX_BURST: Final = 64  # packets in one call
WIRE_EXTRA: Final = HEADER_SIZE + TAG_SIZE  # a datagram is this much longer than its plaintext
_LITTLE: Final = sys.byteorder == "little"
_WORD: Final = 0xFFFFFFFF

_consume = deque[int](maxlen=0).extend  # runs an iterator to its end in C


class Bound:
    """Which headers a wire buffer holds already, apart from counters: None, or (length, index, run, high word)."""

    __slots__ = ("key",)

    def __init__(self) -> None:
        self.key: tuple[int, int, bool, int] | None = None


class Places:
    """Where up to `count` packets of one size lie.

    Plaintext i (meta and data, `length` bytes) is at `plain[start + i * stride]`, datagram i (`size` bytes) at
    `wire[i * size]`. Views are made once and reused: making one costs as much as half a small packet.
    """

    __slots__ = (
        "bodies", "count", "first_words", "heads", "highs", "indices", "length", "lows", "plain", "plains",
        "size", "start", "stride", "strided", "wire", "wire_bound",
    )  # fmt: skip

    def __init__(
        self, plain: memoryview, start: int, stride: int, length: int, wire: memoryview, bound: Bound | None = None
    ) -> None:
        """`bound` is shared by all `Places` over one `wire` buffer; only sealing needs it."""
        size = length + WIRE_EXTRA
        count = min(MAX_BURST, len(wire) // size, (len(plain) - start - length) // stride + 1)
        self.plain, self.start, self.stride, self.length = plain, start, stride, length
        self.wire, self.size, self.count = wire, size, count
        self.plains = [plain[start + i * stride : start + i * stride + length] for i in range(count)]
        self.heads = [wire[i * size : i * size + HEADER_SIZE] for i in range(count)]
        self.bodies = [wire[i * size + HEADER_SIZE : (i + 1) * size] for i in range(count)]
        self.wire_bound = bound or Bound()
        self.strided = _LITTLE and size % 4 == 0
        if self.strided:
            words = wire[: count * size].cast("I")
            step = size // 4
            self.first_words, self.indices = words[0::step], words[1::step]
            self.lows, self.highs = words[2::step], words[3::step]

    def header(self, at: int, index: int, run: bool, first: int, count: int) -> None:
        """Write `count` headers from place `at`, counters from `first`; a run starts with segment 0 in place 0."""
        if not self.strided or (first & _WORD) + count > _WORD:
            flags = index & LANE_MASK | (RUN if run else 0)
            for i in range(count):
                segment = at + i if run else 0
                HEADER.pack_into(self.heads[at + i], 0, TYPE_TRANSPORT, flags, segment, index, first + i)
            self.wire_bound.key = None
            return
        key = (self.length, index, run, first >> 32)
        if self.wire_bound.key != key:
            self._bind(index, run, first >> 32)
            self.wire_bound.key = key
        low = first & _WORD
        self.lows[at : at + count] = memoryview(array("I", range(low, low + count)))

    def _bind(self, index: int, run: bool, high: int) -> None:
        """Write what stays the same from burst to burst into every header."""
        word = TYPE_TRANSPORT | (index & LANE_MASK | (RUN if run else 0)) << 8
        segments = range(self.count) if run else [0] * self.count
        self.first_words[:] = memoryview(array("I", [word | s << 16 for s in segments]))
        self.indices[:] = memoryview(array("I", [index]) * self.count)
        self.highs[:] = memoryview(array("I", [high]) * self.count)


class Nonces:
    """A table of nonces for 128 consecutive counters, shared by all keys of one direction.

    A nonce is iv XOR (0^4 || counter). Within 64 aligned counters only six bits differ, so half a table is one
    product
    and one XOR of long integers.
    """

    _BLOCK: Final = 64
    _ONES: Final = sum(1 << (8 * NONCE_SIZE * i) for i in range(_BLOCK))
    _RAMP: Final = sum(i << (8 * NONCE_SIZE * i + 32) for i in range(_BLOCK))
    _SIZE: Final = NONCE_SIZE * _BLOCK

    def __init__(self) -> None:
        self._bytes = bytearray(2 * self._SIZE)
        view = memoryview(self._bytes)
        self._views = [view[i * NONCE_SIZE : (i + 1) * NONCE_SIZE] for i in range(2 * self._BLOCK)]
        self._owner: object = None
        self._first = 0

    def pattern(self, iv: bytes) -> int:
        """What the table of one key starts from; computed once a key."""
        return int.from_bytes(iv, "little") * self._ONES ^ self._RAMP

    def take(self, pattern: int, first: int, count: int) -> list[memoryview]:
        """Nonces for `count` (at most 64) counters from `first`, valid until the next call."""
        at = first - self._first
        if self._owner is not pattern or at < 0 or at + count > 2 * self._BLOCK:
            base = first & ~(self._BLOCK - 1)
            half = self._SIZE
            self._bytes[:half] = (pattern ^ (base << 32) * self._ONES).to_bytes(half, "little")
            base += self._BLOCK
            self._bytes[half:] = (pattern ^ (base << 32) * self._ONES).to_bytes(half, "little")
            self._first, self._owner = base - self._BLOCK, pattern
            at = first - self._first
        return self._views[at : at + count]


SEAL_NONCES: Final = Nonces()
OPEN_NONCES: Final = Nonces()


class Sealer(Protocol):
    """One sending key."""

    def seal_burst(self, places: Places, at: int, index: int, run: bool, first: int, count: int, last: int) -> None:
        """Write headers and sealed plaintexts of `count` packets from place `at`, counters from `first`.

        `last` is the plaintext size of the last one (at most `places.length`; it then ends early). The caller has
        made
        sure that no counter is used twice.
        """

    def seal_one(self, header: bytes, counter: int, plain: memoryview) -> bytes:
        """What follows `header` in the datagram of one packet: few steps, for the packet that comes alone."""


class Opener(Protocol):
    """One receiving key."""

    def open_burst(self, places: Places, at: int, first: int, count: int, last: int) -> bool:
        """Open the datagrams in places `at` to `at + count - 1`, counters from `first`, each header as AAD.

        False when one does not authenticate: then nothing in the plaintext places may be used.
        """

    def open_one(self, counter: int, head: memoryview, body: memoryview, plain: memoryview) -> bool:
        """Open one datagram into `plain`, which has just its size; False as in `open_burst`."""


class AeadSealer:
    """Policy 0: header || AEAD(plaintext)."""

    __slots__ = ("_encrypt", "_encrypt_one", "_iv", "_pattern")

    def __init__(self, aead: Aead, key: Secret, iv: bytes) -> None:
        cipher = aead.cipher(key)
        self._encrypt, self._encrypt_one = cipher.encrypt_into, cipher.encrypt
        self._pattern = SEAL_NONCES.pattern(iv)
        self._iv = int.from_bytes(iv, "little")

    def seal_one(self, header: bytes, counter: int, plain: memoryview) -> bytes:
        """See `Sealer`."""
        return self._encrypt_one((self._iv ^ counter << 32).to_bytes(NONCE_SIZE, "little"), plain, header)

    def seal_burst(self, places: Places, at: int, index: int, run: bool, first: int, count: int, last: int) -> None:
        """See `Sealer`."""
        places.header(at, index, run, first, count)
        nonces = SEAL_NONCES.take(self._pattern, first, count)
        heads, bodies, plains = places.heads, places.bodies, places.plains
        if at:
            heads, bodies, plains = heads[at:], bodies[at:], plains[at:]
        if last == places.length:
            _consume(map(self._encrypt, nonces, plains, heads, bodies))
            return
        end = count - 1
        _consume(map(self._encrypt, nonces[:end], plains, heads, bodies))
        self._encrypt(nonces[end], plains[end][:last], heads[end], bodies[end][: last + TAG_SIZE])


class AeadOpener:
    """Policy 0."""

    __slots__ = ("_decrypt", "_iv", "_pattern")

    def __init__(self, aead: Aead, key: Secret, iv: bytes) -> None:
        self._decrypt = aead.cipher(key).decrypt_into
        self._pattern = OPEN_NONCES.pattern(iv)
        self._iv = int.from_bytes(iv, "little")

    def open_one(self, counter: int, head: memoryview, body: memoryview, plain: memoryview) -> bool:
        """See `Opener`."""
        nonce = (self._iv ^ counter << 32).to_bytes(NONCE_SIZE, "little")
        try:
            self._decrypt(nonce, body, head, plain)
        except InvalidTag:
            return False
        return True

    def open_burst(self, places: Places, at: int, first: int, count: int, last: int) -> bool:
        """See `Opener`."""
        nonces = OPEN_NONCES.take(self._pattern, first, count)
        heads, bodies, plains = places.heads, places.bodies, places.plains
        if at:
            heads, bodies, plains = heads[at:], bodies[at:], plains[at:]
        try:
            if last == places.length:
                _consume(map(self._decrypt, nonces, bodies, heads, plains))
            else:
                end = count - 1
                _consume(map(self._decrypt, nonces[:end], bodies, heads, plains))
                self._decrypt(nonces[end], bodies[end][: last + TAG_SIZE], heads[end], plains[end][:last])
        except InvalidTag:
            return False
        return True


class AuthSealer:
    """Policy 1: header || plaintext || tag over both. Packet by packet: a degraded mode need not be fast."""

    __slots__ = ("_encrypt", "_iv", "_pattern")

    def __init__(self, aead: Aead, key: Secret, iv: bytes) -> None:
        self._encrypt = aead.cipher(key).encrypt
        self._pattern = SEAL_NONCES.pattern(iv)
        self._iv = iv

    def seal_one(self, header: bytes, counter: int, plain: memoryview) -> bytes:
        """See `Sealer`."""
        nonce = transport_nonce(self._iv, counter)
        return b"".join((plain, self._encrypt(nonce, b"", b"".join((header, plain)))))

    def seal_burst(self, places: Places, at: int, index: int, run: bool, first: int, count: int, last: int) -> None:
        """See `Sealer`."""
        places.header(at, index, run, first, count)
        for i, nonce in enumerate(SEAL_NONCES.take(self._pattern, first, count), at):
            length = places.length if i < at + count - 1 else last
            plain = places.plains[i][:length]
            body = places.bodies[i]
            body[:length] = plain
            body[length : length + TAG_SIZE] = self._encrypt(nonce, b"", b"".join((places.heads[i], plain)))


class AuthOpener:
    """Policy 1."""

    __slots__ = ("_decrypt", "_iv", "_pattern")

    def __init__(self, aead: Aead, key: Secret, iv: bytes) -> None:
        self._decrypt = aead.cipher(key).decrypt
        self._pattern = OPEN_NONCES.pattern(iv)
        self._iv = iv

    def open_one(self, counter: int, head: memoryview, body: memoryview, plain: memoryview) -> bool:
        """See `Opener`."""
        try:
            self._decrypt(transport_nonce(self._iv, counter), body[-TAG_SIZE:], b"".join((head, body[:-TAG_SIZE])))
        except InvalidTag:
            return False
        plain[:] = body[:-TAG_SIZE]
        return True

    def open_burst(self, places: Places, at: int, first: int, count: int, last: int) -> bool:
        """See `Opener`."""
        for i, nonce in enumerate(OPEN_NONCES.take(self._pattern, first, count), at):
            length = places.length if i < at + count - 1 else last
            body = places.bodies[i]
            try:
                self._decrypt(nonce, body[length : length + TAG_SIZE], b"".join((places.heads[i], body[:length])))
            except InvalidTag:
                return False
            places.plains[i][:length] = body[:length]
        return True


def sealer(aead: Aead, policy: int, key: Secret, iv: bytes) -> Sealer:
    """The sending engine for one key; raises ValueError on keys, ivs or policies that do not exist."""
    _check(policy, iv)
    return AuthSealer(aead, key, iv) if policy else AeadSealer(aead, key, iv)


def opener(aead: Aead, policy: int, key: Secret, iv: bytes) -> Opener:
    """The receiving engine for one key; raises ValueError on keys, ivs or policies that do not exist."""
    _check(policy, iv)
    return AuthOpener(aead, key, iv) if policy else AeadOpener(aead, key, iv)


def _check(policy: int, iv: bytes) -> None:
    if len(iv) != len(ZERO_NONCE) or policy not in (0, 1):
        raise ValueError("an iv has 12 bytes, a policy is 0 or 1")
