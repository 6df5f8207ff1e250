"""Walks through an encoded OTLP request without decoding it as a whole.

Owns the few rules of protobuf's wire format that are needed to cut a request into spans, log records and data points, so
that each is decoded alone: a payload of two-byte messages would otherwise grow a hundredfold in memory. Knows no OTLP but
that resource, scope and item nest alike in all three signals. Raises WireError for what is no protobuf.
"""

from collections.abc import Iterator
from typing import Final

_RESOURCE_GROUPS: Final = 1  # field of Export*ServiceRequest
_RESOURCE: Final = 1  # fields of Resource{Spans,Logs,Metrics}
_SCOPE_GROUPS: Final = 2
_SCOPE: Final = 1  # fields of Scope{Spans,Logs,Metrics}
_ITEMS: Final = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT: Final = 10


class WireError(ValueError):
    """What was met is not protobuf, or not complete."""


def fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message in order: (number, bytes of a submessage or text) or (number, integer)."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at, end)
        number, kind = key >> 3, key & 7
        if kind == _BYTES:
            length, at = _varint(data, at, end)
            if length > end - at:
                raise WireError("a field is longer than what holds it")
            yield number, data[at : at + length]
            at += length
        elif kind == _VARINT:
            value, at = _varint(data, at, end)
            yield number, value
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
            if length > end - at:
                raise WireError("a number is cut off")
            yield number, int.from_bytes(data[at : at + length], "little")
            at += length
        else:
            raise WireError(f"there is no wire type {kind}")


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = shift = 0
    for index in range(at, min(end, at + _LONGEST_VARINT)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise WireError("a number has no end")


def messages(data: memoryview, number: int) -> Iterator[memoryview]:
    """The submessages of one field."""
    return (value for each, value in fields(data) if each == number and isinstance(value, memoryview))


def last(data: memoryview, number: int) -> memoryview:
    """The submessage or text of a field that stands once; empty when it is not there."""
    found = memoryview(b"")
    for each in messages(data, number):
        found = each
    return found


def items(request: bytes) -> Iterator[tuple[memoryview, memoryview, memoryview]]:
    """(resource, scope, item) of each span, log record or metric in a request."""
    for group in messages(memoryview(request), _RESOURCE_GROUPS):
        resource = last(group, _RESOURCE)
        for scope_group in messages(group, _SCOPE_GROUPS):
            scope = last(scope_group, _SCOPE)
            for item in messages(scope_group, _ITEMS):
                yield resource, scope, item
