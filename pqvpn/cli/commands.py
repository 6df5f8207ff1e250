"""All commands by name, for typer.

Owns the command line's words and how typer's own complaints become ours (exit code 64). `main` is the entry, and does
without this module where it can: see `foreground`.
"""

import os
import sys
from typing import Annotated

import typer

from pqvpn.cli import (
    breakers,
    crashes,
    explain,
    foreground,
    health,
    identity,
    loglevel,
    options,
    output,
    peers,
    service,
    settings,
    status,
    upgrade,
)
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

app = typer.Typer(
    name="pqvpn",
    no_args_is_help=True,
    add_completion=foreground.COMPLETE in os.environ,  # only while a shell asks; `pqvpn completion` prints the script
    rich_markup_mode=None,  # help without importing rich
    pretty_exceptions_enable=False,
    help="A post-quantum peer-to-peer VPN that explains itself.",
    epilog=options.examples(
        "pqvpn init --name alpha --address 10.7.0.1/24",
        "pqvpn peer add beta beta.pqcard --endpoint beta.example.net:51820 --allow 10.7.0.2/32",
        "pqvpn up --detach",
        "pqvpn status --watch",
    )
    + "\n\nErrors carry a code; docs/reasons.md lists them. --debug, anywhere, adds stack traces.",
)

_COMMANDS = (
    (
        identity.init,
        ("pqvpn init --name alpha --address 10.7.0.1/24", "pqvpn init --config ./alpha/pqvpn.toml --listen 51821"),
    ),
    (service.check, ("pqvpn check", "pqvpn check --config ./alpha/pqvpn.toml --json")),
    (service.up, ("pqvpn up", "pqvpn up --detach")),
    (service.down, ("pqvpn down",)),
    (
        status.status,
        (
            "pqvpn status",
            "pqvpn status --watch",
            "pqvpn status --drops",
            "pqvpn status --breakers",
            "pqvpn status --exit-code --json",
        ),
    ),
    (health.health, ("pqvpn health", "pqvpn health --json", "pqvpn health --ready")),
    (loglevel.log_level, ("pqvpn log-level", "pqvpn log-level handshake=debug --for 10m", "pqvpn log-level '*=info'")),
    (service.reload, ("pqvpn reload",)),
    (upgrade.upgrade, ("pqvpn upgrade", "pqvpn upgrade --python /opt/pqvpn-next/bin/python --json")),
    (explain.explain, ("pqvpn explain network.no_reply", "pqvpn explain mac1", "pqvpn explain")),
)
for _command, _examples in _COMMANDS:
    app.command(epilog=options.examples(*_examples))(_command)
app.add_typer(identity.card_app, name="card")
app.add_typer(peers.app, name="peer")
app.add_typer(breakers.app, name="breaker")
app.add_typer(settings.app, name="config")
app.add_typer(crashes.app, name="diag")


@app.command(epilog=options.examples("pqvpn version"))
def version(json: options.Json = False) -> None:
    """Show the version."""
    from pqvpn import __version__

    if json:
        output.print_json({"version": __version__})
    else:
        print(f"pqvpn {__version__}")


@app.command(epilog=options.examples("pqvpn completion bash > /etc/bash_completion.d/pqvpn"))
def completion(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Your shell.")]) -> None:
    """Print the script that completes pqvpn's commands and options in a shell."""
    import subprocess

    if shell not in ("bash", "zsh", "fish"):
        raise PqvpnError(Reason.USAGE, f"no completion for {shell!r}", remedy="give bash, zsh or fish")
    command = [sys.executable, "-m", "pqvpn.cli"]
    environment = {**os.environ, foreground.COMPLETE: f"source_{shell}"}
    script = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    print(script.stdout, end="")


def invoke(arguments: list[str], modes: output.Modes) -> int:
    """Hand over to typer, whose own exceptions become ours."""
    try:
        code = app(args=arguments, prog_name="pqvpn", standalone_mode=False, obj=modes)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer's own answer to it is to exit with 1
            raise ended.__context__ from None
        raise
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.TyperException as error:
        if not arguments or type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)
            return os.EX_USAGE
        hint = _help_of(error)
        raise PqvpnError(Reason.USAGE, error.format_message(), remedy=hint) from None
    return code if isinstance(code, int) else os.EX_OK


def _help_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "pqvpn")
    return f"see {command} --help"
