"""The files of a journal: their names, and whether these still lead to the open files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightbus.adapters.sqlite.journal_files import SUFFIXES, JournalFiles, file_of, journals_in, remove_files
from lightbus.adapters.sqlite.noted_events import NOTED


@pytest.fixture
def files(path: Path) -> JournalFiles:
    """Return the files of an open journal."""
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").write_text(suffix)
    return JournalFiles(path)


def test_untouched_files_are_not_gone(files: JournalFiles) -> None:
    """As long as no process changes them."""
    files.check()
    assert files.gone() == []


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_removed_files_are_named(files: JournalFiles, suffix: str, replaced: bool) -> None:
    """Also if another file has the name; `check` covers the database file."""
    gone = Path(f"{files.path}{suffix}")
    if replaced:
        gone.with_name("other").touch()
        gone.with_name("other").replace(gone)
    else:
        gone.unlink()
    assert files.gone() == [gone.name]
    if not suffix:
        with pytest.raises(FileNotFoundError):
            files.check()


def test_copy_replaces_the_files(files: JournalFiles) -> None:
    """None of the earlier files remains beside it."""
    copy = files.path.with_suffix(".anew")
    copy.write_text("anew")
    files.replace_by(copy)
    assert [(each.name, each.read_text()) for each in files.path.parent.iterdir()] == [(files.path.name, "anew")]


def test_remove_deletes_all_files(files: JournalFiles) -> None:
    """Also the lock; missing files are no error."""
    files.path.with_suffix(".lock").touch()
    files.remove()
    files.remove()
    assert list(files.path.parent.iterdir()) == []


def test_journals_of_a_directory(tmp_path: Path) -> None:
    """They are found by the names of their databases, and removed with all files beside these."""
    for name in ("b", "a"):
        file = file_of(tmp_path, name)
        for suffix in (*SUFFIXES, NOTED):
            Path(f"{file}{suffix}").touch()
        file.with_suffix(".lock").touch()
    assert [each.stem for each in journals_in(tmp_path)] == ["a", "b"]
    for file in journals_in(tmp_path):
        remove_files(file)
    assert [*tmp_path.iterdir()] == []
