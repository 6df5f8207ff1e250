"""The pure protocol: bytes and `now` in, effects out. Start at `core.py`; docs/protocol.md is the
specification.
"""
