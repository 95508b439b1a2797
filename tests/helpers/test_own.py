"""External implementations of a port are tested without a change to the tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.own import made_by, settings_of

ROOT = Path(__file__).parents[2]


def examined(tmp_path: Path, module: str, *arguments: str) -> tuple[int, str]:
    """Run contracts with a given module; return the outcome and the output."""
    (tmp_path / "mine.py").write_text(module)
    options = ["-p", "no:cacheprovider", f"--basetemp={tmp_path / 'of_tests'}", "-o", f"pythonpath=tests {tmp_path}"]
    command = [sys.executable, "-m", "pytest", "-q", *options, *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    return ended.returncode, ended.stdout + ended.stderr


TRANSPORT = """
from lightbus.testing import MemoryNetwork, MemoryTransport

NETWORK = MemoryNetwork()

def make(bus, settings):
    return MemoryTransport(NETWORK, max_message_size=settings.max_message_size)
"""


def test_named_transport_is_tested(tmp_path: Path) -> None:
    """And no other: it is made as `create` makes one."""
    test = "tests/ports/test_transport.py::test_state_of_a_transport_is_reported"
    code, said = examined(tmp_path, TRANSPORT, test, "--own", "mine:make")
    assert (code, re.findall(r"\d+ passed", said)) == (0, ["1 passed"]), said


DISCOVERY = """
class make:
    problem = "out of order"

    def __init__(self, bus):
        pass

    async def start(self, found, lost):
        raise OSError("out of order")
"""


def test_failing_discovery_does_not_pass(tmp_path: Path) -> None:
    """The failure shows its own error."""
    test = "tests/ports/test_discovery.py::test_own_announcement_is_not_reported"
    code, said = examined(tmp_path, DISCOVERY, test, "--own", "mine:make")
    assert code == 1, said
    assert "test_own_announcement_is_not_reported[own]" in said
    assert "OSError: out of order" in said


def test_named_event_backend_is_tested(tmp_path: Path) -> None:
    """By its name in the settings, or with its options, in an empty directory."""
    test = "tests/ports/test_events.py::test_listener_without_a_group_gets_all_events"
    code, said = examined(tmp_path, "", test, "--own", '{"backend": "memory"}')
    assert (code, re.findall(r"\d+ passed", said)) == (0, ["1 passed"]), said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mine", "must be package.module:name"),
        ("no_such_package:make", "No module named 'no_such_package'"),
        ("json:no_such_name", "has no attribute 'no_such_name'"),
    ],
)
def test_unusable_values_are_errors(name: str, why: str) -> None:
    """They are errors of the command line."""
    with pytest.raises(pytest.UsageError, match=re.escape(why)):
        made_by(name)


def test_settings_of_an_event_backend() -> None:
    """They are the name of an entry point, or the complete settings."""
    assert settings_of("shelf") == {"backend": "shelf"}
    assert settings_of('{"backend": "shelf", "path": "events"}') == {"backend": "shelf", "path": "events"}
    with pytest.raises(pytest.UsageError, match="is no JSON"):
        settings_of("{shelf")
