"""Events noted beside the journal: no other operation, and no failure, loses them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.journals import ONE, TWO
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.journal_directory import JournalDirectory, apis_in, has_events
from lightbus.adapters.sqlite.noted_events import LARGEST, NOTED, still_noted
from lightbus.adapters.sqlite.topic import Topic
from lightbus.exceptions import JournalError


def records(journal: Journal, topic: Topic = ONE) -> list[bytes]:
    """Return the records of a topic, whose events must follow each other."""
    entries = journal.page(topic, 0, limit=1000, max_bytes=10**9).entries
    assert [entry.previous for entry in entries[1:]] == [entry.sequence for entry in entries[:-1]]
    return [entry.record for entry in entries]


def in_tables(path: Path) -> int:
    """Return the number of events in the tables, as another program sees it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT coalesce(sum(count), 0) FROM events").fetchone()[0])


def note(journal: Journal, *events: bytes, topic: Topic = ONE) -> list[tuple[int, int]]:
    """Note events; return their places."""
    return [journal.append_one(topic, record, 1.0, more=True)[:2] for record in events]


def crashed(journal: Journal, directory: Path) -> Path:
    """Return a copy of a journal, as it is if its process is killed now."""
    directory.mkdir()
    for suffix in ("", "-wal", NOTED):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"{journal.path}{suffix}", directory)
    return directory / journal.path.name


@pytest.fixture
def begun(journal: Journal) -> Journal:
    """Return a journal that knows two topics: events of new ones are not noted."""
    journal.append([NewEvent(ONE, b"1", 1.0), NewEvent(TWO, b"2", 1.0)])
    return journal


def test_noted_events_are_numbered_at_once(begun: Journal, path: Path) -> None:
    """They keep their sequences in the tables."""
    head = begun.head
    assert note(begun, b"a", b"b") == [(head + 1, head - 1), (head + 2, head + 1)]
    assert note(begun, b"c", topic=TWO) == [(head + 3, head)]
    assert note(begun, b"d") == [(head + 4, head + 2)]
    assert (in_tables(path), begun.head, begun.log.noted.count) == (2, head, 4)
    begun.settle()
    assert (in_tables(path), begun.head, begun.log.noted.count, begun.size) == (6, head + 4, 0, (6, 6))
    assert (records(begun), records(begun, TWO)) == ([b"1", b"a", b"b", b"d"], [b"2", b"c"])


@pytest.mark.parametrize(
    "event",
    [{"topic": Topic("auth", "new", 1)}, {"id": "id-1"}, {"record": bytes(LARGEST + 1)}],
    ids=["new topic", "handed off", "large"],
)
def test_event_that_is_not_noted_follows_noted_ones(begun: Journal, path: Path, event: dict[str, Any]) -> None:
    """It is stored after the noted events, in the same commit."""
    note(begun, b"a")
    begun.append_one(**{"topic": ONE, "record": b"r", "at": 1.0, **event}, more=True)
    assert (in_tables(path), begun.log.noted.count) == (4, 0)


STORES: dict[str, Callable[[Journal], object]] = {
    "one": lambda journal: journal.append_one(ONE, b"z", 1.0),
    "several": lambda journal: journal.append([NewEvent(ONE, b"z", 1.0), NewEvent(TWO, b"z", 1.0)]),
}


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_stored_events_follow_noted_ones(begun: Journal, store: Callable[[Journal], object]) -> None:
    """One commit stores both, and then more can be noted."""
    note(begun, b"a", b"b")
    store(begun)
    assert begun.log.noted.count == 0
    note(begun, b"c")
    assert records(begun) == [b"1", b"a", b"b", b"z", b"c"]


def test_readers_find_noted_events(begun: Journal) -> None:
    """For all reads: a page, one event, the newest sequence, and the count."""
    [(sequence, _)] = note(begun, b"a")
    assert begun.record(sequence) == b"a"
    note(begun, b"b")
    assert begun.count_after(ONE, sequence) == 1
    note(begun, b"c")
    assert [entry.record for _, entry in begun.history.latest(ONE.api, ONE.event)][-1] == b"c"
    [(sequence, _)] = note(begun, b"d")
    assert begun.history.find(lambda record: record == b"d", within=b"d", api=ONE.api) == (ONE, sequence)
    assert records(begun) == [b"1", b"a", b"b", b"c", b"d"]


