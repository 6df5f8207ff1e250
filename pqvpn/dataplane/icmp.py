"""ICMP errors to the inside: what a lane tells local programs about packets that it cannot carry.

Owns their bytes and their rate limit. Sends nothing itself. The source is the destination of the packet in question:
the lane
has no address of its own, and the kernel takes errors from there.
"""

from typing import Final

from pqvpn.dataplane.inner import fold, ip_checksum, length_of, sum_words

_RATE: Final = 50.0  # a second
_BURST: Final = 20.0
_ICMP: Final = 1
_ICMPV6: Final = 58
_QUOTE_V4: Final = 548  # the whole error stays within 576 bytes (RFC 1812)
_QUOTE_V6: Final = 1232  # within 1280 (RFC 4443)


class IcmpLimit:
    """A token bucket; without it a flood of refused packets would come back as a flood of errors."""

    def __init__(self) -> None:
        self._tokens = _BURST
        self._last_ns = 0

    def allow(self, now_ns: int) -> bool:
        """Take one token, if there is one."""
        self._tokens = min(_BURST, self._tokens + (now_ns - self._last_ns) * _RATE / 1e9)
        self._last_ns = now_ns
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def prohibited(packet: bytes) -> bytes | None:
    """ "Administratively prohibited" for an IP packet: ICMP type 3 code 13, ICMPv6 type 1 code 1."""
    return _error(packet, (3, 13), (1, 1), 0)


def too_big(packet: bytes, mtu: int) -> bytes | None:
    """ "Fragmentation needed" (ICMP type 3 code 4) or "packet too big" (ICMPv6 type 2) with the MTU that fits."""
    return _error(packet, (3, 4), (2, 0), mtu)


def _error(packet: bytes, v4: tuple[int, int], v6: tuple[int, int], value: int) -> bytes | None:
    """The error packet; None when none may be sent for this packet (RFC 1122 3.2.2, RFC 4443 2.4)."""
    if len(packet) < 20 or not length_of(packet, 0, 0xFFFF + 40):
        return None
    if packet[0] >> 4 == 4:
        return _error_v4(packet, v4, value)
    return _error_v6(packet, v6, value)


def _error_v4(packet: bytes, kind: tuple[int, int], value: int) -> bytes | None:
    header = (packet[0] & 15) << 2
    source, target = packet[12:16], packet[16:20]
    later_fragment = packet[6] & 0x1F or packet[7]
    is_error = packet[9] == _ICMP and len(packet) > header and packet[header] not in (0, 8)
    if later_fragment or is_error or target[0] >= 224 or source[0] >= 224 or source == bytes(4):
        return None
    body = bytearray(bytes([*kind, 0, 0]) + value.to_bytes(4, "big") + packet[:_QUOTE_V4])
    body[2:4] = (~fold(sum_words(body)) & 0xFFFF).to_bytes(2, "big")
    head = bytearray(20)
    head[0], head[8], head[9] = 0x45, 64, _ICMP
    head[2:4] = (20 + len(body)).to_bytes(2, "big")
    head[12:20] = target + source
    ip_checksum(head, 0, 20)
    return bytes(head + body)


def _error_v6(packet: bytes, kind: tuple[int, int], value: int) -> bytes | None:
    source, target = packet[8:24], packet[24:40]
    is_error = packet[6] == _ICMPV6 and len(packet) > 40 and packet[40] < 128
    # for multicast even "too big" would need an address of our own as source
    if is_error or target[0] == 0xFF or source[0] == 0xFF or source == bytes(16):
        return None
    body = bytearray(bytes([*kind, 0, 0]) + value.to_bytes(4, "big") + packet[:_QUOTE_V6])
    pseudo = target + source + len(body).to_bytes(4, "big") + _ICMPV6.to_bytes(4, "big")
    body[2:4] = (~fold(sum_words(pseudo) + sum_words(body)) & 0xFFFF).to_bytes(2, "big")
    head = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + bytes([_ICMPV6, 64]) + target + source
    return head + bytes(body)
