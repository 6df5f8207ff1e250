"""Every way into code of ours that nobody of ours calls ends at a boundary: callbacks, tasks, threads, signals, processes.

Found by reading the source: what is registered with an event loop, a selector, a thread or a signal either catches
everything by itself, or stands below with the boundary that it ends at. A new one that does neither fails here.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pqvpn

ROOT = Path(pqvpn.__file__).parent
PLACES = {
    "add_reader": 1, "add_writer": 1, "add_signal_handler": 1, "call_later": 1, "call_at": 1, "call_soon": 0,
    "call_soon_threadsafe": 0, "create_task": 0, "ensure_future": 0, "run_in_executor": 1, "to_thread": 0, "start_server": 0,
    "start_unix_server": 0, "add_done_callback": 0, "set_exception_handler": 0, "Thread": 1, "Timer": 1, "register": 2,
    "signal": 1,
}  # fmt: skip
"""What registers code, and which of its arguments that is."""
HARMLESS = {"set", "_exit", "abort", "cancel", "clear", "wait", "monotonic"}
"""What may be called without a boundary: none of it raises."""

BOUNDARIES = {"call", "failed", "_failed_in_loop", "tell", "caught", "sleep"}
"""What is one itself, or waits."""

_TURN = "Node._turn calls it at the boundary of the supervisor"
_LOOP = "ControlProcess.run: the loop's handler, which is control's boundary"
ELSEWHERE = {
    ("control/lanes.py", "self._readable"): _LOOP,
    ("control/lanes.py", "self._flush"): _LOOP,
    ("control/news.py", "self._readable"): _LOOP,
    ("control/process.py", "self._readable"): _LOOP,
    ("control/process.py", "self._from_supervisor"): _LOOP,
    ("control/process.py", "self._due"): _LOOP,
    ("control/process.py", "self._tick"): _LOOP,
    ("control/api.py", "self._serve"): "Api._answer: the request's; beyond it the loop's handler",
    ("control/lookups.py", "self._one"): "Lookups.ask, which takes its result",
    ("control/lookups.py", "told"): _LOOP,
    ("control/probing.py", "self._lookups.ask"): "Probing._probe, which waits for it",
    ("control/probing.py", "self._probe"): "Probing.ask, which waits for it in the name of a request",
    ("control/probing.py", "self._survey_one"): "Probing._survey, which takes its result",
    ("host/rtnetlink.py", "future"): "run_until_complete, which waits for it",
    ("node/lifecycle.py", "lambda: reading.recv(64)"): _TURN,
    (
        "node/lifecycle.py",
        "self._signalled",
    ): "only sets what the loop looks at; what it calls has the supervisor's boundary",
    ("node/spare.py", "self._ended"): _TURN,
    ("node/staff.py", "self._from_control"): _TURN,
    ("node/upgrade.py", "self._checked"): _TURN,
    ("resilience/supervisor.py", "lambda: self._ended(child)"): _TURN,
    (
        "observer/process.py",
        "each",
    ): "ObserverProcess.run: one that ends takes the process to its end, told; each has its own",
    ("observer/process.py", "do"): "the loop's handler, which is the observer's boundary",
    ("observer/process.py", "self._read_again"): "the loop's handler, which is the observer's boundary",
    ("observer/http.py", "running.serve"): "serve, which waits for it",
    ("observer/worker.py", "self._run"): "around each job; before it nothing but the queue is touched",
    ("telemetry/export/drainer.py", "self._run"): "around each turn; after the last one connections are closed",
    (
        "telemetry/export/connection.py",
        "self.cut",
    ): "suppresses what the kernel refuses; beyond it threading.excepthook",
}
"""(file, callback): where it ends."""


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def _registered() -> Iterator[tuple[str, int, ast.expr]]:
    """(file, line, callback) of every registration in the package."""
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(_tree(file)):
            if isinstance(node, ast.Call) and (found := _callback(node)) is not None:
                yield file, node.lineno, found


def _callback(call: ast.Call) -> ast.expr | None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    place = PLACES.get(name)
    if place is None:
        return None
    for keyword in call.keywords:
        if keyword.arg in ("target", "callback", "function"):
            return keyword.value
    found = call.args[place] if len(call.args) > place else None
    return found.func if isinstance(found, ast.Call) else found  # a coroutine, by the function that made it


def _bounded(file: str, callback: ast.expr) -> bool:
    """Whether it catches everything by itself, or does nothing that could fail."""
    if isinstance(callback, ast.Lambda):
        return _guarded(ast.Expr(callback.body))
    text = ast.unparse(callback)
    if text.startswith("signal.SIG_") or text.rpartition(".")[2] in HARMLESS:
        return True
    name = text.rpartition(".")[2]
    found = [
        n for n in ast.walk(_tree(file)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == name
    ]
    return bool(found) and all(all(_guarded(line) for line in each.body) for each in found)


def _guarded(line: ast.stmt) -> bool:
    match line:
        case ast.Try(handlers=handlers):
            return any(h.type is None or "Exception" in ast.unparse(h.type).split(".") for h in handlers)
        case ast.With(items=items):
            entered = [ast.unparse(item.context_expr) for item in items]
            return any("boundary(" in each or each.endswith("suppress(Exception)") for each in entered)
        case ast.While(body=body, orelse=other) | ast.For(body=body, orelse=other) | ast.If(body=body, orelse=other):
            return all(_guarded(each) for each in (*body, *other))
        case ast.Expr(value=ast.Constant()) | ast.Pass() | ast.Return(value=None | ast.Constant()) | ast.Break():
            return True
        case ast.Expr(value=ast.Call(func=called)) | ast.Expr(value=ast.Await(value=ast.Call(func=called))):
            return ast.unparse(called).rpartition(".")[2] in {*HARMLESS, *BOUNDARIES}
        case ast.Assign(value=value) | ast.AnnAssign(value=value):
            called = [ast.unparse(n.func) for n in ast.walk(value or line) if isinstance(n, ast.Call)]
            return all(each.rpartition(".")[2] in HARMLESS for each in called)
        case _:
            return False


def test_whatever_is_registered_has_a_boundary() -> None:
    unbounded = {(file, ast.unparse(found)): line for file, line, found in _registered() if not _bounded(file, found)}
    assert {
        f"{file}:{line}: {text}" for (file, text), line in unbounded.items() if (file, text) not in ELSEWHERE
    } == set()
    assert {key for key in ELSEWHERE if key not in unbounded} == set(), "these are gone, or have their own"


@pytest.mark.parametrize(
    ("source", "bounded"),
    [
        ("def work():\n    open('x')", False),
        ("def work():\n    try:\n        open('x')\n    except OSError:\n        pass", False),
        ("def work():\n    try:\n        open('x')\n    except Exception:\n        pass", True),
        ("def work():\n    x = open('x')\n    try:\n        x.read()\n    except Exception:\n        pass", False),
        ("def work():\n    while True:\n        with self._boundary('x'):\n            open('x')", True),
        ("def work():\n    with suppress(OSError):\n        open('x')", False),
    ],
)
def test_the_test_tells_them_apart(source: str, bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ast.parse(f"{source}\nThread(target=work)")
    monkeypatch.setitem(globals(), "_tree", lambda _: tree)
    (call,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "Thread")
    callback = _callback(call)
    assert callback is not None
    assert _bounded("work.py", callback) == bounded
