"""Nothing secret gets out: what every record passes through before it leaves its process.

`policy.py` (what is wanted of addresses, the installation's key), `pseudonyms.py` (names that stand for addresses, hosts and
IDs), `addresses.py` (where they stand in a text), `patterns.py` and `words.py` (what looks like a secret), `exceptions.py`
(types and places), `allowed.py` (fields that are told), `scrub.py` (the walk through a value: `Redactor`), `otel.py` (records of
OpenTelemetry, rebuilt; the only module here that imports it).
"""

from pqvpn.telemetry.redaction.patterns import REDACTED
from pqvpn.telemetry.redaction.policy import Policy, load
from pqvpn.telemetry.redaction.scrub import Redactor, without_secrets

__all__ = ["REDACTED", "Policy", "Redactor", "load", "without_secrets"]
