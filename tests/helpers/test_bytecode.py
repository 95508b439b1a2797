from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.bytecode import keep_bytecode, kept_for


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an interpreter that writes no bytecode."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "")
    return monkeypatch


@pytest.mark.usefixtures("interpreter")
def test_bytecode_is_kept_elsewhere_if_none_is_written(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text("")
    keep_bytecode(tmp_path / "kept")
    subprocess.run([sys.executable, "-c", "import told"], cwd=tmp_path, check=True)
    assert list(tmp_path.glob("kept/**/told.*.pyc"))
    assert not (tmp_path / "__pycache__").exists()
    assert (sys.dont_write_bytecode, sys.pycache_prefix) == (False, str(tmp_path / "kept"))


def test_an_interpreter_that_writes_bytecode_is_unchanged(interpreter: pytest.MonkeyPatch, tmp_path: Path) -> None:
    interpreter.setattr(sys, "dont_write_bytecode", False)
    keep_bytecode(tmp_path)
    assert sys.pycache_prefix is None
    assert not os.environ["PYTHONPYCACHEPREFIX"]


def test_a_chosen_directory_is_kept(interpreter: pytest.MonkeyPatch, tmp_path: Path) -> None:
    interpreter.setattr(sys, "pycache_prefix", "/chosen")
    keep_bytecode(tmp_path)
    assert sys.pycache_prefix == "/chosen"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_another_user_has_a_separate_directory(interpreter: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert kept_for(12345) == {}
    interpreter.setattr(sys, "pycache_prefix", str(tmp_path / "kept"))
    [(name, place)] = kept_for(12345).items()
    assert name == "PYTHONPYCACHEPREFIX"
    assert Path(place).stat().st_uid == 12345
    assert kept_for(12345) == {name: place}
