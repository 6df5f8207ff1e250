"""Peer IDs: the hash of a card, and its text (PROTOCOL section 1)."""

import hashlib

from pqvpn.crypto import labels
from pqvpn.errors import ConfigError
from pqvpn.identity import bech32m
from pqvpn.reasons import Reason

ID_SIZE = 32
PREFIX = "pqvpn"
TEXT_LENGTH = 64


def of_card(card: bytes) -> bytes:
    """The peer ID of an encoded card: SHA-256("PQVPN-v1 card" 00 || card), 32 bytes."""
    return hashlib.sha256(labels.PEER_ID + card).digest()


def to_text(peer_id: bytes) -> str:
    """64 characters: bech32m with the prefix `pqvpn`."""
    if len(peer_id) != ID_SIZE:
        raise ValueError("a peer ID has 32 bytes")
    return bech32m.encode(PREFIX, peer_id)


def from_text(text: str, place: str = "") -> bytes:
    """The 32 bytes of a peer ID's text. Raises ConfigError (identity.id_malformed)."""
    try:
        peer_id = bech32m.decode(PREFIX, text)
        if len(peer_id) != ID_SIZE:
            raise ValueError(f"it has {len(text)} characters, not {TEXT_LENGTH}")
    except ValueError as error:
        raise ConfigError(Reason.ID_MALFORMED, f"not a peer ID: {error}", place=place) from None
    return peer_id
