"""Wire layouts: the sizes that the specification names, reserved bits, addresses."""

import dataclasses

import pytest

from pqvpn.crypto.aead import Aead
from pqvpn.drops import DropReason
from pqvpn.wire import control, handshake, offer, transport
from pqvpn.wire.address import Address
from pqvpn.wire.cookie import CookieReply, parse_reply
from pqvpn.wire.handshake import Fragment, Msg, parse_fragment

PAY = offer.Pay(aeads=3, lanes=4, mtu=1432, policy=1, boot_id=b"bootboot", trace_flags=1)
PARAMS = offer.Params(Aead.CHACHA20_POLY1305, lanes=4, mtu=1432, policy=0, trace_flags=1)


def test_message_sizes():
    assert {msg.name: size for msg, size in handshake.BODY_SIZES.items()} == {
        "M1": 2432, "M2": 2440, "M3": 184, "M1C": 3656,
    }  # fmt: skip
    sizes = {msg.name: [handshake.datagram_size(msg, i) for i in range(handshake.COUNTS[msg])] for msg in Msg}
    assert sizes == {
        "M1": [1072, 1072, 432],
        "M2": [1056, 1056, 424],
        "M3": [216],
        "M1C": [1072, 1072, 1072, 632],
    }
    assert max(max(each) for each in sizes.values()) + 48 <= 1280


def datagram(msg=Msg.M1, idx=0, index=0x10):
    return handshake.header(msg, idx, index, 7) + bytes(handshake.datagram_size(msg, idx) - 16)


@pytest.mark.parametrize("msg", Msg)
def test_fragments(msg):
    for idx in range(handshake.COUNTS[msg]):
        fragment = parse_fragment(datagram(msg, idx))
        assert isinstance(fragment, Fragment)
        assert (fragment.msg, fragment.idx, fragment.index, fragment.msg_id) == (msg, idx, 0x10, 7)
        assert len(fragment.mac2) == (16 if msg in (Msg.M1, Msg.M1C) else 0)
        for other in (datagram(msg, idx)[:-1], datagram(msg, idx) + b"\0"):
            assert parse_fragment(other) is DropReason.MALFORMED


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 2), (2, 0), (2, 5), (3, 0x30 | 3), (3, 0x04), (3, 0x02), (4, 0x00), (4, 0x11)],
)
def test_fragment_headers_are_strict(place, value):
    spoiled = bytearray(datagram())
    spoiled[place] = value
    assert parse_fragment(bytes(spoiled)) is DropReason.MALFORMED


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_told_apart(version):
    spoiled = bytearray(datagram())
    spoiled[1] = version
    assert parse_fragment(bytes(spoiled)) is DropReason.VERSION
    assert parse_fragment(bytes(spoiled[:16])) is DropReason.VERSION  # whatever its lengths are
    assert parse_fragment(bytes(spoiled[:15])) is DropReason.MALFORMED
    reply = bytearray(CookieReply(Msg.M1, 0x10, 7, bytes(12), bytes(32)).encode())
    reply[1] = version
    assert parse_reply(bytes(reply)) is DropReason.VERSION


def test_bodies_round_trip():
    m1 = handshake.M1(b"e" * 1216, b"s" * 1120, b"i" * 48, b"p" * 48)
    assert handshake.parse_m1(m1.encode()) == m1
    assert handshake.parse_m1(m1.encode(), Msg.M1C) is DropReason.MALFORMED
    m1c = m1._replace(who_ct=b"c" * 1272)
    assert handshake.parse_m1(m1c.encode(), Msg.M1C) == m1c
    m2 = handshake.M2(0x20, b"e" * 1120, b"i" * 1136, b"b" * 148, b"c" * 32)
    assert handshake.parse_m2(m2.encode()) == m2
    assert handshake.parse_m2(m2._replace(sidr=0x21).encode()) is DropReason.MALFORMED
    assert handshake.parse_m2(m2._replace(sidr=0).encode()) is DropReason.MALFORMED
    m3 = handshake.M3(0x20, b"b" * 148, b"c" * 32)
    assert handshake.parse_m3(m3.encode()) == m3
    assert handshake.parse_m3(m3._replace(sidi=0x2F).encode()) is DropReason.MALFORMED
    for parse in (handshake.parse_m1, handshake.parse_m2, handshake.parse_m3):
        assert parse(b"short") is DropReason.MALFORMED


def test_offer_round_trips():
    assert offer.parse_pay(PAY.encode()) == PAY
    assert offer.parse_params(PARAMS.encode()) == PARAMS
    assert (len(PAY.encode()), len(PARAMS.encode())) == (32, 16)


@pytest.mark.parametrize(
    "change",
    [{"lanes": 0}, {"lanes": 17}, {"mtu": 575}, {"mtu": 2041}, {"policy": 2}],
)
def test_ranges(change):
    assert offer.parse_pay(PAY._replace(**change).encode()) is DropReason.BAD_HANDSHAKE
    assert offer.parse_params(PARAMS._replace(**change).encode()) is DropReason.BAD_HANDSHAKE


def test_pay_ignores_unknown_bits_but_not_the_reserved_bytes():
    lavish = PAY._replace(aeads=0xFF, features=0xFFFF, trace_flags=0xFF)
    assert offer.parse_pay(lavish.encode()) == PAY
    for place in range(15, 31):
        spoiled = bytearray(PAY.encode())
        spoiled[place] = 1
        assert offer.parse_pay(bytes(spoiled)) is DropReason.BAD_HANDSHAKE


