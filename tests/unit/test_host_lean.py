"""What processes do not load: each MiB is paid for in every one of them."""

import subprocess
import sys

import pytest

TLS = ("ssl", "requests", "grpc", "sentry_sdk")


@pytest.mark.parametrize(
    ("imports", "absent"),
    [
        ("pqvpn.dataplane.worker", (*TLS, "asyncio", "pqvpn.facts", "pydantic")),
        ("pqvpn.control.spare", (*TLS, "pydantic", "pyroute2", "opentelemetry")),
        ("pqvpn.node, pqvpn.host.netlink", (*TLS, "opentelemetry", "http.client")),
        ("pqvpn.observer.process", ("requests", "grpc", "sentry_sdk", "pydantic", "pyroute2")),
    ],
)
def test_modules_that_stay_out(imports: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {imports}; print(*[m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("first", ["", "import asyncio;", "import ssl;"])
def test_netlink_loads_whatever_was_loaded_before(first: str) -> None:
    code = (
        f"{first}import pqvpn.host.netlink, asyncio, ssl; ssl.create_default_context(); asyncio.run(asyncio.sleep(0))"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True)


def test_who_needs_tls_later_can_have_it() -> None:
    code = "import pqvpn.node, pqvpn.host.netlink, ssl; ssl.create_default_context(); import requests"
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
