"""What a node recorded, read from its spool: of a running node, of a dead one, of a copy of its state folder.

Owns the queries. Needs no process and no lock, changes nothing, and raises nothing for what is in the files: what cannot
be read is passed over and told in `notes`. Work and memory are bounded whatever the spool holds.
"""

from pqvpn.telemetry.store.query import Extent, Store
from pqvpn.telemetry.store.records import (
    EventRecord,
    ExemplarRecord,
    Histogram,
    LinkRecord,
    LogRecord,
    MetricRecord,
    SpanRecord,
)

__all__ = [
    "EventRecord",
    "ExemplarRecord",
    "Extent",
    "Histogram",
    "LinkRecord",
    "LogRecord",
    "MetricRecord",
    "SpanRecord",
    "Store",
]
