"""Another version of PQVPN: a copy of the package with changed files, in an environment of its own.

    python = make_version(folder, "9.9.9", {"crypto/kdf.py": "\\ndef expand(...): ..."})
    namespace.popen([*command(python), "up", "--config", ...])

Owns how a version is made and run; knows nothing of what is changed in it.
"""

import pathlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping

from lab.nodes import ROOT


def make_version(folder: pathlib.Path, name: str, changes: Mapping[str, str]) -> pathlib.Path:
    """The interpreter in whose environment it is installed. `changes`: text put at the end of files, or of new ones."""
    package = folder / "pqvpn"
    shutil.copytree(ROOT / "pqvpn", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").write_text(f'__version__ = "{name}"\n')
    for file, text in changes.items():
        with open(package / file, "a", encoding="utf-8") as place:
            place.write(text)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    (packages / "version.pth").write_text(f"{folder}\n{sysconfig.get_path('purelib')}\n")
    return folder / "env" / "bin" / "python"


def command(python: pathlib.Path) -> tuple[str, ...]:
    """The command line of the version of this interpreter, whatever folder it is run in."""
    return str(python), "-I", "-m", "pqvpn.cli"
