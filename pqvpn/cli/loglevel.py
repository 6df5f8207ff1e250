"""`pqvpn log-level`: how much the running node's log says, by area, for a while.

Owns the command's words. The levels are the node's (control socket, operation `log_level`).
"""

from typing import Annotated, Any

import typer

from pqvpn.cli import client, options, output, view
from pqvpn.config import paths, units
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason


def log_level(
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[AREA=LEVEL]...", help="Such as handshake=debug; '*' is every area without its own."),
    ] = None,
    lasts: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help='Fall back after this time, such as "10m".')
    ] = None,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Show or change the levels of the running node's log: debug, info, warning, error."""
    runtime = paths.runtime_folder_of(options.config_path(config))
    seconds = _seconds(lasts)
    pairs = [_pair(each) for each in changes or ()]
    if seconds is not None and not pairs:
        raise PqvpnError(Reason.USAGE, "--for without AREA=LEVEL", remedy="see pqvpn log-level --help")
    for area, level in pairs:
        client.request(runtime, "log_level", area=area, level=level, for_seconds=seconds)
    answer = client.request(runtime, "log_level")
    if json:
        output.print_json(answer)
        return
    for each in answer["levels"]:
        print(_line(each))
    if not pairs:
        print(f"Areas: {', '.join(answer['areas'])}")


def _line(each: dict[str, Any]) -> str:
    left = each.get("seconds")
    return f"{each['area']:12} {each['level']}" + ("" if left is None else f", falls back in {view.age(left)}")


def _pair(text: str) -> tuple[str, str]:
    area, equals, level = text.partition("=")
    if not equals or not area or not level:
        raise PqvpnError(Reason.USAGE, f"{text!r} is not AREA=LEVEL", remedy="such as handshake=debug")
    return area, level


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return units.parse_duration(text)
    except ValueError as error:
        raise PqvpnError(Reason.USAGE, str(error), remedy='give a time such as "10m"') from None
