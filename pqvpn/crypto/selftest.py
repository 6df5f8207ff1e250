"""Known-answer tests of every primitive, run at start in a few milliseconds (PROTOCOL section 8).

Owns the answers and what a failure means: AES-GCM broken leaves ChaCha20-Poly1305; anything else broken refuses
handshakes. Sources: NIST CAVS (AES-GCM), RFC 8439 2.8.2 (ChaCha20-Poly1305), RFC 8452 C.2 (AES-GCM-SIV), RFC 5869 A.1
(HKDF), RFC 7748 5.2 (X25519), the X-Wing draft's first vector with the ML-KEM-768 secret inside it, this protocol's
cookie vector (BLAKE2s-128).
"""

import hashlib
from collections.abc import Callable, Collection

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from pqvpn.crypto import kdf, mac, xwing
from pqvpn.crypto.aead import Aead, Cipher
from pqvpn.crypto.secret import Secret

AES_GCM = "aes-256-gcm"
CHACHA = "chacha20-poly1305"
GCM_SIV = "aes-256-gcm-siv"
ML_KEM = "ml-kem-768"
X25519 = "x25519"
X_WING = "x-wing"
HKDF = "hkdf-sha256"
BLAKE2S = "blake2s-128"

_unhex = bytes.fromhex

_XWING_SEED = _unhex("10d45120dcd2bea990c8f648e9823c66b869e842090c7f97ddbf3534d667ba23")
_XWING_PUBLIC_SHA256 = _unhex("3738962de8f4515ffdd1af60f03dba14c462378af89ccaa5bbf00ae0906223d0")
_XWING_SECRET = _unhex("cce5483ab7e8ad47d97ab92754d947f54594dbbb27fca465b8fcf59bb60d379b")
_MLKEM_SECRET = _unhex("160a75db96c49d84b088051fe481aa90aa84973efedda51de23a15a05da7977f")
_MLKEM_REJECTION = _unhex(
    "b2801bb2bf54d6c3ac21ae4725b5b6cb3b1425bc64d603504ca652fadfc6a17e"
)  # of the ciphertext 0^1088
_XWING_CIPHERTEXT = _unhex(
    "d6c8c201bc707208c1b24b2aa5be41b199113b9e511a18b6e31324ccaf3fa81dea496c1319a297dc22a006a7127039bf82183137eb4e7446"
    "9e6a040a1ba76bacc2316cb13fad2542da563809c16d320f992c0b5d59285f0d67afa7caa2395469ff9a7f27ad3dc9f091cf42fdea156e37"
    "be4366cf7d9801c7db28d3ede3e1d33dd41e7e9018c0de6446ad4385e12f1022d6b7925cbe07a2eb0b0ce4e1559360c1f3b6b74b354da780"
    "54e28c434d2d1915b040582798305ea486b6c5add75350dbfbbf1bd2dcb05e47099b4c75c17182cbe205634643fb0c2f99a7114baed88e4b"
    "86af76fd14b776576540c6e33fb2cec7594532c92f9fbd2a3ed070008647662159ea6ba809af42dc87c859ff5c68fc3b894da5524058cd90"
    "562222c6c29b3842f29b56837f702e0cd52121e8bf17bcd361dbce5515c31b8e5f53b4ce026e3e629d123107954f2b29948ea9844826a1bf"
    "93c619b35e00d08f93395717a2ab72917d2cec6dcf4e8ef66d965e9a6a4eea66dc13e21106d955a29f7b5426e377b45c4f6000e3a3524593"
    "fb8790fe23d8d5d97c6d9da815c7ea7c0f9829fdcb477d20eed201693d8b22e4317e9b2b43f8cd3c759986095847958c70654991222e3223"
    "35ba1cea8969f84c3d22f58c7b79a5a196f6260b83468b06b76dc8da8073ab415c869f534bc4dcd46d4284ff5013a36a08e5a56408ccced9"
    "39e895a14698f5c4ef40a151200481fd1c044892250af9912ea2fa584fa72fa6878f57cbafc6d2c70a179d6a761bdbce71ae49a565773767"
    "f568a264d6aaa9a17c1da6f692a96ca0d8f69811d422ef3abf414f507b4586013454edb45401603314a73ac04f088f6d7214894caa9c624e"
    "824065506651a1c7e1adf6b419f35229635edf09a3d9b42fde71bdfd49a91c524a093e2f3d43cbf1a0e70375debef7d9b9b86cc509ab2697"
    "afcd485eacc2245ff9cb227daefdd9342cf586384d21dd3381c08ac35f6c0b5c83fcd105deed04ba5e1c82ddfc9b85f4d94c026025479ae8"
    "d2ef69c390ea24b9e553bedb80d0e3066e14d000fd4a53501d17c74b6a041b7975c64c23cd6effb13bb00e71899ea717ddd5f1b40b74dd7a"
    "3c67e70c49ce49af5382362b18a14ac737c066f97211d087d59af7623d8fd9f592bdbeb22a47049e68f461d77be99a6762e270d641766568"
    "e51e4686f8f3a14c47694eee0aab6e8cfe4fd4c320ad38ffa630c1177144c50b1f167d1fedd4d3dc9a448622e5dabf606ceb7fc0140d8fe5"
    "b19e0e869564ca04a59957f10be92e56cc85439e0c33652224c23f1645ee35fa096a162bdd479e508b38dd7c2c4bf15b0f7cb4136320f3ae"
    "dafee9f9c879ee863ce10694b0e313f6f41a473ac6086297d0902969cde7b7a65ac8c6e02a2b3df0383467b72bddd2a2e92c715842ddb6dd"
    "2b6c040177f79ac41b68877fbdb29164c3e4e9810094fc24469fbbabab5f95a0957390a2a0a7a924007af82544122633b7e8784eb0c541aa"
    "89906e1f24b08974d934f4d6916f3cbec15a847b3495e3eb69709a9219ee73ed05d78db47c2682c35b3cff393d7df5ad06b958b2a4bdee2c"
)


