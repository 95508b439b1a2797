"""The journal: stored events are there, in order, after any failure; and no id is stored twice."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from helpers import examples
from helpers.journals import DAY, ONE, TWO, event, group, page, rows
from lightbus.adapters.host.locks import JournalLock
from lightbus.adapters.sqlite.journal import Journal, NewEvent, Run, TopicPage
from lightbus.adapters.sqlite.journal_file import EPOCH_BITS
from lightbus.adapters.sqlite.noted_events import NOTED
from lightbus.adapters.sqlite.rows import MAX_EVENTS, JournalEntry
from lightbus.adapters.sqlite.topic import Topic
from lightbus.exceptions import JournalError


def test_events_are_numbered_over_all_topics(journal: Journal) -> None:
    """Each gets the next sequence, and the sequence before it in its topic; the newest of each topic is known."""
    first = journal.head + 1
    stored = journal.append([event(ONE), event(TWO), event(ONE)])
    assert [tuple(each) for each in stored] == [(first, 0, True), (first + 1, 0, True), (first + 2, first, True)]
    assert [tuple(each) for each in journal.append([event(TWO)])] == [(first + 3, first + 1, True)]
    assert journal.head == first + 3
    assert journal.topics.of("auth") == {ONE: first + 2, TWO: first + 3}
    assert (journal.topics.of("else"), journal.topics.last(Topic("auth", "seen", 9))) == ({}, 0)


def test_runs_are_stored_as_single_events_are(journal: Journal, path: Path) -> None:
    """Consecutive events of a topic are numbered, stored and read like events that are stored one by one."""
    one = [b"%d" % number for number in range(MAX_EVENTS + 3)]
    first = journal.head + 1
    stored = journal.append_runs([Run(ONE, 1.0, one), Run(TWO, 1.0, [b"two"]), Run(ONE, 1.0, [b"last"])])
    newest = first + len(one) + 1
    assert [tuple(each) for each in stored] == [
        (first, 0, True), (first + len(one), 0, True), (newest, first + len(one) - 1, True)
    ]  # fmt: skip
    assert rows(journal) == [MAX_EVENTS, 3, 1, 1]
    journal.close()
    reopened = Journal(path)
    found = page(reopened, limit=1000).entries
    assert [entry.record for entry in found] == [*one, b"last"]
    assert [entry.previous for entry in found] == [0, *[entry.sequence for entry in found[:-1]]]
    assert reopened.topics.of("auth") == {ONE: newest, TWO: first + len(one)}
    assert reopened.size == (len(one) + 2, sum(map(len, one)) + 7)
    reopened.close()


def test_runs_are_stored_all_or_none(journal: Journal) -> None:
    """If one of them cannot be stored, none is, and their sequences are used for the next events."""
    head = journal.head
    with pytest.raises(JournalError, match="did not take 3 events"):
        journal.append_runs([Run(ONE, 1.0, [b"a", b"b"]), Run(TWO, None, [b"c"])])  # type: ignore[arg-type]
    assert (journal.head, journal.size, journal.topics.of("auth")) == (head, (0, 0), {})
    assert journal.append_runs([Run(TWO, 1.0, [b"c"])])[0].sequence == head + 1


def test_append_one_stores_like_append(journal: Journal) -> None:
    """For new and known topics the event is numbered, counted and found; one id is stored only once."""
    new, known = journal.append_one(ONE, b"a", 1.0), journal.append_one(ONE, b"bc", 2.0)
    assert [tuple(new), tuple(known)] == [(new.sequence, 0, True), (new.sequence + 1, new.sequence, True)]
    [third] = journal.append([event(ONE)])
    assert third.previous == known.sequence
    given = journal.append_one(ONE, b"d", 1.0, "id-1")
    assert journal.append_one(ONE, b"d", 1.0, "id-1") == given._replace(is_new=False)
    assert journal.append_runs([Run(ONE, 1.0, [b"d"], "id-1"), Run(ONE, 1.0, [b"e"])])[0].is_new is False
    assert [entry.sequence for entry in page(journal).entries] == [*range(new.sequence, journal.head + 1)]
    assert (journal.size[0], journal.topics.last(ONE)) == (5, journal.head)


@pytest.mark.parametrize("is_done", [False, True])
def test_interrupted_append_one_is_whole_or_absent(journal: Journal, is_done: bool) -> None:
    """At any point, for any exception of a signal handler: the event is stored or not, and the next one follows."""
    first = journal.append_one(ONE, b"a", 1.0)
    connection = journal._write
    journal._write = Interrupts(connection, "INSERT", is_done)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        journal.append_one(ONE, b"b", 1.0)
    journal._write = connection
    assert (journal.size[0], journal.topics.last(ONE)) == (1 + is_done, first.sequence + is_done)
    assert journal.append_one(ONE, b"c", 1.0).previous == first.sequence + is_done


def test_page_is_bounded_by_events_and_bytes(journal: Journal) -> None:
    """A page has a limited number of events and bytes, and says whether more follow."""
    sequences = [each.sequence for each in journal.append([event(record=b"x" * 10) for _ in range(5)])]
    first = page(journal, limit=2)
    assert [entry.sequence for entry in first.entries] == sequences[:2]
    assert (first.through, first.more, first.trimmed) == (sequences[1], True, 0)
    rest = page(journal, after=first.through)
    assert [entry.sequence for entry in rest.entries] == sequences[2:]
    assert (rest.through, rest.more) == (sequences[-1], False)
    assert page(journal, after=rest.through) == TopicPage([], sequences[-1], False, 0)
    assert len(page(journal, max_bytes=25).entries) == 2
    assert len(page(journal, max_bytes=1).entries) == 1
    assert page(journal, Topic("auth", "other", 0), after=7) == TopicPage([], 7, False, 0)


def test_repeated_hand_off_is_stored_once(journal: Journal, path: Path) -> None:
    """One id is stored once: within a commit, in a later one, and after the journal was opened again."""
    first, again = journal.append([event(id="x"), event(id="x")])
    [later] = journal.append([event(id="x")])
    assert (first.is_new, again, later) == (True, first._replace(is_new=False), first._replace(is_new=False))
    journal.close()
    reopened = Journal(path)
    [even_later] = reopened.append([event(id="x")])
    assert (even_later.sequence, even_later.is_new) == (first.sequence, False)
    reopened.close()


def test_a_new_opening_is_a_new_epoch(journal: Journal, path: Path) -> None:
    """Sequences start higher than any given before; predecessors are still named."""
    [first] = journal.append([event()])
    journal.close()
    reopened = Journal(path)
    [second] = reopened.append([event()])
    assert second.sequence == ((first.sequence >> EPOCH_BITS) + 1 << EPOCH_BITS) + 1
    assert second.previous == first.sequence
    reopened.close()


def test_restored_copy_uses_no_sequence_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is put back later starts after the sequences used in between; also if the clock was set back."""
    clock = [1e9]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    path = tmp_path / "0.sqlite"
    Journal(path).close()
    copy = path.read_bytes()
    with contextlib.closing(Journal(path)) as journal:
        [lost] = journal.append([event()])
    path.write_bytes(copy)
    clock[0] += 3600
    with contextlib.closing(Journal(path)) as journal:
        [after] = journal.append([event()])
    assert after.sequence > lost.sequence
    clock[0] = 0.0
    with contextlib.closing(Journal(path)) as journal:
        assert journal.append([event()])[0].sequence > after.sequence


