"""What tests ask of the machine, and what happens when it is not there.

`@pytest.mark.netns` asks for namespaces and TUN interfaces, `@pytest.mark.needs("nft", ...)` for programs. Where they are
missing the test is skipped with the reason; under CI=true that is a failure, since there everything must have run.
"""

import os
import shutil
from typing import NoReturn

import hypothesis
import pytest

from lab import obstacle

_PROGRAM_FOLDERS = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


# how long one example takes says how busy the machine is, and the first one pays for caches
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("any machine")
    # Debian keeps nft and tcpdump in sbin, which is not in the path of ordinary users.
    os.environ["PATH"] = _PROGRAM_FOLDERS


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("netns") and (found := obstacle()):
        _unavailable(f"no namespaces: {found}")
    for marker in item.iter_markers("needs"):
        missing = [program for program in marker.args if shutil.which(program) is None]
        if missing:
            _unavailable(f"not installed: {', '.join(missing)}")


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"under CI=true nothing may be skipped for the machine's sake: {reason}", pytrace=False)
    pytest.skip(reason)
