"""Frame layouts, drawn: bytes to values and back, exact lengths, reserved bits refused.

Owns what lies where. Knows no keys, peers or states. Every `parse_*` takes arbitrary bytes and gives a value or the
`DropReason` to count; it never raises.
"""
