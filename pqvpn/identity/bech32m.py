"""Bech32m (BIP 350) without a version symbol: a checked text form for 32 bytes that people can read aloud.

Owns the coding alone. Raises ValueError with the reason in words; `peer_id` turns it into a `ConfigError`.
"""

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {symbol: value for value, symbol in enumerate(_CHARSET)}
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3
_CHECKSUM_SYMBOLS = 6
_LONGEST = 90  # BIP 173: past this length the checksum no longer finds every error


def encode(prefix: str, data: bytes) -> str:
    """`prefix` (lower case), the separator "1", the data in symbols of 5 bits, 6 symbols of checksum."""
    symbols = _to_symbols(data)
    return prefix + "1" + "".join(_CHARSET[value] for value in symbols + _checksum(prefix, symbols))


def decode(prefix: str, text: str) -> bytes:
    """The data of `text`, which must carry `prefix`. Raises ValueError on anything that `encode` does not write.

    All upper case is accepted as BIP 173 asks (QR codes are shorter so); mixed case is not.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"it has {len(text)} characters, more than {_LONGEST}")
    if not text.isascii():  # some letters beyond ASCII have an ASCII lower case
        raise ValueError("it contains characters that are not ASCII")
    if text != text.lower() and text != text.upper():
        raise ValueError("it mixes upper and lower case")
    text = text.lower()
    found, separator, rest = text.rpartition("1")
    if not separator or found != prefix:
        raise ValueError(f"it does not begin with {prefix}1")
    wrong = [symbol for symbol in rest if symbol not in _VALUES]
    if wrong:
        raise ValueError(f"it contains {wrong[0]!r}, which is no bech32 character")
    symbols = [_VALUES[symbol] for symbol in rest]
    if len(symbols) < _CHECKSUM_SYMBOLS or _polymod(_expand(prefix) + symbols) != _BECH32M:
        raise ValueError("its checksum does not fit: a character is wrong or missing")
    return _from_symbols(symbols[:-_CHECKSUM_SYMBOLS])


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                check ^= generator
    return check


def _expand(prefix: str) -> list[int]:
    return [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]


def _checksum(prefix: str, symbols: list[int]) -> list[int]:
    check = _polymod(_expand(prefix) + symbols + [0] * _CHECKSUM_SYMBOLS) ^ _BECH32M
    return [check >> 5 * (5 - place) & 31 for place in range(_CHECKSUM_SYMBOLS)]


def _to_symbols(data: bytes) -> list[int]:
    count = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << (count * 5 - len(data) * 8)
    return [number >> 5 * (count - 1 - place) & 31 for place in range(count)]


def _from_symbols(symbols: list[int]) -> bytes:
    padding = len(symbols) * 5 % 8
    number = 0
    for value in symbols:
        number = number << 5 | value
    if padding >= 5 or number & (1 << padding) - 1:
        raise ValueError("its padding is not zero")
    return (number >> padding).to_bytes(len(symbols) * 5 // 8, "big")
