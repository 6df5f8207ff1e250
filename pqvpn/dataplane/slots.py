"""Slots: where a packet lies between TUN and cipher.

Owns the layout that both ways of sending share. A slot begins with the virtio header (10 bytes), then comes the IP
packet. The meta (8 bytes) is written over the end of the virtio header, whose last four bytes, checksum start and
offset, are the meta's last four as well: nothing is moved to seal it.
"""

from struct import Struct
from typing import Final

from pqvpn.wire.transport import META_SIZE

VNET_HEADER: Final = Struct(
    "<BBHHHH"
)  # flags, kind of super-packet, header length, segment size, checksum start, offset
VNET_SIZE: Final = 10
PACKET: Final = 16  # of a slot: where the IP packet begins
VNET: Final = PACKET - VNET_SIZE
PLAIN: Final = PACKET - META_SIZE
STRIDE: Final = 2112
ROOM: Final = STRIDE - PACKET - 16  # the largest single packet
FRAME: Final = VNET_SIZE + 65536  # the largest frame
SPILL: Final = 65536 + 4096  # a super-packet and more
MAX_SEND: Final = 65479  # bytes in one UDP send, headers taken off
ZEROS: Final = [bytearray(n) for n in range(STRIDE)]
