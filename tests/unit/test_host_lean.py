"""What processes do not load: each MiB is paid for in every one of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pqvpn.cli import foreground
from pqvpn.config import paths

TLS = ("ssl", "requests", "grpc", "sentry_sdk")


@pytest.mark.parametrize(
    ("imports", "absent"),
    [
        ("pqvpn.dataplane.worker", (*TLS, "asyncio", "pqvpn.facts", "pydantic")),
        ("pqvpn.control.spare", (*TLS, "pydantic", "pyroute2", "opentelemetry")),
        (
            "pqvpn.node, pqvpn.host.netlink",
            (*TLS, "opentelemetry", "http.client", "importlib.metadata", "email", "unittest"),
        ),
        ("pqvpn.observer.process", ("requests", "grpc", "sentry_sdk", "pydantic", "pyroute2", "click", "uvicorn.main")),
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


_BECOME = """
import sys
import pqvpn.node
from pqvpn.cli import main
def run(path, config, *, debug):
    print(debug, *sorted({"typer", "click", "rich", "opentelemetry"} & {m.partition(".")[0] for m in sys.modules}))
    return 7
pqvpn.node.run = run
main.run(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("words", "through_typer"),
    [
        (("up", "--config", "{}"), False),
        (("up", "-c", "{}", "--debug"), False),
        (("--debug", "up"), False),
        (("up", "--json"), True),
        (("up", "--config={}"), True),
    ],
)
def test_what_becomes_the_supervisor_has_no_typer(tmp_path: Path, words: tuple[str, ...], through_typer: bool) -> None:
    path = tmp_path / "pqvpn.toml"
    environment = {**os.environ, "PQVPN_CONFIG": str(path)}
    init = [sys.executable, "-m", "pqvpn.cli", "init", "--name", "alpha", "--address", "10.7.0.1/24"]
    subprocess.run(init, env=environment, check=True, capture_output=True)
    command = [sys.executable, "-c", _BECOME, *(word.format(path) for word in words)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    debug, *loaded = done.stdout.split()
    assert done.returncode == 7, done.stderr
    assert debug == str("--debug" in words)
    assert ("typer" in loaded) == through_typer
    assert "opentelemetry" not in loaded
    assert through_typer or not loaded


@pytest.mark.parametrize(
    "words", [("up", "--config"), ("up", "-c", ""), ("up", "--help"), ("up", "x"), ("status",), ()]
)
def test_other_words_are_typers(words: tuple[str, ...]) -> None:
    assert foreground.asked(words) is None


def test_an_empty_variable_names_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(foreground.CONFIG, "")
    assert foreground.asked(["up"]) == paths.default_config()
    monkeypatch.setenv(foreground.COMPLETE, "complete_bash")
    assert foreground.asked(["up"]) is None
