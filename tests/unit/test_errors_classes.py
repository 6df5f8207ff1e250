"""Every reason has its class, and code raises it with that class; no handler catches everything without saying why."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pqvpn
from pqvpn import errors
from pqvpn.cli import docs
from pqvpn.errors import PqvpnError, classes_of
from pqvpn.reasons import Reason

PACKAGE = Path(pqvpn.__file__).parent
NAMED = {kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type)}


def raises() -> Iterator[tuple[str, type[PqvpnError], Reason]]:
    """(place, class, reason) of every error that the package makes of a literal reason."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            kind = NAMED.get(getattr(node.func, "id", ""))
            if kind is None or not issubclass(kind, PqvpnError):
                continue
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Attribute) and getattr(part.value, "id", "") == "Reason":
                    yield f"{file.relative_to(PACKAGE)}:{node.lineno}", kind, Reason[part.attr]


def test_what_is_raised_has_the_class_of_its_reason() -> None:
    found = list(raises())
    assert len(found) > 60
    wrong = [f"{place}: {kind.__name__}({reason})" for place, kind, reason in found if kind not in classes_of(reason)]
    assert wrong == []


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_the_page_lists_class_action_who_and_remedy(reason: Reason) -> None:
    page = docs.render([reason])
    for kind in classes_of(reason):
        assert f"`{kind.__name__}`" in page
    assert f"Action: {reason.action.value}. Who: {reason.who.value}." in page
    assert f"Remedy: {reason.remedy}." in page


def handlers() -> Iterator[tuple[str, ast.ExceptHandler, str]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ExceptHandler):
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", node, lines[node.lineno - 1]


def test_no_handler_is_bare_and_each_that_catches_everything_and_goes_on_says_why() -> None:
    bare, silent = [], []
    for place, node, line in handlers():
        if node.type is None:
            bare.append(place)
        elif getattr(node.type, "id", "") in ("Exception", "BaseException"):
            passed_on = any(isinstance(part, ast.Raise) for part in ast.walk(node))
            _, _, why = line.partition("# noqa: BLE001 - ")
            if not passed_on and len(why.split()) < 2:
                silent.append(place)
    assert (bare, silent) == ([], [])
