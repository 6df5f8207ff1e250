"""Which attempts are traced: a decision that everybody who knows the trace id and the share makes alike.

Owns the arithmetic, which is that of OpenTelemetry's `TraceIdRatioBased`: the low 64 bits of the trace id against the
share. Knows nothing of spans.
"""

_LOW = 1 << 64


def sampled(trace_id: bytes, share: float) -> bool:
    """Whether an attempt with this trace id (16 bytes) is among the `share` (0 to 1) that is traced."""
    return int.from_bytes(trace_id[-8:], "big") < round(share * _LOW)