def test_stored_events_survive_a_kill(path: Path) -> None:
    """Events are there if the process is killed right after storing them, for both durabilities."""
    for number, durability in enumerate(("process", "power")):
        code = f"""
import os, signal, sys
from pathlib import Path
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic
journal = Journal(Path({str(path)!r}), durability={durability!r})
journal.append([NewEvent(Topic("auth", "seen", 1), b"r", 1.0)])
os.kill(os.getpid(), signal.SIGKILL)
"""
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
        journal = Journal(path)
        assert journal.size[0] == number + 1
        journal.close()


def test_consecutive_events_share_a_row(journal: Journal) -> None:
    """Events of one topic stored together do; not large ones, those with an id, or those fired at another time."""
    journal.append([event() for _ in range(300)])
    journal.append([event(ONE), event(ONE), event(TWO), event(TWO), event(ONE)])
    journal.append([event(), event(id="i"), event(), event(at=5.0), event(at=5.05), event(at=6.0)])
    journal.append([event(), event(record=b"x" * 40_000), event()])
    assert rows(journal) == [256, 44, 2, 2, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    assert journal.size[0] == 314


def test_events_in_a_shared_row_are_found_singly(journal: Journal) -> None:
    """Each event of a row has its sequence, topic and place, and reading can continue after each."""
    a, b, c, d = (each.sequence for each in journal.append([event(record=each) for each in (b"a", b"bb", b"c", b"d")]))
    assert rows(journal) == [4]
    assert [journal.record(each) for each in (a - 1, a, b, d, d + 1)] == [None, b"a", b"bb", b"d", None]
    assert [journal.topic_of(each) for each in (a - 1, a, d, d + 1)] == [None, ONE, ONE, None]
    assert [journal.count_after(ONE, each) for each in (0, a, b, c, d)] == [4, 3, 2, 1, 0]
    assert journal.history.find(lambda record: record == b"c", b"c", "auth") == (ONE, c)
    assert [entry.record for entry in page(journal, after=b).entries] == [b"c", b"d"]
    part = page(journal, after=a, limit=2)
    assert ([entry.record for entry in part.entries], part.through, part.more) == ([b"bb", b"c"], c, True)
    assert [entry.record for _, entry in journal.history.latest("auth", "seen", limit=2)] == [b"c", b"d"]
    entries, through, more = journal.history.scan(lambda topic: True, a, limit=2, max_bytes=99)
    assert ([entry.record for _, entry in entries], through, more) == ([b"bb", b"c"], c, True)
    assert journal.size == (4, 5)


@pytest.mark.parametrize("count", [3, 2.5, 10**9, -1, "many"])
def test_a_damaged_row_is_an_error(journal: Journal, count: Any) -> None:
    """If a row does not have the number of events that it claims, reading it names the file."""
    journal.append([event(), event()])
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        connection.execute("UPDATE events SET count = ?", (count,))
        connection.commit()
    with pytest.raises(JournalError, match=f"The journal {journal.path} cannot be read"):
        page(journal)
    with pytest.raises(JournalError, match=f"The journal {journal.path} cannot be read"):
        journal.record(journal.head)


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_corrupt_file_is_an_error(path: Path, content: bytes) -> None:
    """The error names the file."""
    path.write_bytes(content)
    with pytest.raises(JournalError, match=f"The journal {path} cannot be opened"):
        Journal(path)


@pytest.mark.parametrize("replaced", [False, True])
def test_removed_journal_refuses_events(journal: Journal, replaced: bool) -> None:
    """Events stored in a file without a name would be lost: that is an error, and the event is not accepted."""
    journal.append([event()])
    journal.path.unlink()
    if replaced:
        journal.path.touch()
    with pytest.raises(JournalError, match="It was removed while it was in use, and is written again"):
        journal.append([event()])


def test_full_disk_stores_nothing_of_a_batch(path: Path) -> None:
    """Without room, nothing of the batch is stored; with room again, storing continues."""
    code = f"""
import resource, signal, sys
from pathlib import Path
from lightbus.exceptions import JournalError
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
topic = Topic("auth", "seen", 1)
journal = Journal(Path({str(path)!r}))
journal.append([NewEvent(topic, b"r", 1.0)])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    journal.append([NewEvent(topic, b"x" * 1000, 1.0) for _ in range(1000)])
except JournalError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert journal.size == (1, 1), journal.size
first, second = journal.append([NewEvent(topic, b"r", 1.0), NewEvent(Topic("auth", "new", 1), b"r", 1.0)])
assert first.previous == journal.page(topic, 0, limit=1, max_bytes=10).entries[0].sequence
assert journal.size == (3, 3)
journal.close()
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"The journal {path} did not take 1000 events: " in done.stdout


class Interrupts:
    """A connection that raises the exception of a signal, before or after one statement."""

    def __init__(self, connection: sqlite3.Connection, statement: str, is_done: bool) -> None:
        self._connection = connection
        self._statement = statement
        self._is_done = is_done

    def execute(self, statement: str, *arguments: Any) -> Any:
        if not statement.startswith(self._statement):
            return self._connection.execute(statement, *arguments)
        self._statement = "none any more"
        if self._is_done:
            self._connection.execute(statement, *arguments)
        raise KeyboardInterrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize(("statement", "is_done"), [("BEGIN", True), ("COMMIT", False), ("COMMIT", True)])
def test_interrupted_append_is_whole_or_absent(journal: Journal, statement: str, is_done: bool) -> None:
    """At any point, for any exception of a signal handler: the batch is stored as a whole or not at all."""
    [first] = journal.append([event()])
    connection = journal._write
    journal._write = Interrupts(connection, statement, is_done)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        journal.append([event(), event(TWO)])
    journal._write = connection
    is_there = statement == "COMMIT" and is_done
    assert journal.size == ((3, 3) if is_there else (1, 1))
    [ours, other] = journal.append([event(), event(TWO)])
    assert ours.previous == first.sequence + is_there
    assert other.previous == (first.sequence + 2 if is_there else 0)
    assert [entry.sequence for entry in page(journal).entries][-1] == ours.sequence


def test_many_threads_use_one_journal(journal: Journal) -> None:
    """Writers and readers do not disturb each other, even while topics are created."""

    def write(number: int) -> None:
        for turn in range(100):
            journal.append([event(Topic("auth", f"e{number}-{turn}", 1), id=f"{number}-{turn}"), event()])

    def read(number: int) -> None:
        for _ in range(100):
            journal.history.latest("auth", "*", limit=5)
            journal.topics.of("auth")
            journal.groups.save(group(f"g{number}"))
            journal.groups.remove("auth", f"g{number}")

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(function, number) for number in range(2) for function in (write, read)]:
            done.result()
    assert journal.size[0] == 400
    assert len(page(journal, limit=1000).entries) == 200


def test_closed_journal_refuses_use(journal: Journal) -> None:
    """Using it raises JournalError; closing it twice does not."""
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="is closed: the bus stops"):
        journal.append([event()])
    with pytest.raises(JournalError, match="is closed: the bus stops"):
        journal.groups.all()
    journal.checkpoint()


def test_delete_removes_all_files(journal: Journal) -> None:
    """The file, its log and its lock are removed."""
    journal.append([event()])
    journal.path.with_suffix(".lock").touch()
    journal.delete()
    assert list(journal.path.parent.iterdir()) == []


def test_delete_of_a_closed_journal_does_nothing(journal: Journal, path: Path) -> None:
    """Another process may hold it: neither its file nor a descriptor with the same number is touched."""
    journal.close()
    lock = JournalLock.take(path)
    assert lock is not None
    journal._lock = lock
    journal.delete()
    assert path.exists()
    assert JournalLock.take(path) is None  # the lock is still held
    lock.close()


@settings(max_examples=examples(300))
@given(data=st.data())
def test_damaged_file_raises_journal_error(made: bytes, data: st.DataObject) -> None:
    """Whatever overwrites it: the file opens and can be used, or each refusal is a JournalError."""
    damaged = bytearray(made)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(made) - 1))
        new = data.draw(st.binary(min_size=1, max_size=64))
        damaged[at : at + len(new)] = new
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "00000000000000cc.sqlite"
        path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
        with contextlib.suppress(JournalError):
            journal = Journal(path)
            try:
                journal.append([event()])
                for topic in journal.topics.all():
                    page(journal, topic)
                journal.groups.all()
            finally:
                journal.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the file of a used journal."""
    journal = Journal(tmp_path_factory.mktemp("made") / "00000000000000dd.sqlite")
    journal.append([event(topic, b"x" * 50, id=f"{n}-{topic.partition}") for n in range(20) for topic in (ONE, TWO)])
    journal.groups.save(group())
    journal.change(*journal.cursors.changes(cursors=[("shop", ONE, journal.topics.last(ONE))]))
    journal.close()
    return journal.path.read_bytes()


class AgainstAModel(RuleBasedStateMachine):
    """A journal behaves like a list, for any operations in any order, reopened at any time."""

    topics = st.builds(Topic, st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"]), st.integers(0, 2))

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "00000000000000bb.sqlite"
        self.journal = Journal(self.path)
        self.model: dict[Topic, list[JournalEntry]] = {}
        self.newest: dict[Topic, int] = {}
        self.ids: set[str] = set()
        self.acked: dict[Topic, int] = {}
        self.dead: set[tuple[int, bytes]] = set()

    @rule(events=st.lists(st.tuples(topics, st.binary(max_size=20), st.sampled_from(["", "i", "j", "k"])), max_size=5))
    def append(self, events: list[tuple[Topic, bytes, str]]) -> None:
        stored = self.journal.append([NewEvent(topic, record, 1.0, id) for topic, record, id in events])
        for (topic, record, id), where in zip(events, stored, strict=True):
            assert where.is_new == (not id or id not in self.ids)
            if where.is_new:
                assert where.previous == self.newest.get(topic, 0)
                self.model.setdefault(topic, []).append(JournalEntry(where.sequence, where.previous, record))
                self.newest[topic] = where.sequence
                self.ids |= {id} - {""}

    @rule(events=st.lists(st.tuples(topics, st.binary(max_size=20)), min_size=1, max_size=5), crashes=st.booleans())
    def note(self, events: list[tuple[Topic, bytes]], crashes: bool) -> None:
        """Note events; the process may be killed after this."""
        for topic, record in events:
            where = self.journal.append_one(topic, record, 1.0, more=True)
            assert where == (where.sequence, self.newest.get(topic, 0), True)
            self.model.setdefault(topic, []).append(JournalEntry(where.sequence, where.previous, record))
            self.newest[topic] = where.sequence
        if crashes:
            left = {suffix: Path(f"{self.path}{suffix}") for suffix in ("", "-wal", NOTED)}
            files = {suffix: file.read_bytes() for suffix, file in left.items() if file.exists()}
            self.journal.close()
            for suffix, data in files.items():
                left[suffix].write_bytes(data)
            self.journal = Journal(self.path)
        self.journal.settle()

    @rule(topic=topics, share=st.floats(0, 1))
    def acknowledge(self, topic: Topic, share: float) -> None:
        entries = self.model.get(topic)
        if entries:
            self.acked[topic] = max(self.acked.get(topic, 0), entries[int(share * (len(entries) - 1))].sequence)
            self.journal.change(*self.journal.cursors.changes(cursors=[("g", topic, self.acked[topic])]))

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = Journal(self.path)

    @rule()
    def trim(self) -> None:
        gone = {topic: self.acked.get(topic, 0) for topic in self.model}
        cursors = {topic: {"g": at} for topic, at in gone.items()}
        self.journal.retention.trim(min_age=-1.0, max_events=10**6, max_bytes=10**9, cursors=cursors)
        for topic, entries in self.model.items():
            entries[:] = [entry for entry in entries if entry.sequence > gone[topic]]
        self.know_ids()

    def know_ids(self) -> None:
        """Ids are known as long as their events are."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            self.ids = {row[0] for row in connection.execute("SELECT id FROM handed_off")}

    @rule(most=st.integers(0, 12))
    def exceed_a_cap(self, most: int) -> None:
        """The oldest events of all topics are deleted, and the unhandled ones of the group reported."""
        everything = sorted((entry.sequence, topic) for topic, entries in self.model.items() for entry in entries)
        gone = everything[: max(0, len(everything) - most)]
        missed = Counter(topic for sequence, topic in gone if sequence > self.acked.get(topic, 0))
        cursors = {topic: {"g": self.acked.get(topic, 0)} for topic in self.model}
        told = self.journal.retention.trim(min_age=DAY, max_events=most, max_bytes=10**9, cursors=cursors)
        assert {topic: count for _, topic, count in told} == missed
        for topic, entries in self.model.items():
            assert self.journal.page(topic, self.acked.get(topic, 0), limit=1, max_bytes=9).trimmed >= missed[topic]
            entries[:] = [entry for entry in entries if (entry.sequence, topic) not in gone]
        self.know_ids()

    @rule(topic=topics, share=st.floats(0, 1))
    def dead_letter(self, topic: Topic, share: float) -> None:
        entries = self.model.get(topic)
        if entries:
            entry = entries[int(share * (len(entries) - 1))]
            assert self.journal.dead_letters.add("g", topic, entry.sequence, 5, "error", 1.0)
            self.dead.add((entry.sequence, entry.record))

    @rule()
    def take_dead(self) -> None:
        if self.dead:
            sequence, record = min(self.dead)
            taken = self.journal.dead_letters.take("g", sequence)
            assert taken is not None
            assert taken.record == record
            self.dead.remove((sequence, record))

    @rule(topic=topics, limit=st.integers(1, 4))
    def read(self, topic: Topic, limit: int) -> None:
        after, found = self.acked.get(topic, 0), []
        while True:
            got = self.journal.page(topic, after, limit=limit, max_bytes=10**6)
            found += got.entries
            after = got.through
            if not got.more:
                break
        assert found == [entry for entry in self.model.get(topic, []) if entry.sequence > self.acked.get(topic, 0)]

    @invariant()
    def same(self) -> None:
        if hasattr(self, "journal"):
            left = [entry for entries in self.model.values() for entry in entries]
            assert self.journal.size == (len(left), sum(len(entry.record) for entry in left))
            assert self.journal.retention.is_drained() == (not left and not self.dead)
            assert {(dead.sequence, dead.record) for dead in self.journal.dead_letters.all("g")} == self.dead
            assert {t: s for api in "ab" for t, s in self.journal.topics.of(api).items()} == self.newest
            assert {t: s for api in "ab" for t, s in self.journal.cursors.of(api, "g").items()} == self.acked

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            self.directory.cleanup()


TestAgainstAModel = pytest.mark.long(AgainstAModel.TestCase)
