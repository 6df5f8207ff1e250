"""Edges of KDF, MAC, AEAD and X-Wing, and what a failed self-test means."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from pqvpn.crypto import aead, kdf, mac, selftest, xwing
from pqvpn.crypto.aead import Aead
from pqvpn.crypto.refused import Refused
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason


@pytest.fixture(scope="module")
def key():
    return xwing.PrivateKey(Secret(bytes(range(32))))


def test_expand_lengths():
    assert len(kdf.expand(bytes(32), b"", 255 * 32)) == 255 * 32
    for length in (0, 255 * 32 + 1):
        with pytest.raises(ValueError, match="8160"):
            kdf.expand(bytes(32), b"", length)


def test_mac_verifies():
    tag = mac.blake2s_128(b"k" * 32, b"message")
    assert mac.verify(b"k" * 32, b"message", tag)
    assert not mac.verify(b"k" * 32, b"message", tag[:-1])
    assert not mac.verify(b"j" * 32, b"message", tag)


def test_limits():
    assert (Aead.AES_256_GCM.rekey_limit, Aead.AES_256_GCM.stop_limit) == (2**26, 2**28)
    assert (Aead.CHACHA20_POLY1305.rekey_limit, Aead.CHACHA20_POLY1305.stop_limit) == (2**48, 2**60)


def test_cipher_takes_32_byte_keys_only():
    for size in (16, 31, 44):
        with pytest.raises(ValueError, match="32 bytes"):
            Aead.AES_256_GCM.cipher(Secret(bytes(size)))


def test_nonce_is_iv_xor_counter():
    iv = bytes(range(12))
    assert aead.transport_nonce(iv, 0) == iv
    counter = 0x0123456789ABCDEF
    expected = bytes(a ^ b for a, b in zip(iv, bytes(4) + counter.to_bytes(8, "little"), strict=True))
    assert aead.transport_nonce(iv, counter) == expected


def test_unseal_refuses_forgeries():
    sealed = aead.seal(bytes(32), b"text", b"ad")
    assert aead.unseal(bytes(32), sealed, b"ad") == b"text"
    for forged, ad in ((sealed[:-1] + b"\0", b"ad"), (sealed, b"da"), (b"", b"ad"), (sealed[:15], b"ad")):
        with pytest.raises(Refused) as caught:
            aead.unseal(bytes(32), forged, ad)
        assert caught.value.reason is DropReason.BAD_HANDSHAKE


def test_xwing_round_trip(key):
    sealed = xwing.encapsulate(xwing.PublicKey(key.public))
    assert key.decapsulate(sealed.ciphertext) == sealed.shared_secret
    assert len(sealed.ciphertext) == xwing.CIPHERTEXT_SIZE


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: b"\xff\xff" + raw[2:],  # a coefficient above the modulus
    ],
)
def test_bad_public_keys(key, spoil):
    with pytest.raises(Refused) as caught:
        xwing.PublicKey(spoil(key.public))
    assert caught.value.reason is DropReason.DECAPSULATION


def test_small_order_points(key):
    public = xwing.PublicKey(key.public[:1184] + bytes(32))
    with pytest.raises(Refused):
        public.encapsulate()
    ciphertext = xwing.PublicKey(key.public).encapsulate().ciphertext
    for point in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(Refused):
            key.decapsulate(ciphertext[:1088] + point)
    for length in (0, 1119, 1121):
        with pytest.raises(Refused):
            key.decapsulate(bytes(length))


def test_forged_ml_kem_ciphertext_is_rejected_implicitly(key):
    sealed = xwing.PublicKey(key.public).encapsulate()
    forged = bytes((sealed.ciphertext[0] ^ 1,)) + sealed.ciphertext[1:]
    assert key.decapsulate(forged) != sealed.shared_secret


def test_keys_print_nothing_secret(key):
    assert repr(key) == "<X-Wing private key>"
    with pytest.raises(ValueError, match="32 bytes"):
        xwing.PrivateKey(Secret(bytes(31)))


def test_self_tests_are_quick():
    selftest.failures()  # the library sets itself up on first use
    begun = time.process_time()
    assert selftest.failures() == ()
    assert time.process_time() - begun < 0.02


def test_a_generated_key_whose_halves_differ_fails() -> None:
    class Torn:
        """The public half of one key, the private half of another."""

        def __init__(self) -> None:
            self.public, self.private = MLKEM768PrivateKey.generate(), MLKEM768PrivateKey.generate()

        def public_key(self) -> MLKEM768PublicKey:
            return self.public.public_key()

        def decapsulate(self, ciphertext: bytes) -> bytes:
            return self.private.decapsulate(ciphertext)

    assert selftest._generates(MLKEM768PrivateKey.generate())
    assert not selftest._generates(Torn())  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", selftest.TESTS)
def test_a_broken_primitive_is_named(monkeypatch, broken):
    def fails() -> bool:
        raise RuntimeError("no such cipher")

    monkeypatch.setitem(selftest.TESTS, broken, fails)
    failed = selftest.failures()
    assert failed == (broken,)
    assert selftest.handshakes_possible(failed) is (broken == selftest.AES_GCM)
    expected = {selftest.AES_GCM: Aead.CHACHA20_POLY1305, selftest.CHACHA: Aead.AES_256_GCM}
    assert selftest.usable_aeads(failed) == expected.get(broken, 3)


def test_self_tests_notice_wrong_answers(monkeypatch):
    monkeypatch.setattr(mac.hashlib, "blake2s", lambda *a, **k: mac.hashlib.sha256(b""))
    monkeypatch.setattr(kdf, "expand", lambda prk, info, length: bytes(length))
    monkeypatch.setattr(xwing, "combine", lambda *parts: Secret(bytes(32)))
    assert set(selftest.failures()) == {selftest.BLAKE2S, selftest.HKDF, selftest.X_WING}


def test_self_tests_notice_a_cipher_that_does_not_authenticate():
    class Careless:
        def encrypt(self, nonce, plaintext, ad):
            return b"sealed"

        def decrypt(self, nonce, sealed, ad):
            return b"text"

    assert not selftest._answers(Careless(), "", b"text".hex(), "", b"sealed".hex())
    assert not selftest._answers(Careless(), "", b"text".hex(), "", b"SEALED".hex())
    assert not selftest._answers(Careless(), "", b"TEXT".hex(), "", b"sealed".hex())
