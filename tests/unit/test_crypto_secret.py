"""A secret cannot be shown, copied, pickled or sent by accident."""

import copy
import json
import pickle

import msgspec
import pytest

from pqvpn.crypto.secret import NO_KEY, Secret, key_or_none

VALUE = b"do not show me...do not show me!"


@pytest.fixture
def secret():
    return Secret(VALUE)


def test_shows_nothing(secret):
    shown = (repr(secret), str(secret), f"{secret}", f"{secret:>12}", f"{secret!r}", "%s" % secret, repr([secret]))  # noqa: UP031 - the old way must be safe too
    assert all("<secret>" in text and "show" not in text for text in shown)


def test_gives_its_bytes_only_when_asked(secret):
    assert secret.expose() == VALUE
    assert len(secret) == 32
    with pytest.raises(TypeError):
        bytes(secret)


@pytest.mark.parametrize(
    "leak",
    [copy.copy, copy.deepcopy, pickle.dumps, json.dumps, msgspec.msgpack.encode, msgspec.json.encode, hash, iter, vars],
)
def test_refuses(secret, leak):
    with pytest.raises(TypeError) as caught:
        leak(secret)
    assert "show" not in str(caught.value)


def test_every_pickle_protocol_refuses(secret):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secret, protocol)


def test_compares_with_secrets_only(secret):
    assert secret == Secret(VALUE)
    assert secret != Secret(bytes(32))
    assert secret != VALUE


def test_none_is_zeros():
    assert key_or_none(None) is NO_KEY
    assert NO_KEY.expose() == bytes(32)
    assert key_or_none(Secret(VALUE)).expose() == VALUE
