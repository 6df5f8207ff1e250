"""Published vectors of the primitives: FIPS 203 ML-KEM, RFC 8452, RFC 5869, NIST GCM, RFC 8439, RFC 7748, BIP 350."""

import hashlib
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from kyber_py.ml_kem import ML_KEM_768

from pqvpn.crypto import aead, kdf, selftest
from pqvpn.crypto.aead import Aead
from pqvpn.crypto.secret import Secret
from pqvpn.identity import bech32m

ROOT = Path(cryptography_vectors.__file__).parent
unhex = bytes.fromhex


def records(path: str) -> list[dict[str, str]]:
    """`name = value` records separated by COUNT lines."""
    found: list[dict[str, str]] = []
    for line in (ROOT / path).read_text().splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or line.startswith(("#", "[")):
            continue
        if name.lower() == "count":
            found.append({})
        found[-1][name.lower()] = value
    return found


def test_ml_kem_768():
    vectors = records("asymmetric/MLKEM/kat_MLKEM_768.rsp")[:25]
    assert len(vectors) == 25
    for v in vectors:
        key = MLKEM768PrivateKey.from_seed_bytes(unhex(v["d"]) + unhex(v["z"]))
        assert key.public_key().public_bytes_raw().hex() == v["pk"]
        assert key.decapsulate(unhex(v["ct"])).hex() == v["ss"]
        assert key.decapsulate(unhex(v["ct_n"])).hex() == v["ss_n"]  # implicit rejection
    v = vectors[0]  # the encapsulator that the handshake vectors lean on
    ss, ct = ML_KEM_768._encaps_internal(unhex(v["pk"]), unhex(v["msg"]))
    assert (ss.hex(), ct.hex()) == (v["ss"], v["ct"])


def test_aes_256_gcm_siv():
    vectors = [v for v in records("ciphers/AES/GCM-SIV/openssl.txt") if len(v["key"]) == 64]
    assert len(vectors) > 20
    for v in vectors:
        key, nonce, ad = unhex(v["key"]), unhex(v["iv"]), unhex(v.get("aad", ""))
        sealed = unhex(v["ciphertext"] + v["tag"])
        assert aead.siv_seal(key, nonce, unhex(v["plaintext"]), ad) == sealed
        assert aead.siv_unseal(key, nonce, sealed, ad) == unhex(v["plaintext"])
        assert aead.siv_unseal(key, nonce, sealed[:-1] + bytes((sealed[-1] ^ 1,)), ad) is None


def test_hkdf_sha256():
    vectors = records("KDF/rfc-5869-HKDF-SHA256.txt")
    assert len(vectors) == 3
    for v in vectors:
        prk = kdf.extract(unhex(v["salt"]), unhex(v["ikm"]))
        assert prk.hex() == v["prk"]
        assert kdf.expand(prk, unhex(v["info"]), int(v["l"])).hex() == v["okm"]
        assert kdf.hkdf(unhex(v["salt"]), unhex(v["ikm"]), unhex(v["info"]), int(v["l"])).hex() == v["okm"]


def test_aes_256_gcm():
    text = (ROOT / "ciphers/AES/GCM/gcmEncryptExtIV256.rsp").read_text()
    section = text.split("[IVlen = 96]\n[PTlen = 128]\n[AADlen = 160]\n[Taglen = 128]")[1].split("[Keylen")[0]
    blocks = [block.splitlines() for block in section.replace("\r", "").strip().split("\n\n")]
    assert len(blocks) == 15
    for block in blocks:
        v = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in block)}
        cipher = Aead.AES_256_GCM.cipher(Secret(unhex(v["Key"])))
        assert cipher.encrypt(unhex(v["IV"]), unhex(v["PT"]), unhex(v["AAD"])).hex() == v["CT"] + v["Tag"]


def test_chacha20_poly1305():
    v = records("ciphers/ChaCha20Poly1305/openssl.txt")[0]
    cipher = Aead.CHACHA20_POLY1305.cipher(Secret(unhex(v["key"])))
    sealed = cipher.encrypt(unhex(v["iv"]), unhex(v["plaintext"]), unhex(v["aad"]))
    assert sealed.hex() == v["ciphertext"] + v["tag"]


def test_self_test_constants_are_the_published_ones():
    gcm = (ROOT / "ciphers/AES/GCM/gcmEncryptExtIV256.rsp").read_text()
    assert "d636ac1bbedd5cc3ee727dc2ab4a9489" in gcm
    assert selftest.failures() == ()
    seed = hashlib.shake_256(selftest._XWING_SEED).digest(96)
    _, dk = ML_KEM_768._keygen_internal(seed[:32], seed[32:64])
    assert ML_KEM_768._decaps_internal(dk, selftest._XWING_CIPHERTEXT[:1088]) == selftest._MLKEM_SECRET
    assert ML_KEM_768._decaps_internal(dk, bytes(1088)) == selftest._MLKEM_REJECTION


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("a", "A1LQFN3A"),
        ("a", "a1lqfn3a"),
        ("?", "?1v759aa"),
        ("an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber1",
         "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6"),
    ],
)  # fmt: skip
def test_bech32m_valid(prefix, text):
    assert bech32m.decode(prefix, text) == b""
    assert bech32m.encode(prefix, b"") == text.lower()


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("y", "y1b0jsk6g"),  # invalid data character
        ("lt", "lt1igcx5c0"),  # invalid data character
        ("in", "in1muywd"),  # checksum too short
        ("mm", "mm1crxm3i"),  # invalid character in the checksum
        ("m", "M1VUXWEZ"),  # checksum made with an upper-case prefix
        ("a", "a12uel5l"),  # bech32, not bech32m
        ("", "16plkw9"),  # empty prefix; refused because it is not the one expected
        ("a", "a1LQFN3a"),  # mixed case
    ],
)
def test_bech32m_invalid(prefix, text):
    with pytest.raises(ValueError, match=r"^it|^its"):
        bech32m.decode(prefix or "pqvpn", text)