@pytest.mark.parametrize("change", [{"aead": 0}, {"aead": 3}, {"aead": 4}, {"features": 1}, {"trace_flags": 2}])
def test_params_refuse_unknown_bits(change):
    assert offer.parse_params(PARAMS._replace(**change).encode()) is DropReason.BAD_HANDSHAKE
    assert offer.parse_params(PARAMS.encode()[:-1] + b"\x01") is DropReason.BAD_HANDSHAKE


def test_cookie_reply():
    reply = CookieReply(Msg.M1C, 0x10, 7, bytes(12), bytes(32))
    assert parse_reply(reply.encode()) == reply
    for place, value in ((0, 1), (2, 2), (2, 3), (3, 0), (4, 0x11), (4, 0)):
        spoiled = bytearray(reply.encode())
        spoiled[place] = value
        assert parse_reply(bytes(spoiled)) is DropReason.MALFORMED
    assert parse_reply(reply.encode()[:-1]) is DropReason.MALFORMED


HEADER = transport.Header(lane=3, run=True, seg_idx=5, index=0x13, counter=2**40)


def test_transport_header():
    packet = HEADER.encode() + bytes(24)
    assert transport.parse_header(packet) == HEADER
    assert transport.parse_header(packet[:-1]) is DropReason.MALFORMED
    wrong_lane = dataclasses.replace(HEADER, lane=4).encode() + bytes(24)
    assert transport.parse_header(wrong_lane) is DropReason.WRONG_LANE
    for change in ({"seg_idx": 64}, {"run": False}):
        spoiled = dataclasses.replace(HEADER, **change).encode() + bytes(24)
        assert transport.parse_header(spoiled) is DropReason.MALFORMED
    for place, value in ((0, 3), (1, 0x33), (1, 0x93)):
        reserved = bytearray(packet)
        reserved[place] = value
        assert transport.parse_header(bytes(reserved)) is DropReason.MALFORMED


@pytest.mark.parametrize(
    ("plaintext", "verdict"),
    [
        (bytes(7), DropReason.BAD_LENGTH),
        (b"\x40" + bytes(7), DropReason.UNKNOWN_KIND),
        (b"\xf0" + bytes(7), DropReason.UNKNOWN_KIND),
        (b"\x02" + bytes(7), DropReason.BAD_META),
        (b"\x00\x02" + bytes(6), DropReason.BAD_META),
        (b"\x00\x03" + bytes(6), DropReason.BAD_META),
        (b"\x00\x81" + bytes(6), DropReason.BAD_META),
        (b"\x00\x00\x00\x00\x14\x00\x00\x00", DropReason.BAD_META),  # checksum fields without NEEDS_CSUM
        (b"\x11" + bytes(7), DropReason.BAD_META),
        (b"\x30" + bytes(6) + b"\x01", DropReason.BAD_META),
        (b"\x21" + bytes(7), DropReason.BAD_META),
        (b"\x20" + bytes(5) + b"\x01\x00", DropReason.BAD_LENGTH),
    ],
)
def test_meta_refusals(plaintext, verdict):
    assert transport.parse_meta(plaintext) is verdict


@pytest.mark.parametrize(
    ("data", "size"), [(0, 16), (8, 16), (9, 32), (1431, 1440), (1432, 1440), (1425, 1440), (1424, 1440)]
)
def test_padding(data, size):
    assert transport.padded_size(data, 1432) == size
    assert transport.HEADER_SIZE + transport.padded_size(0, 1432) + 16 == transport.KEEPALIVE_SIZE


def test_control_frames_refuse():
    assert control.parse_frame(b"") is DropReason.BAD_LENGTH
    assert control.parse_frame(b"\x10abc") is DropReason.UNKNOWN_KIND
    assert control.parse_frame(b"\x00") is DropReason.UNKNOWN_KIND
    for frame in (control.PathChallenge(bytes(8)), control.Close(0), control.MtuAck(1, 2)):
        assert control.parse_frame(frame.encode()) == frame
        assert control.parse_frame(frame.encode()[:-1]) is DropReason.BAD_LENGTH
    assert control.parse_frame(control.Close(9).encode()) == control.Close(9)


def test_addresses():
    mapped = Address.from_socket(("::ffff:192.0.2.1", 51820, 0, 0))
    assert mapped == Address(bytes((192, 0, 2, 1)), 51820) == Address.from_socket(("192.0.2.1", 51820))
    assert Address.of(bytes(10) + b"\xff\xff" + mapped.ip, 51820) == mapped
    assert str(mapped) == "192.0.2.1:51820"
    assert mapped.to_socket() == ("::ffff:192.0.2.1", 51820, 0, 0)
    assert mapped.packed() == mapped.ip + b"\x6c\xca"
    assert mapped.network() == mapped.ip
    six = Address.parse("[2001:db8::1]:1")
    assert (str(six), six.is_ipv6, len(six.packed())) == ("[2001:db8::1]:1", True, 18)
    assert six.network() == six.ip[:8]
    assert Address.from_socket(six.to_socket()) == six
    assert Address.from_socket(("fe80::1%eth0", 1, 0, 2)).host() == "fe80::1"
    for text in (
        "",
        "1.2.3.4",
        "2001:db8::1:1",
        "[1.2.3.4]:1",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:65536",
        "h:1",
        "[::1]1",
    ):
        with pytest.raises(ValueError, match=r".+"):
            Address.parse(text)
    with pytest.raises(ValueError, match="4 or 16"):
        Address.of(bytes(5), 1)
