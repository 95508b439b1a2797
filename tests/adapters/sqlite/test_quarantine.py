"""Damaged databases: which are, and how they are renamed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lightbus.adapters.sqlite import quarantine as module
from lightbus.adapters.sqlite.quarantine import is_damage, quarantine, quarantine_sentences


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sqlite3.DatabaseError("file is not a database"), True),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), True),
        (TypeError("a text where a number is to be"), True),
        (ValueError("no record"), True),
        (sqlite3.OperationalError("database is locked"), False),
        (OSError("disk full"), False),
        (None, False),
    ],
)
def test_damage_differs_from_temporary_errors(error: BaseException | None, expected: bool) -> None:
    """A database that is only unusable at the moment is not quarantined."""
    assert is_damage(error) is expected


def test_a_database_is_quarantined_with_its_files(tmp_path: Path) -> None:
    """Nothing is left under its name, and its content is kept under the new one."""
    file = tmp_path / "a.sqlite"
    for suffix in ("", "-wal", "-shm", "-journal", "-noted"):
        Path(f"{file}{suffix}").write_text(f"content{suffix}")
    moved = quarantine(file)
    assert moved.name == "a.sqlite.corrupt-1"
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        f"a.sqlite.corrupt-1{suffix}": f"content{suffix}" for suffix in ("", "-wal", "-shm", "-journal", "-noted")
    }


def test_second_quarantine_gets_another_number(tmp_path: Path) -> None:
    """Each has its own number; files beside the database may be missing."""
    file, names = tmp_path / "a.sqlite", []
    for number in range(3):
        file.write_text(str(number))
        names.append(quarantine(file).name)
    assert names == [f"a.sqlite.corrupt-{number}" for number in (1, 2, 3)]
    assert (tmp_path / names[0]).read_text() == "0"


def test_unwritable_directory_prevents_quarantine(tmp_path: Path) -> None:
    """The error says that the damaged file is still in place."""
    (tmp_path / "a.sqlite").mkdir()
    (tmp_path / "a.sqlite.corrupt-1-wal").mkdir()
    (tmp_path / "a.sqlite-wal").write_text("")
    with pytest.raises(OSError, match="sqlite"):
        quarantine(tmp_path / "a.sqlite")


def test_quarantined_databases_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in the directory of a bus and of its services, with a remedy; of very many, the first ones."""
    (tmp_path / "shop").mkdir()
    for file in (tmp_path / "outbox.sqlite", tmp_path / "shop" / "a.sqlite"):
        file.write_text("")
        quarantine(file)
    (tmp_path / "shop" / "b.sqlite").write_text("")  # a database in use
    (tmp_path / "shop" / "a.sqlite.corrupt-1-wal").write_text("")  # belongs to the first
    told = quarantine_sentences(tmp_path, "there")
    assert len(told) == 2
    assert f"{tmp_path}/outbox.sqlite.corrupt-1 on there was damaged" in told[0]
    assert f"`sqlite3 {tmp_path}/shop/a.sqlite.corrupt-1 .recover` may read some of it" in told[1]
    monkeypatch.setattr(module, "MAX_LISTED", 1)
    assert len(quarantine_sentences(tmp_path, "there")) == 1


def test_nothing_is_quarantined(tmp_path: Path) -> None:
    """Also if there is no such directory."""
    assert quarantine_sentences(tmp_path, "there") == quarantine_sentences(tmp_path / "none", "there") == []
