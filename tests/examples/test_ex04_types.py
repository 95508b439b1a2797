"""The example with types: the described service exists, and it runs. Mypy reads it with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers import Processes

pytestmark = pytest.mark.new_interpreters

EXAMPLE = Path(__file__).parents[2] / "examples" / "ex04_types"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Return a copy of the example: its processes leave byte code behind."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "ex04_types", ignore=shutil.ignore_patterns("__pycache__")))


def test_it_runs_and_its_types_are_those_of_the_service(example: Path, processes: Processes) -> None:
    """The program calls the service; `--check` finds nothing."""
    processes.worker(cwd=example / "auth_service").wait_for_line("Ready")
    program = processes.python("client.py", cwd=example)
    check = processes.lightbus("stubs", "--package", "typed_bus", "--check", "--wait", "20", cwd=example)
    assert program.wait() == 0
    assert program.stdout.splitlines() == [
        "sally, born in 1990, member",
        "harry, born in 1988, admin",
        "there is no bertie",
    ]
    assert check.wait(60) == 0, check.stdout
