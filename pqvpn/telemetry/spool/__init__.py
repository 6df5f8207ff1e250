"""The one store of telemetry: checksummed segments on disk, bounded, crash-safe, readable while it is written."""

from pqvpn.telemetry.spool.cursor import Loss
from pqvpn.telemetry.spool.keeper import Keeper, Trouble
from pqvpn.telemetry.spool.layout import Kind, Record, RecordId
from pqvpn.telemetry.spool.reading import Reader
from pqvpn.telemetry.spool.writer import Backlog, Spool

__all__ = ["Backlog", "Keeper", "Kind", "Loss", "Reader", "Record", "RecordId", "Spool", "Trouble"]