def _answers(cipher: Cipher | AESGCMSIV, nonce: str, plaintext: str, ad: str, sealed: str) -> bool:
    """Whether a cipher seals to the known answer, opens it, and refuses it with one bit changed."""
    known = _unhex(sealed)
    if cipher.encrypt(_unhex(nonce), _unhex(plaintext), _unhex(ad)) != known:
        return False
    if cipher.decrypt(_unhex(nonce), known, _unhex(ad)) != _unhex(plaintext):
        return False
    try:
        cipher.decrypt(_unhex(nonce), known[:-1] + bytes((known[-1] ^ 1,)), _unhex(ad))
    except InvalidTag:
        return True
    return False


def _aes_gcm() -> bool:
    key = Secret(_unhex("31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22"))
    return _answers(
        Aead.AES_256_GCM.cipher(key),
        "0d18e06c7c725ac9e362e1ce", "2db5168e932556f8089a0622981d017d", "",
        "fa4362189661d163fcd6a56d8bf0405ad636ac1bbedd5cc3ee727dc2ab4a9489",
    )  # fmt: skip


def _chacha() -> bool:
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    return _answers(
        Aead.CHACHA20_POLY1305.cipher(Secret(bytes(range(0x80, 0xA0)))),
        "070000004041424344454647", text.hex(), "50515253c0c1c2c3c4c5c6c7",
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92"
        "728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b"
        "4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
    )  # fmt: skip


def _gcm_siv() -> bool:
    return _answers(
        AESGCMSIV(b"\x01" + bytes(31)),
        "030000000000000000000000", "02000000000000000000000000000000", "01",
        "c91545823cc24f17dbb0e9e807d5ec17b292d28ff61189e8e49f3875ef91aff7",
    )  # fmt: skip


def _ml_kem() -> bool:
    key = MLKEM768PrivateKey.from_seed_bytes(hashlib.shake_256(_XWING_SEED).digest(96)[:64])
    secret, rejection = key.decapsulate(_XWING_CIPHERTEXT[:1088]), key.decapsulate(bytes(1088))
    fresh, ciphertext = key.public_key().encapsulate()
    known = secret == _MLKEM_SECRET and rejection == _MLKEM_REJECTION
    return known and key.decapsulate(ciphertext) == fresh and _generates(MLKEM768PrivateKey.generate())


def _generates(key: MLKEM768PrivateKey) -> bool:
    """Whether both halves of a key that was just made belong together (the pairwise consistency test of FIPS 140-3)."""
    secret, ciphertext = key.public_key().encapsulate()
    return key.decapsulate(ciphertext) == secret


def _x25519() -> bool:
    scalar = _unhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = _unhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    shared = X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(point))
    return shared == _unhex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")


def _x_wing() -> bool:
    key = xwing.PrivateKey(Secret(_XWING_SEED))
    if hashlib.sha256(key.public).digest() != _XWING_PUBLIC_SHA256:
        return False
    if key.decapsulate(_XWING_CIPHERTEXT) != Secret(_XWING_SECRET):
        return False
    fresh = xwing.PublicKey(key.public).encapsulate()
    return key.decapsulate(fresh.ciphertext) == fresh.shared_secret


def _hkdf() -> bool:
    okm = kdf.hkdf(_unhex("000102030405060708090a0b0c"), b"\x0b" * 22, _unhex("f0f1f2f3f4f5f6f7f8f9"), 42)
    return okm == _unhex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")


def _blake2s() -> bool:
    key = _unhex("969b430351b51354d65b8241aaab241812b2985de54504c335574ce0c367c396")
    return mac.blake2s_128(key, _unhex("c00002016cca")) == _unhex("1a65ad1482aeec69bb4ade310c7aa05f")


TESTS: dict[str, Callable[[], bool]] = {
    AES_GCM: _aes_gcm,
    CHACHA: _chacha,
    GCM_SIV: _gcm_siv,
    ML_KEM: _ml_kem,
    X25519: _x25519,
    X_WING: _x_wing,
    HKDF: _hkdf,
    BLAKE2S: _blake2s,
}


def failures() -> tuple[str, ...]:
    """Run all tests; the names of the primitives that fail, in the order of `TESTS`. Takes a few milliseconds."""
    return tuple(name for name, test in TESTS.items() if not passes(test))


def passes(test: Callable[[], bool]) -> bool:
    """Whether one of `TESTS` gives what it should."""
    try:
        return test()
    except Exception:  # noqa: BLE001 - whatever a broken library raises, the primitive failed
        return False


def usable_aeads(failed: Collection[str]) -> int:
    """The bits of the transport ciphers that passed."""
    aes = 0 if AES_GCM in failed else int(Aead.AES_256_GCM)
    return aes | (0 if CHACHA in failed else int(Aead.CHACHA20_POLY1305))


def handshakes_possible(failed: Collection[str]) -> bool:
    """Whether handshakes may run: they need every primitive except AES-256-GCM."""
    return not set(failed) - {AES_GCM}
