"""`lightbus new`: the written service runs unchanged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers import Processes
from lightbus.cli.commands.new import new
from lightbus.exceptions import UnsupportedUse


def write(*words: str) -> str:
    """Run the command in this process."""
    return CliRunner().invoke(new, words, catch_exceptions=False).stdout


def test_its_tests_pass_and_it_serves(processes: Processes, tmp_path: Path) -> None:
    """In another directory, with a name of two words."""
    assert "image-store has a service" in write("image-store", "--in", str(tmp_path / "services"))
    there = tmp_path / "services" / "image-store"
    worker = processes.worker(cwd=there)
    tested = processes.start([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=there)
    assert tested.wait(60) == 0, tested.report()
    assert "3 passed" in tested.stdout
    worker.wait_for_line("Ready")
    called = processes.lightbus("call", "image_store.greet", "name=Ada", "--wait", "20", cwd=tmp_path)
    assert called.wait(20) == 0, called.report()
    assert '"text": "Hello Ada"' in called.stdout
    worker.wait_for_line("Ada was greeted, 1 times")


@pytest.mark.parametrize("name", ["Greeter", "1st", "a b", "../up", "class", "a--b", "client", "call-async", ""])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    """Are refused, with such as can be."""
    with pytest.raises(UnsupportedUse, match=r"is not a name for a service and its API.*: greeter, image-store"):
        write(name, "--in", str(tmp_path))
    assert [*tmp_path.iterdir()] == []


def test_existing_directory_is_unchanged(tmp_path: Path) -> None:
    """An existing directory is not changed; if none can be created, the error says so."""
    (tmp_path / "greeter").mkdir()
    with pytest.raises(UnsupportedUse, match=r"greeter exists already\. Choose another name, or remove it"):
        write("greeter", "--in", str(tmp_path))
    assert [*(tmp_path / "greeter").iterdir()] == []
    with pytest.raises(UnsupportedUse, match=r"cannot be written: .*Name another directory: --in"):
        write("greeter", "--in", "/dev/null")
