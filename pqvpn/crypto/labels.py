"""Every label that separates one use of a hash, KDF or AEAD from another (PROTOCOL, all sections), and nothing else."""

# section 1: identity
XWING = bytes.fromhex("5c2e2f2f5e5c")
PEER_ID = b"PQVPN-v1 card\0"
SIG_MLDSA65 = b"PQVPN-v1 sig mldsa65"
SIG_ED25519 = b"PQVPN-v1 sig ed25519"

# section 2: handshake
PROTOCOL_NAME = b"PQVPN_v1_XWing_ChaChaPoly_SHA256_suite1"
KEY_1 = b"1"
KEY_2 = b"2"
KEY_3 = b"3"
KEY_4 = b"4"
KEY_5 = b"5"
KEY_6 = b"6"
M2_MAC = b"m2mac"
BISCUIT = b"bisc"
SESSION = b"session"
LANE = b"lane"
SESSION_ID = b"sid"

# sections 3 and 4: fragments and cookies
MAC1 = b"mac1"
COOKIE = b"cookie"
