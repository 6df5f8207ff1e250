"""Why a packet was discarded: a closed enumeration, each member with a counter.

Owns the names and their numbers (the index of the counter in shared memory). A drop is never an exception.
"""

from enum import IntEnum, unique


@unique
class DropReason(IntEnum):
    """Reasons for discarding one packet or datagram; the value is the counter's index. Append only."""

    # any datagram from outside
    MALFORMED = 0  # wrong length, unknown type, version or message, reserved bit set
    WRONG_LANE = 1  # lane bits differ from the index, or no such lane
    UNKNOWN_INDEX = 2  # no session receives at this index
    # transport, from outside
    REPLAY = 3  # counter seen before or older than the window
    AUTHENTICATION = 4  # tag does not verify
    COUNTER_LIMIT = 5  # counter at or past the cipher's hard stop
    SESSION_EXPIRED = 6  # keys past their life
    BAD_META = 7  # authenticated, but GSO or checksum fields do not fit the packet
    BAD_LENGTH = 8  # authenticated, but the inner length does not fit
    SOURCE_NOT_ALLOWED = 9  # inner source outside the peer's allowed IPs
    UNKNOWN_KIND = 10  # authenticated, unknown kind or control operation
    ECN_INVALID = 11  # outer CE over inner not-ECT (RFC 6040)
    TUN_WRITE = 12  # the kernel refused the write to the TUN
    # from the inside
    NO_ROUTE = 13  # destination in nobody's allowed IPs
    NO_SESSION = 14  # no session with the peer yet; the queue's oldest goes
    TOO_BIG = 15  # larger than the path or the peer takes
    NOT_IP = 16  # not an IPv4 or IPv6 packet
    NO_ENDPOINT = 17  # the peer's address is not known
    KEYS_EXPIRED = 18  # black hole: keys expired and no new ones
    SEND_COUNTER_LIMIT = 19  # the lane's own counter is at the stop
    UDP_SEND = 20  # the kernel refused the datagram
    AMPLIFICATION = 21  # unvalidated path's budget is used up
    # handshake, from outside
    MAC1 = 22
    COOKIE_REQUIRED = 23  # cookie mode, MAC2 absent or wrong
    RATE_LIMIT = 24
    REASSEMBLY_FULL = 25
    REASSEMBLY_CONFLICT = 26  # a fragment differs from the one present
    REASSEMBLY_TIMEOUT = 27
    DECAPSULATION = 28  # invalid key or all-zero share
    UNKNOWN_PEER = 29  # identity not configured, or our own
    BAD_HANDSHAKE = 30  # a handshake message failed to open or carries refused values
    POLICY_MISMATCH = 31
    BISCUIT = 32  # does not open for this source
    STALE_HANDSHAKE = 33  # too old, or its number was used
    INDEX_IN_USE = 34
    NO_ATTEMPT = 35  # answers no outstanding message of ours
    BAD_COOKIE = 36
    ENROLMENT_OFF = 37
    CRYPTO_UNAVAILABLE = 38  # self-test failed: handshakes are refused
    RESPONSE_LIMIT = 39  # path responses or repeated acknowledgements over their rate
    HANDOVER = 40  # the lane that owns this packet could not take it
    INTERNAL = 41  # a burst abandoned after an internal error of the lane
    VERSION = 42  # a handshake datagram of another protocol version


DROP_COUNT = 64  # counters reserved in shared memory
