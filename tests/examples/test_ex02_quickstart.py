"""The quick start, in processes as a reader would start them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers import Processes, Stopwatch, scaled
from helpers.scale import PATIENCE

pytestmark = pytest.mark.new_interpreters

EXAMPLE = Path(__file__).parents[2] / "examples" / "ex02_quickstart"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Return a copy of the example: its processes leave byte code behind."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "ex02_quickstart"))


def test_check_password_calls_service(example: Path, processes: Processes) -> None:
    """A script in another directory finds the service and gets its answer."""
    processes.worker(cwd=example / "auth_service").wait_for_line("Ready")
    script = processes.python("check_password.py", cwd=example)
    assert script.wait() == 0
    assert script.stdout == "the password is right\n"


def test_call_before_service_runs(example: Path, processes: Processes) -> None:
    """Without the service the script ends with an error that names the missing API, and does not hang."""
    script = processes.python("check_password.py", cwd=example)
    assert script.wait() == 1
    assert "UnknownApi: No peer advertises the API 'auth'" in script.stderr


def test_register_user_fires_and_exits(example: Path, processes: Processes) -> None:
    """The script that imports the worker's own bus.py exits promptly each time, and no event of it is lost."""
    processes.worker(cwd=example / "auth_service")
    listener = processes.worker(cwd=example / "another_service")
    listener.wait_for_line(r"Events of auth_service .* arrive")
    runs = scaled(20, least=2)
    for run in range(1, runs + 1):
        watch = Stopwatch()
        script = processes.python("register_user.py", cwd=example / "auth_service")
        assert script.wait() == 0
        assert watch.seconds < 5.0 * PATIENCE
        assert script.stdout == "fired auth.user_registered for admin\n"
        listener.wait_for_line(rf"(?:welcome, admin! \(to admin@example.com\)\s*){{{run}}}")
    assert listener.stdout.count("welcome") == runs
