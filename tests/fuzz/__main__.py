"""`python -m tests.fuzz [--seconds N] [--seed N] [--plain] [target ...]`: fuzz every parser, each for N seconds.

Owns the command line. With atheris each target runs in a process of its own, guided by coverage, from the corpus in this
folder; what it finds stays in `.cache/fuzz` (new inputs and crashes). Without atheris, or with --plain, inputs are random
mutations of the corpus. `python -m tests.fuzz --input FILE target` runs one input again. Exit code 1: an invariant broke.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.fuzz import driver

_FOUND = Path(".cache/fuzz")
_MEMORY_LIMIT = "-rss_limit_mb=512"


def main() -> int:
    """Run what the command line asks for."""
    options = _options()
    if options.guided:
        return _guided(options.targets[0], options.seconds, options.seed)
    if options.input:
        driver.once(options.targets[0], driver.load(options.targets[0]).check, options.input.read_bytes())
        return 0
    with_atheris = not options.plain and importlib.util.find_spec("atheris") is not None
    if not with_atheris:
        print("without atheris: random mutations of the corpus")
    failed = [name for name in options.targets if not _run(name, options, with_atheris)]
    if failed:
        print(f"broken: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz parsers.")
    known = driver.names()
    parser.add_argument("targets", nargs="*", default=known, metavar="target", help=f"of {', '.join(known)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (1)")
    parser.add_argument("--plain", action="store_true", help="do not use atheris")
    parser.add_argument("--input", type=Path, help="run one input again; needs one target")
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in known]
    if unknown or ((options.input or options.guided) and len(options.targets) != 1):
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else "name one target")
    return options


def _run(name: str, options: argparse.Namespace, with_atheris: bool) -> bool:
    print(f"== {name}: {driver.load(name).__doc__.splitlines()[0]}", flush=True)
    if with_atheris:
        command = [sys.executable, "-m", "tests.fuzz", "--guided", name]
        command += [f"--seconds={options.seconds}", f"--seed={options.seed}"]
        return subprocess.run(command).returncode == 0
    try:
        count = driver.replay(name, seed=options.seed, seconds=options.seconds)
    except driver.BrokenInvariantError as broken:
        _FOUND.mkdir(parents=True, exist_ok=True)
        kept = _FOUND / f"{name}-crash"
        kept.write_bytes(broken.data)
        print(f"{broken}\n  again: python -m tests.fuzz --input {kept} {name}", file=sys.stderr)
        return False
    print(f"   {count} inputs")
    return True


def _guided(name: str, seconds: float, seed: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["pqvpn"]):
        target = driver.load(name)
    grown = _FOUND / name
    grown.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0], str(grown), str(driver.corpus_folder(name)), f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}",
        f"-max_len={driver.LONGEST}", f"-timeout={driver.SLOWEST:.0f}", _MEMORY_LIMIT, f"-artifact_prefix={_FOUND}/{name}-",
        "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup(arguments, lambda data: driver.once(name, target.check, data))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
