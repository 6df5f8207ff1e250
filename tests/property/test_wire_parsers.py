"""Every parser takes arbitrary bytes and gives a value or a typed drop; what it accepts it writes back unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqvpn.crypto.aead import Aead
from pqvpn.drops import DropReason
from pqvpn.wire import control, cookie, handshake, offer, transport
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import Msg

SIZES = sorted({handshake.datagram_size(msg, i) for msg in Msg for i in range(handshake.COUNTS[msg])})
u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))


def sized(*sizes: int) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=80), *(st.binary(min_size=size, max_size=size) for size in sizes))


@st.composite
def near_fragments(draw):
    """Mostly right headers, so that the later checks are reached."""
    msg = draw(st.sampled_from(Msg))
    idx = draw(st.integers(0, handshake.COUNTS[msg]))
    head = bytearray(handshake.header(msg, idx & 15, draw(u32) & ~15 & 0xFFFFFFFF, draw(u64)))
    if draw(st.booleans()):
        head[draw(st.integers(0, 15))] = draw(st.integers(0, 255))
    size = handshake.datagram_size(msg, min(idx, handshake.COUNTS[msg] - 1)) + draw(st.sampled_from((0, 0, 0, -1, 1)))
    return bytes(head).ljust(size, draw(st.binary(min_size=1, max_size=1)))


@given(st.one_of(near_fragments(), sized(*SIZES)))
def test_fragments(datagram):
    parsed = handshake.parse_fragment(datagram)
    if isinstance(parsed, DropReason):
        return
    assert handshake.header(parsed.msg, parsed.idx, parsed.index, parsed.msg_id) == datagram[:16]
    assert parsed.covered + parsed.mac1 + parsed.mac2 == datagram
    assert parsed.covered[16:] == parsed.chunk


@pytest.mark.parametrize(
    ("parse", "size"),
    [
        (handshake.parse_m1, 2432),
        (lambda body: handshake.parse_m1(body, Msg.M1C), 3656),
        (handshake.parse_m2, 2440),
        (handshake.parse_m3, 184),
        (offer.parse_params, 16),
        (cookie.parse_reply, 60),
    ],
)
def test_exact_layouts(parse, size):
    @given(sized(size))
    def holds(data):
        parsed = parse(data)
        assert isinstance(parsed, DropReason) or parsed.encode() == data

    holds()


@given(sized(32))
def test_pay(data):
    parsed = offer.parse_pay(data)
    assert isinstance(parsed, DropReason) or offer.parse_pay(parsed.encode()) == parsed


@given(
    st.builds(
        offer.Pay,
        aeads=st.integers(0, 3),
        lanes=st.integers(1, 16),
        mtu=st.integers(576, 2040),
        policy=st.integers(0, 1),
        boot_id=st.binary(min_size=8, max_size=8),
        trace_flags=st.integers(0, 1),
        features=st.just(0),
    ),
    st.builds(
        offer.Params,
        aead=st.sampled_from(Aead),
        lanes=st.integers(1, 16),
        mtu=st.integers(576, 2040),
        policy=st.integers(0, 1),
        trace_flags=st.integers(0, 1),
        features=st.just(0),
    ),
)
def test_offers_round_trip(pay, params):
    assert offer.parse_pay(pay.encode()) == pay
    assert offer.parse_params(params.encode()) == params


@given(
    st.one_of(
        sized(40, 48),
        st.builds(
            lambda flags, rest: bytes((4, flags)) + rest, st.integers(0, 255), st.binary(min_size=38, max_size=60)
        ),
    )
)
def test_transport_headers(packet):
    parsed = transport.parse_header(packet)
    if isinstance(parsed, DropReason):
        return
    assert parsed.encode() == packet[:16]
    assert parsed.lane == parsed.index & 15
    assert parsed.seg_idx < 64
    assert parsed.run or parsed.seg_idx == 0


@given(st.binary(max_size=64))
def test_meta(plaintext):
    parsed = transport.parse_meta(plaintext)
    assert isinstance(parsed, DropReason) or parsed.encode() == plaintext[:8]


@given(
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda op, rest: bytes((op,)) + rest, st.integers(0, 6), st.binary(max_size=40)),
    )
)
def test_control_frames(body):
    parsed = control.parse_frame(body)
    if not isinstance(parsed, DropReason):
        assert body.startswith(parsed.encode())


@given(st.integers(0, 2040), st.integers(576, 2040))
def test_padding(data, mtu):
    data = min(data, mtu)
    size = transport.padded_size(data, mtu)
    assert 8 + data <= size <= 8 + mtu
    assert size % 16 == 0 or size == 8 + mtu
    assert size - (8 + data) < 16


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)), u16)
def test_addresses(ip, port):
    address = Address.of(ip, port)
    assert Address.parse(str(address)) == address
    assert Address.from_socket(address.to_socket()) == address
    assert len(address.packed()) == len(address.ip) + 2


@given(st.text(max_size=60))
def test_address_text(text):
    try:
        parsed = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(parsed)) == parsed
