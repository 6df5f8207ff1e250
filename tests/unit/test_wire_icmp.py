"""ICMP errors: every code has its word, and only what quotes a UDP datagram whole enough says anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icmp_packets import UDP, V4, V6, icmp4, icmp6, quoted4

from pqvpn.wire.icmp import IcmpError, parse_icmp, parse_icmp6


@pytest.mark.parametrize(
    ("codes", "word"),
    [
        ((0, 5, 6, 11), "net_unreachable"),
        ((1, 7, 8, 12), "host_unreachable"),
        ((2, 3), "port_unreachable"),
        ((4,), "too_big"),
        ((9, 10, 13, 14, 15), "prohibited"),
    ],
)
def test_codes_of_ipv4(codes: tuple[int, ...], word: str) -> None:
    for code in codes:
        assert parse_icmp(icmp4(code)) == IcmpError(word, V4, 51820)


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        (1, 0, "net_unreachable"), (1, 1, "prohibited"), (1, 2, "net_unreachable"), (1, 3, "host_unreachable"),
        (1, 4, "port_unreachable"), (1, 5, "prohibited"), (1, 6, "prohibited"), (2, 0, "too_big"),
    ],
)  # fmt: skip
def test_codes_of_ipv6(kind: int, code: int, word: str) -> None:
    assert parse_icmp6(icmp6(kind, code)) == IcmpError(word, V6, 51820)


def test_options_and_first_fragments_are_passed_over() -> None:
    assert parse_icmp(icmp4(quoted=quoted4(words=7) + UDP, words=6)) == IcmpError("port_unreachable", V4, 51820)
    assert parse_icmp(icmp4(quoted=quoted4(fragment=0x2000) + UDP))  # more fragments: this is the first
    first = bytes([17, 0, 0, 1]) + bytes(4)
    assert parse_icmp6(icmp6(following=44, between=first)) == IcmpError("port_unreachable", V6, 51820)


@pytest.mark.parametrize(
    "packet",
    [
        icmp4(kind=0), icmp4(kind=8), icmp4(kind=11), icmp4(code=16), icmp4(protocol=6), icmp4(words=4),
        icmp4(quoted=quoted4(protocol=6) + UDP), icmp4(quoted=quoted4(fragment=1) + UDP),
        icmp4(quoted=quoted4(fragment=0x100) + UDP), icmp4(quoted=quoted4() + UDP[:3]), icmp4(quoted=quoted4()[:19]),
        icmp4(quoted=b"\x65" + quoted4()[1:] + UDP), icmp4(quoted=quoted4(words=4) + UDP), b"\x60" + icmp4()[1:],
    ],
)  # fmt: skip
def test_other_ipv4_packets_say_nothing(packet: bytes) -> None:
    assert parse_icmp(packet) is None


@pytest.mark.parametrize(
    "message",
    [
        icmp6(kind=3), icmp6(kind=129), icmp6(kind=1, code=7), icmp6(following=6), icmp6(udp=UDP[:3]),
        icmp6(following=44, between=bytes([17, 0, 0, 9]) + bytes(4)), icmp6(following=44, udp=b""),
        icmp6(following=44, between=bytes([6, 0, 0, 1]) + bytes(4)), icmp6()[:47],
    ],
)  # fmt: skip
def test_other_icmpv6_messages_say_nothing(message: bytes) -> None:
    assert parse_icmp6(message) is None


@given(st.binary(max_size=120), st.integers(0, 60), st.binary(max_size=4))
def test_arbitrary_bytes_and_spoiled_packets_raise_nothing(data: bytes, place: int, change: bytes) -> None:
    for parse, good in ((parse_icmp, icmp4()), (parse_icmp6, icmp6())):
        for packet in (data, good[:place], good[:place] + change + good[place + len(change) :]):
            found = parse(packet)
            assert found is None or (isinstance(found, IcmpError) and 0 <= found.port <= 0xFFFF)
