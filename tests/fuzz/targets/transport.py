"""Invariant: what the checks of header, meta and inner packet let pass has every offset the kernel gets inside the packet.

An input is a header (16), then a plaintext as if it had authenticated: the peer may be hostile.
"""

from pqvpn.dataplane import inner
from pqvpn.drops import DropReason
from pqvpn.wire import transport
from pqvpn.wire.transport import Kind, Meta, RelayMeta


def check(data: bytes) -> None:
    header = transport.parse_header(data)
    if isinstance(header, DropReason):
        assert header in (DropReason.MALFORMED, DropReason.WRONG_LANE)
    else:
        assert header.encode() == data[:16]
        assert header.lane == header.index & 15
        assert header.seg_idx < (64 if header.run else 1)
    plaintext = data[16:]
    meta = transport.parse_meta(plaintext)
    if isinstance(meta, DropReason):
        assert meta in (DropReason.BAD_LENGTH, DropReason.BAD_META, DropReason.UNKNOWN_KIND)
        if len(plaintext) >= 8 and not plaintext[0] >> 4:
            _inner(plaintext, None)
    elif isinstance(meta, RelayMeta):
        assert meta.encode() == plaintext[:8]
        assert meta.length <= len(plaintext) - 8
    else:
        assert meta.encode() == plaintext[:8]
        if meta.kind is Kind.IP:
            _inner(plaintext, meta)


def _inner(plaintext: bytes, meta: Meta | None) -> None:
    buffer = bytearray(plaintext)
    data = len(buffer) - 8
    length = inner.length_of(buffer, 8, data)
    if not length:
        return
    assert 20 <= length <= data
    verdict = inner.check_meta(buffer, 8 - 8, length)
    assert verdict in (inner.OK, DropReason.BAD_META)
    if verdict == inner.OK:
        assert meta is not None  # what the wire refuses the inner check refuses
        _fits(buffer, meta, length)
        if meta.vnet_flags:
            inner.complete_checksum(buffer, 8, length, meta.csum_start, meta.csum_off)
    for outer in range(4):
        copy = bytearray(buffer)
        if inner.merge_ecn(copy, 8, outer):
            assert len(copy) == len(buffer)
            assert copy[8 + 12 : 8 + length] == buffer[8 + 12 : 8 + length] or buffer[8] >> 4 == 4
    assert len(buffer) == len(plaintext)
    assert buffer[8 + length :] == plaintext[8 + length :]


def _fits(buffer: bytearray, meta: Meta, length: int) -> None:
    version = buffer[8] >> 4
    protocol, at = inner.transport_of(buffer, 8, length)
    if meta.vnet_flags or meta.gso_type or meta.hdr_len:
        assert protocol in (inner.TCP, inner.UDP)
        headers = inner.header_length(buffer, 8, length, protocol, at)
        assert at < headers <= length
        assert meta.hdr_len in (0, headers)
    if meta.vnet_flags:
        assert meta.csum_start == at
        assert meta.csum_start + meta.csum_off + 2 <= length
    if meta.gso_type:
        kinds = {transport.GSO_TCPV4: (4, inner.TCP), transport.GSO_TCPV6: (6, inner.TCP)}
        assert kinds.get(meta.gso_type, (version, inner.UDP)) == (version, protocol)
