"""Writes `own.json`: what `handshake.json` does not cover. Run it by hand; the file is committed.

    python tests/vectors/make_own.py

A straight line from PROTOCOL.md through hashlib, hmac, struct and the AEADs; it imports nothing of pqvpn, so that it is a
second opinion. Covers: policy 1, IPv6 in biscuit and cookie, three lanes, a trace that is not sampled, key files, the
signature key hash, runs, relay frames (kind 2), MTU probes and the other control frames.
"""

import base64
import hashlib
import hmac
import json
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305
from kyber_py.ml_kem import ML_KEM_768

FILE = Path(__file__).parent / "own.json"
IPV6 = bytes.fromhex("20010db8000000000000000000000001")
PORT = 51821


def fixed(name: str, size: int) -> bytes:
    return hashlib.shake_256(b"pqvpn own vectors " + name.encode()).digest(size)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, digest_size=16, key=key).digest()


def extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.new(salt, ikm, "sha256").digest()


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    first = hmac.new(prk, info + b"\x01", "sha256").digest()
    return (first + hmac.new(prk, first + info + b"\x02", "sha256").digest())[:length]


def seal(key: bytes, plaintext: bytes, ad: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(bytes(12), plaintext, ad)


def kem_keys(seed: bytes) -> bytes:
    expanded = hashlib.shake_256(seed).digest(96)
    ek, _ = ML_KEM_768._keygen_internal(expanded[:32], expanded[32:64])
    return ek + X25519PrivateKey.from_private_bytes(expanded[64:]).public_key().public_bytes_raw()


def kem_encaps(pk: bytes, eseed: bytes) -> tuple[bytes, bytes]:
    ss_m, ct_m = ML_KEM_768._encaps_internal(pk[:1184], eseed[:32])
    scalar = X25519PrivateKey.from_private_bytes(eseed[32:])
    ct_x = scalar.public_key().public_bytes_raw()
    ss_x = scalar.exchange(X25519PublicKey.from_public_bytes(pk[1184:]))
    joined = ss_m + ss_x + ct_x + pk[1184:] + bytes.fromhex("5c2e2f2f5e5c")
    return hashlib.sha3_256(joined).digest(), ct_m + ct_x


def identity(who: str) -> dict[str, bytes | str]:
    seed, master = fixed(f"{who} seed", 32), fixed(f"{who} master", 32)
    mldsa_seed = expand(master, b"PQVPN-v1 sig mldsa65", 32)
    ed25519_seed = expand(master, b"PQVPN-v1 sig ed25519", 32)
    mldsa = MLDSA65PrivateKey.from_seed_bytes(mldsa_seed).public_key().public_bytes_raw()
    ed25519 = Ed25519PrivateKey.from_private_bytes(ed25519_seed).public_key().public_bytes_raw()
    card = b"PQVC" + bytes((1, 1, 0, 0)) + kem_keys(seed) + sha256(mldsa + ed25519)
    body = base64.b64encode(seed + master).decode()
    return {
        "seed": seed,
        "master": master,
        "mldsa65_seed": mldsa_seed,
        "ed25519_seed": ed25519_seed,
        "sig_pk_hash": card[-32:],
        "card": card,
        "peer_id": sha256(b"PQVPN-v1 card\0" + card),
        "key_file": "\n".join(
            ("-----BEGIN PQVPN PRIVATE KEY-----", body[:64], body[64:], "-----END PQVPN PRIVATE KEY-----", "")
        ),
    }


class State:
    def __init__(self, network_key: bytes, id_r: bytes) -> None:
        self.h = sha256(b"PQVPN_v1_XWing_ChaChaPoly_SHA256_suite1")
        self.ck = extract(self.h, network_key)
        self.mix(1, id_r)

    def mix(self, tag: int, data: bytes) -> None:
        self.h = sha256(self.h + bytes((tag,)) + struct.pack("<I", len(data)) + data)

    def key(self, label: str, ikm: bytes) -> bytes:
        okm = expand(extract(self.ck, ikm), label.encode() + self.h, 64)
        self.ck = okm[:32]
        return okm[32:]


def datagrams(msg: int, count: int, index: int, msg_id: int, body: bytes, key: bytes, tail: bytes) -> list[bytes]:
    out = []
    for idx in range(count):
        head = bytes((1, 1, msg, idx << 4 | count)) + struct.pack("<IQ", index, msg_id)
        covered = head + body[idx * 1024 : idx * 1024 + 1024]
        out.append(covered + mac(key, covered) + tail)
    return out


def handshake(i: dict, r: dict) -> dict:
    """Policy 1, IPv6, psk and network key, three lanes, ChaCha20-Poly1305, not sampled."""
    sidi, sidr = 0x11223340, 0xFFFFFFF0
    network_key, psk, biscuit_key = fixed("network key", 32), fixed("psk", 32), fixed("biscuit key", 32)
    ephemeral, nonce = fixed("ephemeral", 32), fixed("biscuit nonce", 12)
    eseeds = [fixed(f"eseed {name}", 64) for name in "sei"]
    pay = struct.pack("<BBHHB8s16sB", 3, 3, 1432, 0, 1, fixed("boot", 8), bytes(16), 0)
    params = struct.pack("<BBHHBB8s", 2, 3, 1412, 0, 1, 0, bytes(8))

    s = State(network_key, r["peer_id"])
    s.mix(2, b"\x01\x01" + struct.pack("<I", sidi))
    epk = kem_keys(ephemeral)
    s.mix(3, epk)
    ss_s, ct_s = kem_encaps(r["card"][8:1224], eseeds[0])
    s.mix(4, ct_s)
    id_ct = seal(s.key("1", ss_s), i["peer_id"], s.h)
    s.mix(5, id_ct)
    s.mix(6, i["peer_id"])
    pay_ct = seal(s.key("2", psk), pay, s.h)
    s.mix(7, pay_ct)
    m1 = epk + ct_s + id_ct + pay_ct
    k_m2 = expand(s.ck, b"m2mac", 32)

    s.mix(2, b"\x01\x02" + struct.pack("<I", sidi))
    s.mix(9, struct.pack("<I", sidr))
    ss_e, ct_e = kem_encaps(epk, eseeds[1])
    s.mix(10, ct_e)
    k3 = s.key("3", ss_e)
    ss_i, ct_i = kem_encaps(i["card"][8:1224], eseeds[2])
    ct_i_enc = seal(k3, ct_i, s.h)
    s.mix(11, ct_i_enc)
    s.mix(12, ct_i)
    s.key("4", ss_i)
    origin = IPV6 + struct.pack("<H", PORT)
    content = struct.pack("<Q", 9) + i["peer_id"] + s.ck + s.h + struct.pack("<I", 1000) + params[:12]
    bound = b"bisc" + r["peer_id"] + struct.pack("<II", sidi, sidr) + origin
    biscuit = nonce + AESGCMSIV(biscuit_key).encrypt(nonce, content, bound)
    s.mix(13, biscuit)
    conf_r = seal(s.key("5", b""), params, s.h)
    s.mix(14, conf_r)
    m2 = struct.pack("<I", sidr) + ct_e + ct_i_enc + biscuit + conf_r
    k6 = s.key("6", b"")

    s.mix(2, b"\x01\x03" + struct.pack("<I", sidr))
    m3 = struct.pack("<I", sidi) + biscuit + seal(k6, bytes(16), s.h)
    secret = expand(s.ck, b"session" + s.h, 32)
    lanes = [[expand(secret, b"lane" + bytes((d, lane, 2, 1)), 44) for lane in range(3)] for d in (0, 1)]
    mac1_key = expand(network_key, b"mac1" + r["peer_id"], 32)
    cookie_secret, cookie_nonce = fixed("cookie secret", 32), fixed("cookie nonce", 12)
    cookie = mac(cookie_secret, origin)
    m1_datagrams = datagrams(1, 3, sidi, 0x0102030405060708, m1, mac1_key, bytes(16))
    mac1 = m1_datagrams[0][-32:-16]
    k_cookie = expand(network_key, b"cookie" + r["peer_id"], 32)
    reply = b"\x03\x01\x01\x01" + struct.pack("<IQ", sidi, 0x0102030405060708) + cookie_nonce
    return {
        "network_key": network_key,
        "psk": psk,
        "biscuit_key": biscuit_key,
        "biscuit_nonce": nonce,
        "biscuit_no": 9,
        "biscuit_t": 1000,
        "address": f"[2001:db8::1]:{PORT}",
        "ephemeral_seed": ephemeral,
        "eseeds": eseeds,
        "sidi": sidi,
        "sidr": sidr,
        "message_ids": [0x0102030405060708, 0x1112131415161718, 0x2122232425262728],
        "pay": pay,
        "params": params,
        "m1": m1_datagrams,
        "m2": datagrams(2, 3, sidi, 0x1112131415161718, m2, k_m2, b""),
        "m3": datagrams(3, 1, sidr, 0x2122232425262728, m3, mac1_key, b""),
        "session_secret": secret,
        "session_id": expand(secret, b"sid", 16),
        "lanes": lanes,
        "cookie_secret": cookie_secret,
        "cookie_nonce": cookie_nonce,
        "cookie": cookie,
        "cookie_reply": reply + AESGCMSIV(k_cookie).encrypt(cookie_nonce, cookie, mac1),
    }


def packet(aead: int, key: bytes, header: bytes, plaintext: bytes, policy: int = 0) -> bytes:
    cipher = AESGCM(key[:32]) if aead == 1 else ChaCha20Poly1305(key[:32])
    mask = bytes(4) + header[8:16]
    nonce = bytes(a ^ b for a, b in zip(key[32:], mask, strict=True))
    if policy:
        return header + plaintext + cipher.encrypt(nonce, b"", header + plaintext)
    return header + cipher.encrypt(nonce, plaintext, header)


def transport() -> list[dict]:
    """Runs, relay frames, control frames, and policy 1; index 0xabcdef10, lane 5, MTU 100 to show the padding's limit."""
    key = fixed("lane key", 44)
    ip = bytes.fromhex("4500003200004000401100000a4d00010a4d0002") + fixed("inner", 30)
    control = b"\x10" + bytes(7)
    cases = []
    for name, flags, seg, counter, plaintext, policy in (
        ("run, first", 0x15, 0, 7, bytes(8) + ip + bytes(6), 0),
        ("run, second", 0x15, 1, 8, bytes(8) + ip + bytes(6), 0),
        ("run, last place", 0x15, 63, 70, bytes(8) + ip + bytes(6), 0),
        ("relay", 0x05, 0, 71, b"\x20\x04\x03\x02\x01\x08\x32\x00" + ip + bytes(6), 0),
        ("tcp with gso and checksum", 0x05, 0, 72,
         struct.pack("<BBHHH", 1, 1, 40, 20, 16) + ip + bytes(6), 0),
        ("path response", 0x05, 0, 73, control + b"\x02" + fixed("path", 8) + bytes(15), 0),
        ("close", 0x05, 0, 74, control + b"\x03\x02" + bytes(6), 0),
        ("mtu probe", 0x05, 0, 75, control + b"\x04\x34\x12" + bytes(1400 - 3), 0),
        ("mtu ack", 0x05, 0, 76, control + b"\x05\x34\x12\x78\x05" + bytes(3), 0),
        ("padding stops at the mtu", 0x05, 0, 77, bytes(8) + bytes(100), 0),
        ("auth-plaintext", 0x05, 0, 78, bytes(8) + ip + bytes(6), 1),
        ("keepalive, auth-plaintext", 0x05, 0, 79, b"\x30" + bytes(15), 1),
    ):  # fmt: skip
        header = bytes((4, flags)) + struct.pack("<HIQ", seg, 0xABCDEF15, counter)
        cases.extend(
            {
                "what": name, "aead": aead, "policy": policy, "key": key, "counter": counter, "header": header,
                "plaintext": plaintext, "packet": packet(aead, key, header, plaintext, policy),
            }
            for aead in (1, 2)
        )  # fmt: skip
    return cases


def shown(value: object) -> object:
    """The value with bytes as hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: shown(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shown(inner) for inner in value]
    return value


def build() -> dict:
    """All of it, as JSON values."""
    i, r = identity("I"), identity("R")
    return shown({"identities": {"I": i, "R": r}, "handshake": handshake(i, r), "transport": transport()})


if __name__ == "__main__":
    FILE.write_text(json.dumps(build(), indent=1) + "\n")
