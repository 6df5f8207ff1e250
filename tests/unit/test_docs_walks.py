"""Documentation names files, links, commands and codes; here they are looked up.

A page that leads nowhere is worse than none: whoever moves a file finds out here which walk led through it.
"""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "vectors" / "README.md"])
WALKS = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", ROOT / "docs" / "architecture.md"]

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"(?:[\w.-]+/)*[\w-]+\.(?:py|sh|md|txt|service)", re.ASCII)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_ANCHOR = re.compile(r'<a id="([^"]+)">')


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def _file_names() -> frozenset[str]:
    folders = ("pqvpn", "tests", "lab", "bench", "docs", "scripts", "packaging", "requirements")
    return frozenset(file.name for folder in folders for file in (ROOT / folder).rglob("*"))


def _exists(name: str, page: Path) -> bool:
    """A path from the root, from `pqvpn/` or from the page; a bare name of any file of the project."""
    if "/" not in name:
        return name in _file_names() or (ROOT / name).exists()
    return any((start / name).exists() for start in (ROOT, ROOT / "pqvpn", page.parent))


@cache
def _anchors(page: Path) -> frozenset[str]:
    text = _prose(page)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}
    return frozenset(slugs | set(_ANCHOR.findall(text)))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_named_exist(page: Path) -> None:
    named = {
        word for code in _CODE.findall(_prose(page)) for word in re.split(r"[\s,:]+", code) if _FILE.fullmatch(word)
    }
    assert sorted(name for name in named if not _exists(name, page)) == []


@pytest.mark.parametrize("page", WALKS, ids=_name)
def test_walks_name_files_at_all(page: Path) -> None:
    """The test above would pass for a page whose names it does not recognise."""
    assert re.search(r"`[\w/]+\.py`|\]\([\w/]+\.md\)", _prose(page))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(_prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in _anchors(found)):
            broken.append(target)
    assert broken == []


def test_every_module_of_the_data_plane_and_the_core_is_on_a_walk() -> None:
    """What a newcomer cannot find by the walks does not exist for him."""
    told = "".join(page.read_text(encoding="utf-8") for page in WALKS)
    packages = [ROOT / "pqvpn" / name for name in ("dataplane", "control", "node")]
    modules = [file for package in packages for file in package.glob("[a-z]*.py")]
    assert modules
    assert sorted(file.name for file in modules if f"{file.name}`" not in told) == []
