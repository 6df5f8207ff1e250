"""`pqvpn diag bundle | open`: an archive for somebody else, and the same answers out of one.

Owns the preview, the question before writing, and the way from an opened bundle to the other subcommands. What goes in is
`pqvpn.diag.bundle`, what is read of one is `pqvpn.diag.opened`.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pqvpn.cli import diag, options, output
from pqvpn.errors import ConfigError, PqvpnError
from pqvpn.reasons import Reason

app = diag.app
"""All of `pqvpn diag`, with the two commands of this module."""


@app.command(epilog=options.examples("pqvpn diag bundle", "pqvpn diag bundle -o alpha.tar.gz --yes"))
def bundle(
    context: typer.Context,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where; by default in this folder.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before writing.")] = False,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Write what somebody else needs to see into one archive, without secrets. Nothing is sent anywhere."""
    from pqvpn.diag import bundle as making
    from pqvpn.diag import report
    from pqvpn.diag.words import size

    inquiry, places = diag.inquiry(context, config), diag.places(context, config)
    entries = making.Collector(inquiry, places, _redactor(places.state, places.configuration)).collect()
    place = to or Path(making.default_name(inquiry.known))
    if not json:
        _preview(entries, place)
    if not (yes or json) and sys.stdin.isatty() and not typer.confirm("Write it?", default=True):
        raise typer.Exit(diag.PROBLEMS)
    try:
        written = making.write(entries, place)
    except OSError as error:
        raise ConfigError(Reason.CONFIG_NOT_WRITTEN, error.strerror or str(error), place=str(place)) from None
    if json:
        files = [{"name": each.name, "bytes": len(each.content), "about": each.about} for each in entries]
        output.print_json(report.headed("bundle", {"path": str(place), "bytes": written, "files": files}))
    else:
        print(
            f"Written: {place}, {size(written)}, readable by you alone. Nothing was sent. Look into it: pqvpn diag open {place}"
        )


def _preview(entries: "list[Any]", place: Path) -> None:
    from pqvpn.diag.words import columns, size

    print(f"The bundle {place} will hold:")
    for row in columns([(f"  {each.name}", size(len(each.content)), each.about) for each in entries]):
        print(row)


def _redactor(state: Path, configuration: Path | None) -> Any:
    """The redactor of this installation; with a configuration that cannot be read, the default policy."""
    from pqvpn.config import load
    from pqvpn.telemetry import redaction

    addresses: Any = "pseudonym"
    if configuration is not None:
        try:
            addresses = load.load(configuration).redact.addresses
        except PqvpnError:
            addresses = "pseudonym"
    from pqvpn.diag.net import configured_hosts

    hosts = frozenset(host for _, host in configured_hosts(configuration))
    return redaction.Redactor(redaction.load(state, addresses, hosts))


@app.command(
    "open",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
    epilog=options.examples(
        "pqvpn diag open pqvpn-alpha.tar.gz",
        "pqvpn diag open pqvpn-alpha.tar.gz peer beta",
        "pqvpn diag open pqvpn-alpha.tar.gz logs --level warning",
    ),
)
def open_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What pqvpn diag bundle wrote, on any machine.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND...]", help="A subcommand of pqvpn diag, and its options.")
    ] = None,
) -> None:
    """Ask a bundle instead of a node: the same subcommands give the same answers."""
    from pqvpn.diag.opened import Opened

    arguments = [word for word in words or () if word != "--debug"]
    if arguments[:1] in (["open"], ["bundle"]):
        raise PqvpnError(
            Reason.USAGE,
            f"{arguments[0]} does not work on a bundle",
            remedy="give peer, trace, session, logs, metrics or net",
        )
    diag.opened.append(Opened(file))
    try:
        code = typer.main.get_command(diag.app).main(
            args=arguments, prog_name=f"pqvpn diag open {file}", standalone_mode=False, obj=context.obj
        )
    finally:
        diag.opened.pop()
    if isinstance(code, int) and code:
        raise typer.Exit(code)
