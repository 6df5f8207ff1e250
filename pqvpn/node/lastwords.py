"""What the supervisor does with an exception that ends it: a start that failed, or a fault of its own.

Owns which ends are reported and how they are called. At that point there is no observer, or it has ended: the report goes
the short way (`telemetry/crashes/direct.py`). Never raises, and changes nothing about how the command ends.
"""

import contextlib
import os
import socket
from dataclasses import replace
from typing import Final

from pqvpn.config import paths
from pqvpn.config.schema import NodeConfig
from pqvpn.facts import Crashed
from pqvpn.reasons import Reason
from pqvpn.telemetry.crashes import describe
from pqvpn.telemetry.redaction import Policy

SUPERVISOR: Final = "supervisor"
_NO_CRASH: Final = frozenset((Reason.ALREADY_RUNNING,))
"""What an operator is told and nobody else needs to know."""


def of(error: Exception, *, running: bool) -> Crashed | None:
    """The fact of an end by this exception, with a trace of its own; None when it is no crash. `running`: it had started."""
    crash = describe.exception(error, SUPERVISOR, handled=False, kind="exception" if running else "startup")
    return None if crash.reason in _NO_CRASH else replace(crash, trace_id=os.urandom(16).hex())


def report(config: NodeConfig, crash: Crashed, policy: Policy) -> None:
    """Put a report of it into the spool, and try to deliver it."""
    if not config.telemetry.enabled:
        return
    with contextlib.suppress(Exception):  # the end itself matters more
        from pqvpn.telemetry.crashes import direct
        from pqvpn.telemetry.crashes.delivery import Server
        from pqvpn.telemetry.crashes.recorder import Naming

        section = config.crash_reports
        server = Server(config.crash_dsn, ca_file(config), section.timeout) if config.crash_dsn else None
        place = direct.Place(config.state_folder, paths.CRASHES_FOLDER, section.keep_size, section.keep_age)
        direct.record(crash, policy, Naming(config.node.name, section.environment, host(config)), place, server)


def host(config: NodeConfig) -> str:
    """This host's name, where reports may tell it."""
    return socket.gethostname() if config.crash_reports.host_name else ""


def ca_file(config: NodeConfig) -> str | None:
    """The file of certificates for the crash server, absolute."""
    name = config.crash_reports.ca_file
    return str(config.folder / name) if name else None
