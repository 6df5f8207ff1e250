"""`python -m tests.fuzz.make_corpus`: write the seeds in `corpus/` anew, from the published vectors and a few words of each
format. The files are kept in the repository, so that a change of a format shows as a change of its seeds.
"""

import shutil
import struct

from pqvpn.config.sample import render
from pqvpn.control import supervision
from pqvpn.crypto.secret import Secret
from pqvpn.dataplane import commands, events, start
from pqvpn.identity import text
from pqvpn.identity.private_key import IdentityKey
from pqvpn.protocol.settings import Timers
from pqvpn.telemetry.spool import Kind, layout
from pqvpn.wire import control, transport
from pqvpn.wire.address import Address
from tests.fuzz import driver, parties
from tests.otlp import payloads

Seeds = dict[str, bytes]
_DEGRADED = parties.PAY[:6] + b"\1" + parties.PAY[7:]  # offers auth-plaintext
_HERE = Address.parse("192.0.2.1:51820")


def main() -> None:
    """Write every target's folder."""
    for name in driver.names():
        folder = driver.corpus_folder(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for seed, data in globals()[f"_{name}"]().items():
            (folder / seed).write_bytes(data)


def _unhex(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


def _reassembler() -> Seeds:
    def steps(*order: tuple[int, int, int, int, int]) -> bytes:
        return b"".join(bytes(step) for step in order)

    return {
        "in-order": steps(*((9, 0, i, 0, 1) for i in range(3))),
        "m1c-reversed": steps(*((9, 1, i, 0, 1) for i in (3, 2, 1, 0))),
        "conflict": steps((9, 0, 0, 0, 0), (9, 0, 0, 1, 0), (9, 0, 1, 0, 0)),
        "full": steps(*((i, 0, 0, 0, 0) for i in range(0, 250, 17))),
        "one-source": steps(*((i, 0, 0, 0, 0) for i in range(0, 12, 2))),
        "late": steps((9, 0, 0, 0, 63), (9, 0, 1, 0, 63), (9, 0, 2, 0, 63)),
    }


def _datagram() -> Seeds:
    found = dict(zip(("m1-0", "m1-1", "m1-2"), _unhex(parties.PLAIN["m1_datagrams"]), strict=True))
    found |= dict(zip(("m2-0", "m2-1", "m2-2"), _unhex(parties.PLAIN["m2_datagrams"]), strict=True))
    found["m1c-3"] = bytes.fromhex(parties.M1C["m1_datagrams"][3])
    return found | {"m3": bytes.fromhex(parties.PLAIN["m3_datagram"])}


def _icmp() -> Seeds:
    udp = struct.pack(">HHHH", 51820, 51821, 8, 0)
    v4 = b"\x45" + bytes(8) + b"\x11" + bytes(2) + bytes([192, 0, 2, 1, 192, 0, 2, 2])
    v6 = b"\x60" + bytes(5) + b"\x11\x40" + bytes(16) + bytes.fromhex("20010db8") + bytes(11) + b"\x02"
    fragment = v6[:6] + b"\x2c" + v6[7:] + b"\x11\0\0\x01" + bytes(4)
    outer = b"\x45" + bytes(8) + b"\x01" + bytes(10)
    return {
        "port": b"\0" + outer + b"\3\3" + bytes(6) + v4 + udp,
        "too-big": b"\0" + outer + b"\3\4" + bytes(6) + v4 + udp,
        "options": b"\0\x46" + outer[1:] + bytes(4) + b"\3\x0d" + bytes(6) + b"\x46" + v4[1:] + bytes(4) + udp,
        "v6-port": b"\1\1\4" + bytes(6) + v6 + udp,
        "v6-too-big": b"\1\2\0" + bytes(6) + v6 + udp,
        "v6-fragment": b"\1\1\1" + bytes(6) + fragment + udp,
    }


def _m1() -> Seeds:
    who = parties.REMOTE_I.peer_id
    return {
        "body": b"\1" + parties.BODY_M1,
        "offer": b"\2" + who + parties.PAY,
        "stranger": b"\0" + bytes(32) + parties.PAY,
        "degraded": b"\2" + who + _DEGRADED,
        "ourselves": b"\0" + parties.LOCAL_R.peer_id + parties.PAY,
    }


def _m1c() -> Seeds:
    card = parties.CARDS["I"].encoded
    return {
        "body": b"\1" + parties.BODY_M1C,
        "card": b"\0" + parties.PAY + card,
        "not-let-in": b"\2" + parties.PAY + card,
        "degraded": b"\0" + _DEGRADED + card,
        "ourselves": b"\0" + parties.PAY + parties.CARDS["R"].encoded,
    }


def _m2() -> Seeds:
    params = struct.pack("<BBHHBB8s", 1, 4, 1432, 0, 0, 1, bytes(8))
    return {
        "body": b"\1" + parties.BODY_M2,
        "params": b"\0" + params,
        "other-cipher": b"\0" + struct.pack("<BBHHBB8s", 2, 1, 576, 0, 0, 0, bytes(8)),
        "zero-share": b"\0" + params + bytes(1120),
    }


def _biscuit_content() -> bytes:
    head = struct.pack("<BBHHBB4s", 1, 4, 1432, 0, 0, 1, bytes(4))
    who, t = parties.REMOTE_I.peer_id, parties.BISCUIT_T
    return struct.pack("<Q32s32s32sI12s", 1, who, b"c" * 32, b"h" * 32, t, head)


def _m3() -> Seeds:
    content = _biscuit_content()
    return {
        "body": b"\1" + parties.BODY_M3,
        "content": b"\0" + content + parties.TRACE_ID,
        "old": b"\0" + content[:104] + bytes(4) + content[108:],
    }


def _biscuit() -> Seeds:
    return {"sealed": b"\1" + parties.BODY_M3[4:152], "content": b"\0" + _biscuit_content()}


def _cookie() -> Seeds:
    reply = bytes.fromhex(parties.PLAIN["cookie"]["reply"])
    return {"reply": reply, "reply-m1c": reply[:2] + b"\4" + reply[3:]}


def _card() -> Seeds:
    card = parties.CARDS["I"]
    return {
        "bytes": b"\1" + card.encoded,
        "line": b"\0" + text.card_to_line(card).encode(),
        "line-spaces": b"\0 " + text.card_to_line(card).encode() + b"\r\n",
        "file": b"\0" + text.card_to_file(card).encode(),
    }


def _bech32m() -> Seeds:
    written = parties.VECTORS["identities"][0]["peer_id_text"].encode()
    return {
        "lower": written,
        "upper": written.upper(),
        "mixed": written[:9] + written[9:].upper(),
        "short": b"pqvpn1qqqqqq",
    }


def _private_key() -> Seeds:
    encoded = IdentityKey(Secret(bytes(range(64)))).encode().expose()
    return {
        "file": encoded,
        "crlf": encoded.replace(b"\n", b"\r\n"),
        "card": text.card_to_file(parties.CARDS["I"]).encode()[:200],
    }


def _transport() -> Seeds:
    tcp = (
        bytes.fromhex("4500002c00010000400600000a0700010a070002")
        + struct.pack(">HHIIBBHHH", 1, 2, 3, 4, 0x50, 16, 5, 0, 0)
        + b"data"
    )
    udp6 = (
        bytes.fromhex("60000000000c1140")
        + bytes(15)
        + b"\1"
        + bytes(15)
        + b"\2"
        + struct.pack(">HHHH", 1, 2, 12, 0)
        + b"data"
    )
    hops = (
        bytes.fromhex("6000000000140040")
        + bytes(32)
        + bytes((17, 0, 0, 0, 0, 0, 0, 0))
        + struct.pack(">HHHH", 1, 2, 12, 0)
        + b"data"
    )

    def packet(meta: bytes, data: bytes, *, run: bool = False) -> bytes:
        return transport.Header(1, run, 0, 0x11, 5).encode() + (meta + data).ljust(32, b"\0")

    ip = transport.Kind.IP
    return {
        "keepalive": packet(transport.KEEPALIVE_META, b""),
        "control": packet(transport.CONTROL_META, b"\3\0"),
        "relay": packet(transport.RelayMeta(7, 3, 16).encode(), bytes(16)),
        "tcp": packet(transport.Meta(ip).encode(), tcp),
        "tcp-csum-run": packet(transport.Meta(ip, 1, 1, 40, 20, 16).encode(), tcp, run=True),
        "udp6-gso": packet(transport.Meta(ip, 1, 5, 48, 40, 6).encode(), udp6),
        "udp6-hop-by-hop": packet(transport.Meta(ip, 1, 0, 56, 48, 6).encode(), hops),
        "fragment": packet(transport.Meta(ip).encode(), tcp[:6] + b"\x20\0" + tcp[8:]),
    }


def _replay() -> Seeds:
    def steps(*order: tuple[int, int, int]) -> bytes:
        return b"".join(struct.pack("<BHB", *step) for step in order)

    return {
        "ahead": steps(*((1, 1, 0) for _ in range(20))),
        "back": steps((1, 200, 0), *((0, 3, 0) for _ in range(20))),
        "runs": steps((9, 1, 63), (8, 80, 40), (9, 10, 63), (13, 126, 3), (8, 8190, 63)),
        "far": steps((7, 3, 0), (0, 8128, 0), (0, 1, 0), (7, 65535, 0)),
        "resumed": b"\xff" + struct.pack("<I", 20000) + steps((0, 9, 0), (1, 10, 0), (9, 64, 30)),
    }


def _control_frame() -> Seeds:
    frames = {
        "challenge": control.PathChallenge(b"12345678"), "response": control.PathResponse(b"87654321"),
        "close": control.Close(2), "probe": control.MtuProbe(7, 0), "ack": control.MtuAck(7, 1400),
    }  # fmt: skip
    return {name: frame.encode() + bytes(7) for name, frame in frames.items()} | {"relay": b"\x10" + bytes(9)}


def _address() -> Seeds:
    return {
        "v4": b"192.0.2.1:51820", "v6": b"[2001:db8::1]:51820", "mapped": b"[::ffff:192.0.2.1]:1", "scoped": b"[fe80::1%eth0]:1",
        "name": b"beta.example.net:51820", "bare-v6": b"2001:db8::1:51820",
    }  # fmt: skip


def _configuration() -> Seeds:
    bare = render(name="alpha", listen=51820, interface="pqvpn0", addresses=("10.7.0.1/24", "fd00::1/64"))
    beta = """
[peer.beta]
card = "peers/beta.pqcard"
endpoint = "beta.example.net:51820"
allowed_ips = ["10.7.0.2/32", "fd00::/48"]
keepalive = "25s"
psk_file = "beta.psk"
trace = true
"""
    gamma = """
[peer.gamma]
card = "peers/gamma.pqcard"
endpoint = "[2001:db8::1]:1"
allowed_ips = ["10.7.0.0/25"]
allow_degraded = ["auth-plaintext"]
degraded_until = 2027-01-31
"""
    timers = '[timers]\nrekey_after = "3s"\nrekey_initiator_after = "4s"\nrekey_jitter = "250ms"\nm1_schedule = ["0s", "1s"]\n'
    plain = bare.split("[timers]")[0]
    found = {
        "sample": bare,
        "peers": plain + beta + gamma,
        "timers": plain + timers,
        "nested": "a = " + "[" * 900 + "]" * 900,
    }
    return {name: value.encode() for name, value in found.items()}


def _request_line() -> Seeds:
    return {
        "status": b'{"op": "status"}\n',
        "reconnect": b'{"op": "reconnect", "peer": "beta"}\n{"op": "reconnect", "peer": "nobody"}\n',
        "unknown": b'{"op": "open sesame"}\n{"op": 7}\n{}\n',
        "not-an-object": b'[1, 2]\nnull\n"x"\n\n',
        "no-line-end": b'{"op": "status"}',
        "nested": b'{"op": ' + b"[" * 1500 + b"]" * 1500 + b"}\n",
    }


def _messages() -> Seeds:
    session = commands.InstallSession(
        3, 0, 0x10, 0x20, 2, 1, 0, 1432, b"r" * 32, b"i" * 12, b"s" * 32, b"j" * 12, 5, 6, _HERE, _HERE.ip, 99.0, b"S" * 16,
        b"P" * 32, True, 4096,
    )  # fmt: skip
    held = events.Held(3, 0, 16, 32, 2, 1, 0, 1432, _HERE, None, 99.0, b"S" * 16, b"P" * 32, True, True)
    offloads = events.Offloads()
    lane = start.Start(0, 2, 4, 5, 6, 7, (-1, 8), offloads, 1432)
    peer = supervision.PeerSpec(
        b"P" * 32, "beta", b"K" * 64, None, ("b:1",), ("10.7.0.2/32",), 25.0, False, False, None
    )
    first = supervision.ControlStart(
        "alpha", b"P" * 32, b"s" * 32, None, b"b" * 8, (peer,), Timers(), 2, 1432, "pqvpn0", ("10.7.0.1/24",), 51820, "info",
        False, False, True, 4, True, 5, 6, (7, 8), offloads, 1, 2.0, False,
    )  # fmt: skip
    routes = commands.SetRoutes((commands.PeerRoutes(0, (commands.Prefix(_HERE.ip, 32),)),))
    told = {"routes": routes, "install": session, "select": commands.SelectSession(0, -1), "report": commands.Report()}
    said = {
        "ready": events.LaneReady(0, offloads), "frame": events.ControlFrame(3, b"\3\0", _HERE, None),
        "stray": events.StrayDatagram(b"\1" * 20, _HERE, _HERE.ip), "holding": events.Holding(0, (held,)),
    }  # fmt: skip
    encode = supervision._encoder.encode
    found = {f"command-{name}": b"\0" + commands.encode(value) for name, value in told.items()}
    found |= {f"event-{name}": b"\1" + events.encode(value) for name, value in said.items()}
    found["to-supervisor"] = b"\2" + encode(supervision.ReloadRequested(7))
    found["to-control-start"] = b"\3" + encode(first)
    found["to-control-configure"] = b"\3" + encode(supervision.Configure(1, (peer,), ("peer beta added",), ()))
    found["to-control-processes"] = b"\3" + encode(
        supervision.Processes((supervision.ProcessInfo("control", 7, 0, 1.0),), {"spawn": 0.1})
    )
    found["command-not-utf8"] = b"\0" + commands.encode(commands.Report()).replace(b"Rep", b"\xff\xfep")
    found["memfd-without-descriptor"] = b"\3\xc1"
    found["lane-start"] = b"\4" + encode(lane)
    return found


def _core() -> Seeds:
    arrive, again, damage, forge, wait, frame, roam, first, seen = range(9)

    def record(op: int, one: int = 0, two: int = 0, payload: bytes = b"") -> bytes:
        return bytes((op, one, two, len(payload))) + payload

    handshake = record(arrive) * 7 + record(first, 0) + record(first, 1)
    m3 = bytes.fromhex(parties.PLAIN["m3_datagram"])
    return {
        "handshake": handshake,
        "repeated": record(again, 0) * 3 + handshake + record(again, 1) * 5,
        "damaged": record(arrive) * 2 + record(damage, 0, 20, b"\xff\xff") + handshake,
        "later": handshake + record(seen, 0, 0, b"\1\1\1\1") + record(wait, 255, 2, b"x") + record(arrive) * 9,
        "frames": handshake + record(frame, 1, 0, b"\1" + b"n" * 8) + record(frame, 0, 1, b"\3\0") + record(wait, 9),
        "roaming": handshake
        + record(roam, 1, 2, b"x" * 100)
        + record(frame, 1, 4, b"\2" + b"n" * 8)
        + record(wait, 16),
        "stranger": record(forge, 1, 0, m3) + record(forge, 0, 1, bytes.fromhex(parties.PLAIN["cookie"]["reply"])),
        "worn": handshake + record(seen, 0, 64, b"\0\0\0\0") + record(arrive) * 9,
    }


def _segment() -> Seeds:
    def record(kind: Kind, payload: bytes) -> bytes:
        return layout.encode_record(layout.Record(layout.RecordId(bytes(15) + bytes([kind])), kind, 1, 1, payload))

    wanted = {Kind.TRACES: payloads.spans(1, 2), Kind.METRICS: payloads.metrics(), Kind.LOGS: payloads.logs()}
    whole = layout.encode_header(1) + b"".join(record(kind, payload) for kind, payload in wanted.items())
    found = {f"payload-{kind.name.lower()}": b"\1" + bytes([kind]) + payload for kind, payload in wanted.items()}
    found["payloads"] = b"\1" + layout.MARK.join(bytes([kind]) + payload for kind, payload in wanted.items())
    return found | {
        "whole": b"\0" + whole,
        "torn": b"\0" + whole[:-5],
        "header": b"\0" + layout.encode_header(1),
        "damaged": b"\0" + whole[:50] + b"\xff" + whole[51:],
        "twice": b"\0" + whole + whole[layout.HEADER_SIZE :],
        "later-version": b"\0" + whole[:8] + b"\2" + whole[9:],
    }


if __name__ == "__main__":
    main()
