"""What strangers and hostile peers send: counted drops, no answer larger than the question, nothing in the kernel's hands."""

import contextlib
import pathlib
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from handmadepeer import HandmadePeer, meta, udp4, udp6
from netparty import INNER4, INNER6, OUTER4, Pair, check_tcp, connected, make_pair, start

from lab import Lab, Namespace, wait_for
from lab.nodes import Node, introduce, make_node
from pqvpn.crypto.aead import ALL_AEADS, Aead

pytestmark = pytest.mark.netns

STRANGER, SEEN_BY_STRANGER = "10.0.9.2", "10.0.9.1"
MARK = b"never to be written"
FINE = b"this may be written".ljust(len(MARK))


def udp_payloads(frames: list[bytes], source: str) -> list[bytes]:
    """UDP payloads of Ethernet frames with IPv4 from `source`."""
    origin = socket.inet_aton(source)
    return [f[42:] for f in frames if f[12:14] == b"\x08\x00" and f[23] == 17 and f[26:30] == origin]


def memory(node: Node) -> int:
    """Resident bytes of all processes of a node but the spare, which comes and goes."""
    pids = [each["pid"] for each in node.status()["processes"] if each["component"] != "spare"]
    pages = [int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * 4096


@dataclass(frozen=True)
class Town:
    """A pair of nodes, and a stranger with a link to beta."""

    pair: Pair
    stranger: Namespace
    link: str
    recorded: list[bytes]  # datagrams from alpha to beta: handshake and transport

    def send(self, datagrams: list[bytes]) -> list[bytes]:
        """Send as the stranger; returns what came back by the time beta has dealt with all of it."""
        with (
            self.stranger.capture(self.link) as seen,
            self.stranger.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
        ):
            for datagram in datagrams:
                out.sendto(datagram, (SEEN_BY_STRANGER, 51820))
            wait_for("beta to read it", self._all_read)
            before = self.pair.b.drops().get("malformed", 0)
            for last in (b"\x07", b"\x04"):  # one for control, one for the lane, behind everything else
                out.sendto(last, (SEEN_BY_STRANGER, 51820))
            wait_for("beta to count the last", lambda: self.pair.b.drops().get("malformed", 0) >= before + 2)
        assert seen.dropped == 0
        return udp_payloads(seen.frames, SEEN_BY_STRANGER)

    def _all_read(self) -> bool:
        """Whether nothing waits in beta's sockets."""
        table = self.pair.b.namespace.run(["cat", "/proc/net/udp6"]).stdout
        sockets = [line.split() for line in table.splitlines()[1:]]
        queues = [each[4] for each in sockets if each[1].endswith(f":{51820:04X}")]
        assert queues
        return all(queue.endswith(":00000000") for queue in queues)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with Lab() as lab:
        pair = make_pair(lab, start_them=False)
        stranger = lab.namespace("stranger")
        link = lab.link(stranger, pair.b.namespace, [f"{STRANGER}/24"], [f"{SEEN_BY_STRANGER}/24"])
        with pair.a.namespace.capture(pair.link.near) as seen:
            start(pair.b, pair.a)
            connected(*pair.nodes)
            check_tcp(pair.a.namespace, pair.b.namespace, INNER4[1], 100_000)
        # the observer comes last, and what it loads is no stranger's doing
        wait_for("beta's observer to answer", lambda: pair.b.cli("health", check=False).returncode == 0)
        recorded = [d for d in udp_payloads(seen.frames, OUTER4[0]) if len(d) <= 1472]
        assert {d[0] for d in recorded} == {1, 4}
        yield Town(pair, stranger, link.near, recorded)


def check_tunnel(town: Town, session: str) -> None:
    """The tunnel goes on as before, to the same place, in full security."""
    check_tcp(town.pair.a.namespace, town.pair.b.namespace, INNER4[1], 500_000)
    peer = town.pair.b.peer("alpha")
    assert (peer["session_id"], peer["endpoint"]) == (session, f"{OUTER4[0]}:51820")
    assert (peer["security"], town.pair.b.status()["node"]["security"]) == ("full", "full")
    assert {process["restarts"] for process in town.pair.b.status()["processes"]} == {0}  # spares are among them
    breakers = town.pair.b.ask("breakers")["breakers"]
    assert {row["state"] for row in breakers} == {"closed"}
    assert {row["failures"] for row in breakers} == {0}
    assert len(breakers) <= 4 + 1 + 1 + 1  # cryptography, one peer, netlink, at most one name


def test_garbage_is_counted_and_not_answered(town: Town) -> None:
    session, before = town.pair.b.peer("alpha")["session_id"], memory(town.pair.b)
    dice = random.Random(7)
    garbage = [
        bytes([kind]) + dice.randbytes(size) for kind in range(7) for size in (0, 1, 15, 31, 47, 59, 215, 1071, 1400)
    ]
    garbage += [dice.randbytes(dice.randrange(1, 1400)) for _ in range(300)] + [b""]
    assert town.send(garbage) == []
    assert set(town.pair.b.drops()) <= {
        "malformed",
        "version",
        "wrong_lane",
        "unknown_index",
        "mac1",
        "no_attempt",
        "bad_cookie",
    }
    check_tunnel(town, session)
    assert memory(town.pair.b) < before + (16 << 20)


def test_what_was_recorded_is_of_no_use_when_replayed_or_cut(town: Town) -> None:
    session, before = town.pair.b.peer("alpha")["session_id"], dict(town.pair.b.drops())
    transport = [d for d in town.recorded if d[0] == 4]
    assert town.send(transport) == []
    assert town.send([d[: len(d) * i // 7] for d in town.recorded[:20] for i in range(1, 7)]) == []
    flipped = [bytearray(d) for d in transport]
    for each in flipped:
        each[-1] ^= 1
    assert town.send([bytes(each) for each in flipped]) == []
    assert town.pair.b.drops()["replay"] >= before.get("replay", 0) + len(transport)
    check_tunnel(town, session)


def test_replayed_handshakes_are_never_answered_with_more_than_they_were(town: Town) -> None:
    session, before = town.pair.b.peer("alpha")["session_id"], memory(town.pair.b)
    first = [d for d in town.recorded if d[0] == 1 and d[2] == 1][:3]
    others = [d for d in town.recorded if d[0] == 1 and d[2] != 1]
    assert (len(first), len(others)) >= (3, 1)
    assert town.send(others) == []  # M3 of another address
    sent = first * 100
    answers = town.send(sent)
    assert answers, "M1 is not authenticated: a replay is answered, within limits"
    assert sum(map(len, answers)) <= sum(map(len, sent))
    assert {a[:3] for a in answers} <= {b"\x01\x01\x02", b"\x03\x01\x01"}  # M2, cookie reply
    assert len(answers) < 3 * 60
    check_tunnel(town, session)
    assert memory(town.pair.b) < before + (16 << 20)


# -- a peer that has the keys and wishes harm


@contextlib.contextmanager
def besieged(aeads: int = ALL_AEADS) -> Iterator[tuple[HandmadePeer, Node]]:
    """A node and its handmade peer that offers these ciphers."""
    with Lab() as lab:
        left, right = lab.namespace("mallory"), lab.namespace("beta")
        lab.link(left, right, [f"{OUTER4[0]}/24"], [f"{OUTER4[1]}/24"], mtu=4000)
        mallory = make_node(lab, left, "mallory", ["10.7.0.1/24", "fd07::1/64"])
        beta = make_node(lab, right, "beta", ["10.7.0.2/24", "fd07::2/64"])
        introduce(mallory, beta, None, OUTER4[1])
        start(beta)
        peer = HandmadePeer(left, mallory, aeads)
        try:
            peer.connect()
            yield peer, beta
        finally:
            peer.close()


@pytest.fixture(scope="module")
def siege() -> Iterator[tuple[HandmadePeer, Node]]:
    with besieged() as both:
        yield both


ME, YOU = INNER4
GOOD = udp4(ME, YOU, MARK)
TCP = udp4(ME, YOU, b"\x00\x00\x00\x00\x50\x10" + bytes(12) + MARK, protocol=6)
HOSTILE: dict[str, tuple[str, Callable[[HandmadePeer], None]]] = {
    "spoofed-v4": ("source_not_allowed", lambda p: p.send(meta() + udp4("10.7.0.3", YOU, MARK))),
    "spoofed-as-the-victim": ("source_not_allowed", lambda p: p.send(meta() + udp4(YOU, YOU, MARK))),
    "spoofed-v6": ("source_not_allowed", lambda p: p.send(meta() + udp6("fd07::3", INNER6[1], MARK))),
    "longer-than-it-is": ("bad_length", lambda p: p.send(meta() + udp4(ME, YOU, MARK, length=1400))),
    "shorter-than-a-header": ("bad_length", lambda p: p.send(meta() + udp4(ME, YOU, MARK, length=19))),
    "header-longer-than-all": ("bad_length", lambda p: p.send(meta() + udp4(ME, YOU, MARK, version=0x4F, length=40))),
    "no-ip-version": ("bad_length", lambda p: p.send(meta() + udp4(ME, YOU, MARK, version=0x55))),
    "v6-without-length": ("bad_length", lambda p: p.send(meta() + udp6(INNER6[0], INNER6[1], MARK, length=0))),
    "v6-too-long": ("bad_length", lambda p: p.send(meta() + udp6(INNER6[0], INNER6[1], MARK, length=1300))),
    "nothing": ("bad_length", lambda p: p.send(meta())),
    "larger-than-agreed": ("bad_length", lambda p: p.send(meta() + udp4(ME, YOU, MARK.ljust(1500)))),
    "unknown-gso": ("bad_meta", lambda p: p.send(meta(1, 3, 28, 20, 6) + GOOD)),
    "gso-of-another-protocol": ("bad_meta", lambda p: p.send(meta(1, 1, 28, 20, 6) + GOOD)),
    "gso-of-another-version": ("bad_meta", lambda p: p.send(meta(1, 4, 40, 20, 16) + TCP)),
    "gso-ecn-bit": ("bad_meta", lambda p: p.send(meta(1, 0x81, 40, 20, 16) + TCP)),
    "header-length": ("bad_meta", lambda p: p.send(meta(1, 5, 60000, 20, 6) + GOOD)),
    "checksum-start": ("bad_meta", lambda p: p.send(meta(1, 0, 28, 65535, 6) + GOOD)),
    "checksum-start-in-the-ip-header": ("bad_meta", lambda p: p.send(meta(1, 0, 28, 10, 0) + GOOD)),
    "checksum-offset": ("bad_meta", lambda p: p.send(meta(1, 0, 28, 20, 16) + GOOD)),
    "checksum-fields-without-the-flag": ("bad_meta", lambda p: p.send(meta(0, 0, 28, 20, 6) + GOOD)),
    "more-flags": ("bad_meta", lambda p: p.send(meta(3, 0, 28, 20, 6) + GOOD)),
    "checksum-of-icmp": ("bad_meta", lambda p: p.send(meta(1, 0, 28, 20, 6) + udp4(ME, YOU, MARK, protocol=1))),
    "checksum-of-a-fragment": ("bad_meta", lambda p: p.send(meta(1, 0, 28, 20, 6) + udp4(ME, YOU, MARK, fragment=8192))),
    "relay": ("unknown_kind", lambda p: p.send(meta(0x20) + GOOD)),
    "unknown-kind": ("unknown_kind", lambda p: p.send(meta(0xF0) + GOOD)),
    "unknown-operation": ("unknown_kind", lambda p: p.send(meta(0x10) + b"\x7f" + MARK)),
    "keepalive-with-meta": ("bad_meta", lambda p: p.send(meta(0x31, 1, 2, 3, 4) + MARK)),
    "empty-control": ("bad_length", lambda p: p.send(meta(0x10))),
    "lane-bits-differ": ("wrong_lane", lambda p: p.send(meta() + GOOD, flags=1)),
    "no-such-lane": ("wrong_lane", lambda p: p.send(meta() + GOOD, flags=1, index=1)),
    "segment-without-run": ("malformed", lambda p: p.send(meta() + GOOD, segment=1)),
    "segment-64": ("malformed", lambda p: p.send(meta() + GOOD, flags=16, segment=64)),
    "reserved-flag": ("malformed", lambda p: p.send(meta() + GOOD, flags=32)),
    "counter-at-the-stop": ("counter_limit", lambda p: p.send(meta() + GOOD, counter=1 << 28)),
    "counter-of-another-age": ("counter_limit", lambda p: p.send(meta() + GOOD, counter=(1 << 64) - 1)),
    "run-with-a-spoofed-tail": (
        "source_not_allowed",
        lambda p: p.send_run([meta(1, 5, 28, 20, 6) + udp4(ME, YOU, FINE), meta(1, 5, 28, 20, 6) + udp4("10.7.0.3", YOU, MARK)]),
    ),
    "run-with-bad-meta-at-the-tail": (
        "bad_meta",
        lambda p: p.send_run([meta(1, 5, 28, 20, 6) + udp4(ME, YOU, FINE), meta(1, 5, 28, 22, 6) + udp4(ME, YOU, MARK)]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_peer_causes_a_counted_drop_and_no_write(siege: tuple[HandmadePeer, Node], name: str) -> None:
    peer, beta = siege
    reason, act = HOSTILE[name]
    before = beta.drops().get(reason, 0)
    with beta.namespace.capture("pqvpn0", watch=[MARK, b"a good one"]) as seen:
        act(peer)
        wait_for(f"{reason} to be counted", lambda: beta.drops().get(reason, 0) == before + 1)
        with beta.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.bind((YOU, 5700))
            sink.settimeout(5)
            peer.send(meta() + udp4(ME, YOU, b"a good one"))
            assert sink.recv(100) == b"a good one"
    assert seen.hits == {MARK: 0, b"a good one": 1}


def test_a_replay_by_the_peer_itself_is_counted_once_each(siege: tuple[HandmadePeer, Node]) -> None:
    peer, beta = siege
    before = beta.drops().get("replay", 0)
    datagram = peer.seal(meta() + udp4(ME, YOU, b"only once"))
    with beta.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:  # else an ICMP error quotes it
        sink.bind((YOU, 5700))
        with beta.namespace.capture("pqvpn0", watch=[b"only once"]) as seen:
            for _ in range(4):
                peer.socket.sendto(datagram, peer.to)
            wait_for("the replays", lambda: beta.drops().get("replay", 0) == before + 3)
    assert seen.hits[b"only once"] == 1
    assert beta.status()["node"]["security"] == "full"


def test_a_peer_that_offers_chacha20_only_gets_it() -> None:
    with besieged(Aead.CHACHA20_POLY1305) as (peer, beta):
        assert beta.wait_for_peer("mallory")["suite"].endswith("ChaCha20-Poly1305")
        with beta.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
            echo.bind((YOU, 5700))
            echo.settimeout(5)
            peer.send(meta() + udp4(ME, YOU, b"there"))
            data, origin = echo.recvfrom(100)
            echo.sendto(data + b" and back", origin)
        answers = iter(lambda: peer.open(peer.socket.recv(65536)), b"")
        assert any(b"there and back" in answer for answer in answers)