def test_noted_events_survive_a_kill(path: Path) -> None:
    """They exist, with the same sequences, if the process is killed right after noting them."""
    code = f"""
import os, signal
from pathlib import Path
from lightbus.adapters.sqlite.journal import Journal
from lightbus.adapters.sqlite.topic import Topic
journal = Journal(Path({str(path)!r}))
for number in range(5):
    stored = journal.append_one(Topic{tuple(ONE)!r}, b"%d" % number, 1.0, more=True)
print(stored.sequence, journal.log.noted.count, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    sequence, noted = map(int, ended.stdout.split())
    assert (ended.returncode, noted, in_tables(path)) == (-9, 4, 1)
    with contextlib.closing(Journal(path)) as journal:
        assert records(journal) == [b"0", b"1", b"2", b"3", b"4"]
        assert journal.topics.last(ONE) == sequence
        assert journal.size == (5, 5)
        assert not Path(f"{path}{NOTED}").exists()


def test_noted_events_are_stored_once(begun: Journal, tmp_path: Path) -> None:
    """Even if they were deleted since; events noted after them are stored."""
    note(begun, b"a", b"b", b"c")
    begun.settle()
    begun.retention.trim(min_age=-1.0, max_events=10**6, max_bytes=10**9, cursors={ONE: {}, TWO: {}})
    assert begun.size == (0, 0)
    with contextlib.closing(Journal(crashed(begun, tmp_path / "one"))) as journal:
        assert (records(journal), journal.size) == ([], (0, 0))
    note(begun, b"d")
    with contextlib.closing(Journal(crashed(begun, tmp_path / "two"))) as journal:
        assert records(journal) == [b"d"]


def test_noted_events_count_for_outside_checks(path: Path, tmp_path: Path) -> None:
    """A journal with empty tables has events, and their API, if some are noted."""
    journal = Journal(path)
    journal.append([NewEvent(ONE, b"1", 1.0)])
    journal.retention.trim(min_age=-1.0, max_events=10**6, max_bytes=10**9, cursors={ONE: {}})
    left = crashed(journal, tmp_path / "none")
    assert (has_events(left.parent), apis_in(left)) == (False, set())
    note(journal, b"a")
    left = crashed(journal, tmp_path / "one")
    assert (has_events(left.parent), apis_in(left)) == (True, {ONE.api})
    journal.close()
    assert [each.name for each in tmp_path.glob("*noted")] == []


@pytest.mark.parametrize("cut", [1, 30, 40])
def test_incomplete_write_is_ignored(begun: Journal, tmp_path: Path, cut: int) -> None:
    """Complete events are read; of an incomplete one, nothing is."""
    note(begun, b"a" * 20, b"b" * 20)
    path = crashed(begun, tmp_path / "cut")
    noted = Path(f"{path}{NOTED}")
    noted.write_bytes(noted.read_bytes()[:-cut])
    with contextlib.closing(Journal(path)) as journal:
        assert records(journal) == [b"1", b"a" * 20]


def test_damage_loses_only_later_noted_events(begun: Journal, tmp_path: Path) -> None:
    """Whichever byte changes, the journal opens with the events before it."""
    note(begun, b"a", b"b", b"c")
    path = crashed(begun, tmp_path / "whole")
    whole = Path(f"{path}{NOTED}").read_bytes()
    assert len(whole) % 3 == 0
    for position in range(len(whole)):
        damaged = crashed(begun, tmp_path / str(position))
        changed = bytes(byte ^ (0xFF if each == position else 0) for each, byte in enumerate(whole))
        Path(f"{damaged}{NOTED}").write_bytes(changed)
        with contextlib.closing(Journal(damaged)) as journal:
            assert records(journal) == [b"1", b"a", b"b", b"c"][: 1 + position // (len(whole) // 3)]


def test_interrupted_note_is_absent(begun: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it was written: its sequence is used by the next event."""
    note(begun, b"a")
    write = os.pwrite

    def interrupted(*given: Any) -> int:
        write(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        note(begun, b"b")
    monkeypatch.undo()
    with contextlib.closing(Journal(crashed(begun, tmp_path / "between"))) as journal:
        assert records(journal) == [b"1", b"a"]
    note(begun, b"c")
    with contextlib.closing(Journal(crashed(begun, tmp_path / "behind"))) as journal:
        assert records(journal) == [b"1", b"a", b"c"]
    assert records(begun) == [b"1", b"a", b"c"]


@pytest.mark.parametrize("written", [3, OSError("no space")], ids=["too little", "nothing"])
def test_event_that_cannot_be_noted_is_committed(
    begun: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, written: Any
) -> None:
    """Together with the events noted before."""
    note(begun, b"a")

    def fail(*given: Any) -> int:
        if isinstance(written, OSError):
            raise written
        return int(written)

    monkeypatch.setattr(os, "pwrite", fail)
    note(begun, b"b")
    assert (in_tables(path), records(begun)) == (4, [b"1", b"a", b"b"])


def test_events_stay_noted_while_the_journal_is_locked(begun: Journal, path: Path) -> None:
    """They are put into the tables once that is possible; until then readers do not see them."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        outsider.execute("BEGIN IMMEDIATE")
        note(begun, b"a", b"b")
        with pytest.raises(JournalError, match="did not take 2 events"):
            begun.settle()
        assert (records(begun), begun.log.noted.count) == ([b"1"], 2)
        note(begun, b"c")
        outsider.execute("COMMIT")
    assert records(begun) == [b"1", b"a", b"b", b"c"]


def test_close_while_locked_keeps_noted_events(begun: Journal, path: Path) -> None:
    """They stay noted for the next opening; a normal close leaves no file."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        outsider.execute("BEGIN IMMEDIATE")
        note(begun, b"a")
        begun.close()
        assert [each.record for each in still_noted(path, outsider)] == [b"a"]
        outsider.execute("COMMIT")
    with contextlib.closing(Journal(path)) as journal:
        assert records(journal) == [b"1", b"a"]
        note(journal, b"b")
    assert not Path(f"{path}{NOTED}").exists()
    with contextlib.closing(Journal(path)) as journal:
        assert records(journal) == [b"1", b"a", b"b"]


@pytest.mark.parametrize("gone", [[""], [NOTED], ["", "-wal", "-shm", NOTED]], ids=["journal", "noted", "all"])
def test_removed_files_keep_noted_events(begun: Journal, path: Path, gone: list[str], tmp_path: Path) -> None:
    """Noted events are in the files that are written again, and new ones are noted there."""
    note(begun, b"a", b"b")
    for suffix in gone:
        Path(f"{path}{suffix}").unlink()
    begun.restore_removed_files()
    begun.settle()
    note(begun, b"c")
    with contextlib.closing(Journal(crashed(begun, tmp_path / "copy"))) as journal:
        assert records(journal) == [b"1", b"a", b"b", b"c"]
    assert records(begun) == [b"1", b"a", b"b", b"c"]


def test_delete_removes_the_noted_file(begun: Journal, tmp_path: Path) -> None:
    """No file of a deleted journal is left."""
    note(begun, b"a")
    begun.delete()
    assert list(tmp_path.glob(f"*{NOTED}")) == []


def test_forked_child_leaves_noted_events_alone(begun: Journal, path: Path) -> None:
    """It closes the file and never touches it or the tables; its parent continues."""
    note(begun, b"a")
    noted = Path(f"{path}{NOTED}").read_bytes()
    if (child := os.fork()) == 0:
        refused = 0
        begun.abandon()
        begun.settle()
        for store in (*STORES.values(), lambda journal: note(journal, b"x"), records):
            with contextlib.suppress(JournalError):
                store(begun)
                refused -= 1
            refused += 1
        begun.close()
        begun.delete()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    assert (in_tables(path), Path(f"{path}{NOTED}").read_bytes()) == (2, noted)
    note(begun, b"b")
    assert records(begun) == [b"1", b"a", b"b"]


def test_unreadable_noted_events_keep_the_journal_closed(
    begun: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal and the file are left alone until the events can be read and put into the tables."""
    note(begun, b"a")
    path = crashed(begun, tmp_path / "crashed")
    directory = JournalDirectory(path.parent, host="h")

    def refused(*given: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), given[0])

    monkeypatch.setattr("lightbus.adapters.sqlite.noted_events.open", refused, raising=False)
    with pytest.raises(JournalError, match=r"cannot be opened: .*-noted'\. May this user write there"):
        Journal(path)
    assert (directory.adopt(), has_events(path.parent), apis_in(path)) == ([], True, {ONE.api})
    with contextlib.closing(directory.open_own()) as own:
        assert own.path != path
    monkeypatch.undo()
    with contextlib.closing(Journal(path)) as journal:
        assert records(journal) == [b"1", b"a"]


def directory(noted: Path) -> None:
    noted.mkdir()


def pipe(noted: Path) -> None:
    os.mkfifo(noted)


def link(noted: Path) -> None:
    target = noted.with_name("somebody's")
    target.write_bytes(b"of value")
    noted.symlink_to(target)


def link_to_nothing(noted: Path) -> None:
    noted.symlink_to(noted.with_name("nothing"))


def noise(noted: Path) -> None:
    noted.write_bytes(os.urandom(5000))


def zeros(noted: Path) -> None:
    noted.write_bytes(bytes(5000))


@pytest.mark.parametrize("make", [directory, pipe, link, link_to_nothing, noise, zeros])
def test_other_file_under_the_noted_name(
    begun: Journal, path: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """Beside a journal being opened, and beside one in use: no event is lost, and the file is not written."""
    left = crashed(begun, tmp_path / "left")
    make(Path(f"{left}{NOTED}"))
    assert has_events(left.parent)
    with contextlib.closing(Journal(left)) as journal:
        note(journal, b"a", b"b")
        assert records(journal) == [b"1", b"a", b"b"]
    note(begun, b"a")
    begun.settle()
    Path(f"{path}{NOTED}").unlink()
    make(Path(f"{path}{NOTED}"))
    note(begun, b"b", b"c")
    with contextlib.closing(Journal(crashed_but_for(begun, tmp_path / "killed"))) as journal:
        assert records(journal) == [b"1", b"a", b"b", b"c"]
    assert records(begun) == [b"1", b"a", b"b", b"c"]
    assert {each.read_bytes() for each in tmp_path.rglob("somebody's")} <= {b"of value"}
    assert list(tmp_path.rglob("nothing")) == []


def crashed_but_for(journal: Journal, directory: Path) -> Path:
    """Return a journal after a kill, with the noted file if it is a file."""
    noted = Path(f"{journal.path}{NOTED}")
    if noted.is_symlink() or not noted.is_file():
        directory.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{journal.path}{suffix}", directory)
        return directory / journal.path.name
    return crashed(journal, directory)


def test_noted_file_of_another_journal_is_ignored(begun: Journal, tmp_path: Path) -> None:
    """Its topics may have the same numbers."""
    with contextlib.closing(Journal(tmp_path / "other.sqlite")) as other:
        other.append([NewEvent(TWO, b"2", 1.0)])
        other._begin_epoch({})
        note(other, b"a", topic=TWO)
        path = crashed(begun, tmp_path / "mixed")
        shutil.copy(f"{other.path}{NOTED}", f"{path}{NOTED}")
    with contextlib.closing(Journal(path)) as journal:
        assert (records(journal), records(journal, TWO)) == ([b"1"], [b"2"])


def test_noted_file_of_another_process_is_not_removed(begun: Journal, path: Path) -> None:
    """The lock was removed, and another process holds the journal."""
    note(begun, b"a")
    begun.settle()
    Path(f"{path}{NOTED}").unlink()
    Path(f"{path}{NOTED}").write_bytes(b"another's")
    begun.close()
    assert Path(f"{path}{NOTED}").read_bytes() == b"another's"


class InterruptedAt:
    """Interrupts code, like a signal, before a given line of the journal, except in its rollback."""

    def __init__(self, lines: int) -> None:
        self.lines = lines

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: Any, event: str, argument: Any) -> Any:
        if f"{os.sep}sqlite{os.sep}" not in frame.f_code.co_filename or frame.f_code.co_name == "_roll_back":
            return None
        if event == "line":
            self.lines -= 1
            if self.lines == 0:
                raise KeyboardInterrupt
        return self._trace


@pytest.mark.parametrize(
    "action",
    [lambda journal: journal.settle(), STORES["one"], STORES["several"]],
    ids=["settling", "storing one", "storing several"],
)
@pytest.mark.parametrize("noted", [[b"a", b"b"], []], ids=["some noted", "none noted"])
def test_an_interrupt_at_any_point(
    begun: Journal, path: Path, action: Callable[[Journal], object], noted: list[bytes]
) -> None:
    """Each event is stored once, with its returned sequence, and the counts are right."""
    for point in itertools.count(1):
        before = begun.topics.last(ONE)
        told = [sequence for sequence, _ in note(begun, *noted)]
        interrupt = InterruptedAt(point)
        with contextlib.suppress(KeyboardInterrupt), interrupt:
            action(begun)
        told += [sequence for sequence, _ in note(begun, b"y")]
        assert [begun.record(sequence) for sequence in told] == [*noted, b"y"]
        found = begun.page(ONE, before, limit=100, max_bytes=1000).entries
        assert [entry.record for entry in found if entry.record != b"z"] == [*noted, b"y"]
        assert [entry.previous for entry in found] == [before, *(entry.sequence for entry in found[:-1])]
        assert begun.size[0] == in_tables(path)
        if interrupt.lines > 0:  # the code ended before the interrupt
            break
    assert point > 3
