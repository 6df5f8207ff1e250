"""Cryptography: X-Wing, AEAD, KDF, MAC, labels, the secret type and the start-up self-tests.

Owns how PROTOCOL's primitives are composed from `cryptography` and `hashlib`. Knows nothing of messages, peers
or files. Bytes of a stranger that a primitive does not take end in `refused.Refused`, never in another exception.
"""
