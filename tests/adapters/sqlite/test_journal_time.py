"""The own time of a journal runs on, whatever happens to the time of day."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from helpers.journals import event
from lightbus.adapters.sqlite.journal import Journal


class Machine:
    """A machine whose time a test advances, and that it restarts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.boot = 1000.0, "first"
        monkeypatch.setattr("lightbus.adapters.sqlite.journal_time.machine_time", lambda: self.now)
        monkeypatch.setattr("lightbus.adapters.sqlite.journal_time.boot_id", lambda: self.boot)


def test_own_time_runs_while_the_machine_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open or not, and however it was closed; a restart of the machine continues it, and never sets it back."""
    machine, path = Machine(monkeypatch), tmp_path / "00000000000000aa.sqlite"
    journal = Journal(path)
    began = journal.clock.now()
    machine.now += 50.0
    journal.append([event()])
    assert journal.clock.now() == began + 50.0
    crashed = tmp_path / "00000000000000bb.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:  # a copy of the file as a killed process leaves it
        connection.execute("VACUUM INTO ?", (str(crashed),))
    journal.close()
    machine.now += 1000.0
    for file in (path, crashed):
        with contextlib.closing(Journal(file)) as again:
            assert again.clock.now() == began + 1050.0
    machine.now, machine.boot = 5.0, "second"
    with contextlib.closing(Journal(path)) as again:
        assert again.clock.now() == began + 1050.0
        machine.now += 10.0
        assert again.clock.now() == began + 1060.0
    machine.boot = ""  # without a boot id, the machine's time is not used
    machine.now += 1e9
    with contextlib.closing(Journal(path)) as again:
        assert again.clock.now() == began + 1060.0


def test_killed_process_does_not_set_time_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the machine stopped before the time was stored, the time of the newest event counts."""
    machine, path = Machine(monkeypatch), tmp_path / "00000000000000aa.sqlite"
    journal = Journal(path)
    machine.now += 300.0
    journal.append([event()])
    seen = journal.clock.now()
    crashed = tmp_path / "00000000000000bb.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(crashed),))
    journal.close()
    machine.now, machine.boot = 1.0, "second"
    with contextlib.closing(Journal(crashed)) as again:
        assert again.clock.now() == seen
