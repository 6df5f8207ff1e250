"""What may be sent to an address that has not answered a path challenge yet (PROTOCOL section 5, roaming).

Owns the arithmetic that keeps everything sent there, by the lanes and by control, within three times what came from there.
Each part gets its own piece of that beforehand, since the parts do not know what the others spend.
"""

from typing import Final

FACTOR: Final = 3
CONTROL_PACKET: Final = 64  # bytes of a sealed challenge, response or acknowledgement
REPEATS: Final = 2  # of a challenge that is not answered, at most
_DATA_FIRST: Final = 256  # bytes that data gets before a repeat does: a lost challenge is rare


def earned(packets: int, size: int) -> int:
    """Bytes that `packets` authenticated packets of `size` bytes together allow, less an answer of control to each."""
    return FACTOR * size - CONTROL_PACKET * packets


def divide(allowed: int) -> tuple[int, int]:
    """(bytes of data, repeats of the challenge) of the bytes that the packets allow which moved the endpoint.

    The rest is for the challenge itself.
    """
    room = max(0, allowed - CONTROL_PACKET)
    repeats = min(REPEATS, max(0, room - _DATA_FIRST) // CONTROL_PACKET)
    return room - repeats * CONTROL_PACKET, repeats
