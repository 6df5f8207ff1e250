"""What the kernel says of this machine's network and clock: read, never changed, bounded.

Owns which facts of the kernel belong to a diagnosis. Knows nothing of the node. What cannot be read is left out.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

_STA_UNSYNC = 0x40
_TIME_ERROR = 5
_TIMEX_SIZE = 256  # struct timex has 208 bytes
_STA_NANO = 0x2000
_ENTRIES_MOST = 2000
_SYSCTLS = (
    "net/core/rmem_max", "net/core/wmem_max", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter", "net/ipv6/conf/all/disable_ipv6",
    "net/ipv4/ip_no_pmtu_disc", "net/ipv4/tcp_mtu_probing", "kernel/unprivileged_userns_clone",
)  # fmt: skip
_TABLES = ("net/dev", "net/snmp")  # none that writes addresses as bare hex digits, which no redactor could tell
_TABLE_MOST = 64 << 10


class Clock(NamedTuple):
    """The wall clock in the kernel's words. `offset`: seconds still to be slewed, `error`: at most so wrong; None unknown."""

    synchronised: bool | None = None
    offset: float | None = None
    error: float | None = None


def clock() -> Clock:
    """How well the wall clock is kept (adjtimex(2), read only)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(_TIMEX_SIZE)
        state = libc.adjtimex(buffer)
    except (OSError, AttributeError):
        return Clock()
    if state < 0:
        return Clock()
    _, offset, _, error, _, status = struct.unpack_from("@Illlli", buffer.raw)
    if status & _STA_UNSYNC or state == _TIME_ERROR:
        return Clock(synchronised=False)
    return Clock(True, offset / (1e9 if status & _STA_NANO else 1e6), error / 1e6)


def clock_synchronised() -> bool | None:
    """Whether the kernel says that the wall clock is kept right; None: it cannot be asked."""
    return clock().synchronised


def machine() -> dict[str, str]:
    """The system in words."""
    release = platform.freedesktop_os_release() if _has_release() else {}
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "system": str(release.get("PRETTY_NAME", platform.system())),
        "processors": str(os.cpu_count() or "?"),
    }


def _has_release() -> bool:
    try:
        platform.freedesktop_os_release()
    except OSError:
        return False
    return True


def sysctls() -> dict[str, str]:
    """The settings that matter to the tunnel."""
    found = {}
    for name in _SYSCTLS:
        with suppress(OSError):
            found[name.replace("/", ".")] = Path("/proc/sys", name).read_text(encoding="ascii").strip()[:200]
    return found


def tables() -> dict[str, str]:
    """The kernel's own tables of the network, as text."""
    found = {}
    for name in _TABLES:
        with suppress(OSError), open(Path("/proc", name), "rb") as file:
            found[name.removeprefix("net/")] = file.read(_TABLE_MOST).decode("ascii", "replace")
    return found


def netlink() -> dict[str, list[str]]:
    """Interfaces, addresses, rules and routes of all tables, a line each."""
    try:
        from pqvpn.host.rtnetlink import Netlink

        with Netlink() as route:
            names = {link["index"]: _attribute(link, "IFLA_IFNAME") for link in route.get_links()}
            return {
                "interfaces": [_link(link) for link in _bounded(route.get_links())],
                "addresses": [_address(each, names) for each in _bounded(route.get_addr())],
                "rules": [_rule(each) for family in (2, 10) for each in _bounded(route.get_rules(family=family))],
                "routes": [
                    _route(each, names) for family in (2, 10) for each in _bounded(route.get_routes(family=family))
                ],
            }
    except Exception as error:  # noqa: BLE001 - a library's many ways to fail; a bundle without this part is still one
        return {"error": [type(error).__name__]}


def _bounded(found: Iterable[Any]) -> Iterable[Any]:
    return islice(found, _ENTRIES_MOST)


def _attribute(message: Any, name: str) -> Any:
    return next((each[1] for each in message["attrs"] if each[0] == name), None)


def _link(link: Any) -> str:
    name, mtu, state = (_attribute(link, f"IFLA_{each}") for each in ("IFNAME", "MTU", "OPERSTATE"))
    return f"{link['index']}: {name} mtu {mtu} {state}"


def _address(address: Any, names: dict[int, Any]) -> str:
    return f"{_attribute(address, 'IFA_ADDRESS')}/{address['prefixlen']} dev {names.get(address['index'])}"


def _rule(rule: Any) -> str:
    mark, table, interface = (_attribute(rule, f"FRA_{each}") for each in ("FWMARK", "TABLE", "IIFNAME"))
    parts = [f"{_attribute(rule, 'FRA_PRIORITY') or 0}:", "not" if rule["flags"] & 2 else "", "from all"]
    parts += [f"fwmark {mark:#x}" if mark else "", f"iif {interface}" if interface else "", f"lookup {table}"]
    return " ".join(part for part in parts if part)


def _route(route: Any, names: dict[int, Any]) -> str:
    destination = _attribute(route, "RTA_DST")
    parts = [f"{destination}/{route['dst_len']}" if destination else "default"]
    for label, name in (("via", "RTA_GATEWAY"), ("metric", "RTA_PRIORITY"), ("table", "RTA_TABLE")):
        value = _attribute(route, name)
        parts += [f"{label} {value}"] if value is not None else []
    interface = names.get(_attribute(route, "RTA_OIF"))
    return " ".join([*parts, f"dev {interface}" if interface else f"type {route['type']}"])
