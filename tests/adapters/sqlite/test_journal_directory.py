"""Which process holds which journal: one each, also when processes are killed, forked and started at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import scaled, wait_until
from lightbus.adapters.host.locks import lock_file
from lightbus.adapters.sqlite import journal_directory as module
from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.journal_directory import (
    JournalDirectory,
    has_events,
)
from lightbus.adapters.sqlite.journal_file import EPOCH_BITS
from lightbus.adapters.sqlite.topic import Topic
from lightbus.exceptions import JournalError

TOPIC = Topic("auth", "seen", 1)
NOBODY = 65_534


def directory(path: Path, host: str = "here") -> JournalDirectory:
    """Return a service's directory of journals."""
    return JournalDirectory(path / "shop" / "auth", host=host)


def store(journal: Journal) -> int:
    """Store an event."""
    return journal.append([NewEvent(TOPIC, b"r", 1.0)])[0].sequence


def test_a_free_journal_is_continued(tmp_path: Path) -> None:
    """A journal that no process holds is used; a new one is only created if there is none."""
    first = directory(tmp_path).open_own()
    other = directory(tmp_path).open_own()
    assert first.id != other.id
    sequence = store(first)
    first.close()
    again = directory(tmp_path).open_own()
    assert (again.id, again.topics.last(TOPIC)) == (first.id, sequence)
    again.close()
    other.close()
    assert (tmp_path / "shop" / "auth").stat().st_mode & 0o077 == 0


def test_the_journal_used_last_is_continued(tmp_path: Path) -> None:
    """A process that is restarted continues its own journal, whatever other ones are free and who had adopted them."""
    ids = []
    for _ in range(5):  # by name, one of them would be continued each time
        journals = [directory(tmp_path).open_own() for _ in range(len(ids) + 1)]
        ids.append(journals[-1].id)
        for journal in journals:
            store(journal)
            journal.close()
        again = directory(tmp_path).open_own()
        assert again.id == journals[-1].id
        for adopted in directory(tmp_path).adopt():
            adopted.close()
        again.close()
        last = directory(tmp_path).open_own()
        assert last.id == again.id
        last.close()


def test_an_adopted_journal_is_not_mistaken_for_the_own_one(tmp_path: Path) -> None:
    """Of two processes the later one is killed, then the one that serves its journal: that one continues its own."""
    own, left = directory(tmp_path).open_own(), directory(tmp_path).open_own()
    store(own)
    store(left)
    left.close()
    [adopted] = directory(tmp_path).adopt()
    adopted.close()
    own.close()
    again = directory(tmp_path).open_own()
    assert again.id == own.id
    again.close()


def test_free_journals_are_adopted(tmp_path: Path) -> None:
    """Journals of ended processes are served by a live one; empty ones are removed."""
    own, left, empty = (directory(tmp_path).open_own() for _ in range(3))
    store(left)
    left.close()
    empty.close()
    [adopted] = directory(tmp_path).adopt()
    assert adopted.id == left.id
    assert directory(tmp_path).adopt() == []
    assert sorted(file.stem for file in own.path.parent.glob("*.sqlite")) == sorted([own.id, left.id])
    adopted.delete()
    own.close()
    assert sorted(file.name for file in own.path.parent.iterdir()) == [f"{own.id}.lock", own.path.name]


class Time:
    """The machine's time, which stands until it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5000.0
        monkeypatch.setattr(module, "machine_time", lambda: self.now)


def given_back(path: Path) -> Path:
    """Let a process adopt a journal with an event, and give it back; return its file."""
    ended = directory(path).open_own()
    store(ended)
    ended.close()
    adopting = directory(path)
    [adopted] = adopting.adopt()
    adopting.give_back(adopted, to_starting=True)
    assert adopting.adopt() == []
    return ended.path


@pytest.mark.parametrize("adopt", [JournalDirectory.adopt, JournalDirectory.adopt_filled])
def test_a_journal_that_was_given_back_is_left_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adopt: Callable[[JournalDirectory], list[Journal]]
) -> None:
    """Two processes with many journals do not adopt it in turn; one that starts continues it, others adopt it later."""
    time = Time(monkeypatch)
    file = given_back(tmp_path)
    others = [directory(tmp_path) for _ in range(2)]
    for _ in range(2):
        assert [adopt(other) for other in others] == [[], []]
    time.now += module.LEFT_FOR - 1
    assert [adopt(other) for other in others] == [[], []]
    time.now += 1
    [adopted] = [each for other in others for each in adopt(other)]
    assert adopted.path == file
    adopted.close()


def test_a_left_journal_that_was_used_since_is_adopted_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the process that gave it back, and by one that has left it; and after a restart of the machine."""
    time = Time(monkeypatch)
    file = given_back(tmp_path)
    knows = directory(tmp_path)
    assert knows.adopt() == []
    starts = directory(tmp_path).open_own()
    assert starts.path == file
    starts.close()
    [adopted] = knows.adopt()
    assert adopted.path == file
    knows.give_back(adopted, to_starting=True)
    time.now = 1.0
    [adopted] = directory(tmp_path).adopt()
    adopted.close()


def test_leaving_a_journal_takes_its_lock_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the lock is held a starting process could not have the journal."""
    Time(monkeypatch)
    given_back(tmp_path)
    other = directory(tmp_path)
    assert other.adopt() == []
    monkeypatch.setattr(other, "_take", None)
    assert other.adopt() == other.adopt_filled() == []


def test_has_events_sees_held_and_free_journals(tmp_path: Path) -> None:
    """A journal with events is found, held or not; the check creates nothing, and a damaged journal hides no other."""
    path = tmp_path / "shop" / "auth"
    assert not has_events(path)
    assert not path.exists()
    journal = directory(tmp_path).open_own()
    (path / "0.sqlite").write_bytes(b"no database" * 1000)
    assert not has_events(path)
    store(journal)
    assert has_events(path)
    journal.close()
    assert has_events(path)


HOLD = """
import sys, time
from pathlib import Path
from lightbus.adapters.sqlite.journal_directory import JournalDirectory
journal = JournalDirectory(Path(sys.argv[1]) / "shop" / "auth", host="here").open_own()
print(journal.id, flush=True)
{then}
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts a process, which holds a journal and then runs some code."""

    def run(then: str = "time.sleep(60)") -> subprocess.Popen[str]:
        code = HOLD.replace("{then}", then)
        return subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)

    return run


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process continue that waits for a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def ask(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    """Kill it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def test_processes_race_for_one_journal(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Of any number that start at once each holds its own journal, and one of them the existing one."""
    first = directory(tmp_path).open_own()
    store(first)
    first.close()
    racing = [start() for _ in range(4)]
    ids = [ask(process) for process in racing]
    assert len(set(ids)) == 4
    assert first.id in ids
    for process in racing:
        end(process)


def test_processes_race_to_adopt(tmp_path: Path) -> None:
    """Each free journal is adopted by one of them."""
    left = [directory(tmp_path).open_own() for _ in range(8)]
    for journal in left:
        store(journal)
        journal.close()
    code = """
import sys
from pathlib import Path
from lightbus.adapters.sqlite.journal_directory import JournalDirectory
input()
adopted = JournalDirectory(Path(sys.argv[1]) / "shop" / "auth", host="here").adopt()
print(*[journal.id for journal in adopted], flush=True)
input()
"""
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in racing:
        tell(process)
    ids = [id for process in racing for id in ask(process).split()]
    assert sorted(ids) == sorted(journal.id for journal in left)
    for process in racing:
        tell(process)
        assert process.wait(60) == 0
        end(process)


def test_accepted_events_survive_repeated_kills(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """However often the process is killed while it stores: confirmed events exist, in growing epochs."""
    then = """
from lightbus.adapters.sqlite.journal import NewEvent
from lightbus.adapters.sqlite.topic import Topic
while True:
    events = [NewEvent(Topic("auth", "seen", n % 4), b"x" * 1000, 1.0) for n in range(3)]
    print(*[stored.sequence for stored in journal.append(events)], flush=True)
    journal.checkpoint()
"""
    accepted: list[int] = []
    held = set()
    for turn in range(5):
        process = start(then)
        held.add(ask(process))
        for _ in range(20 * (turn + 1)):
            accepted += map(int, ask(process).split())
        process.kill()
        assert process.stdout is not None
        *whole, _ = process.stdout.read().split("\n")
        accepted += [int(sequence) for line in whole for sequence in line.split()]
        end(process)
    assert len(held) == 1
    assert accepted == sorted(set(accepted))
    assert len({sequence >> EPOCH_BITS for sequence in accepted}) == 5
    own = directory(tmp_path).open_own()
    assert [sequence for sequence in accepted if own.record(sequence) is None] == []
    own.close()


def test_kill_releases_the_lock(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """The kernel releases its lock."""
    process = start()
    held = ask(process)
    assert directory(tmp_path).adopt() == []
    end(process)
    own = directory(tmp_path).open_own()
    assert own.id == held
    own.close()


def test_forked_child_holds_no_lock(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """A child that outlives its parent releases the lock at once, and a child of a live parent does not take it."""
    then = """
import os
child = os.fork()
if child == 0:
    journal.abandon()
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    process = start(then)
    held, child = ask(process), int(ask(process))
    try:
        assert directory(tmp_path).adopt() == []  # the parent process still holds it
        other = directory(tmp_path).open_own()
        assert other.id != held
        process.kill()
        process.wait()
        free = wait_until(lambda: (tmp_path / "shop" / "auth" / f"{held}.sqlite").exists() and _is_free(tmp_path, held))
        assert free
        other.close()
    finally:
        os.kill(child, signal.SIGKILL)
        end(process)


def test_forked_child_does_not_harm_the_journal(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """It may drop all its objects and exit normally: its parent continues to store in an intact file, and holds it."""
    then = """
import gc, os
from lightbus.adapters.sqlite.journal import NewEvent
from lightbus.adapters.sqlite.topic import Topic
def store():
    journal.append([NewEvent(Topic("auth", "seen", 1), b"x" * 5000, 1.0) for _ in range(20)])
store()
if os.fork() == 0:
    journal.abandon()
    del journal
    gc.collect()
    sys.exit(0)
store()
os.wait()
store()
print(journal.size[0], journal._read.execute("PRAGMA integrity_check").fetchone()[0], flush=True)
time.sleep(60)
"""
    process = start(then)
    held, state = ask(process), ask(process)
    assert state == "60 ok"
    assert not _is_free(tmp_path, held)
    end(process)
    own = directory(tmp_path).open_own()
    assert (own.id, own.size[0]) == (held, 60)
    own.close()


def _is_free(path: Path, id: str) -> bool:
    lock = lock_file(path / "shop" / "auth" / f"{id}.lock")
    if lock is not None:
        os.close(lock)
    return lock is not None


def test_lock_of_a_deleted_journal_does_not_count(tmp_path: Path) -> None:
    """A process that waits for the lock of a journal being deleted gets a lock on a file without a name."""
    path = tmp_path / "x.lock"
    first = lock_file(path)
    assert first is not None
    assert lock_file(path) is None
    path.unlink()
    second = lock_file(path)
    assert second is not None
    os.close(first)
    os.close(second)


def test_a_journal_of_another_host_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is neither continued nor adopted, and logged once; the same machine under another name may use it."""
    monkeypatch.setattr(module, "_machine_id", lambda: "machine 1")
    monkeypatch.setattr(module, "is_shared", lambda path: True)
    theirs = directory(tmp_path, host="there").open_own()
    store(theirs)
    theirs.close()
    renamed = directory(tmp_path, host="renamed").open_own()
    assert renamed.id == theirs.id
    renamed.close()
    monkeypatch.setattr(module, "_machine_id", lambda: "machine 2")
    here = directory(tmp_path)
    own = here.open_own()
    assert own.id != theirs.id
    for _ in range(2):
        assert here.adopt() == []
    assert caplog.text.count("was written by the host there and is left alone by this one, here") == 1
    own.close()


def test_new_container_continues_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has another host name and no machine id; the journal is on a local disk of this machine."""
    monkeypatch.setattr(module, "_machine_id", lambda: "")
    monkeypatch.setattr(module, "is_shared", lambda path: False)
    before = directory(tmp_path, host="3f2a").open_own()
    before.close()
    after = directory(tmp_path, host="77be").open_own()
    assert after.id == before.id
    after.close()


def test_a_corrupt_journal_is_quarantined(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stays on disk under another name, which is logged, and another journal is used."""
    made = directory(tmp_path).open_own()
    made.close()
    made.path.write_bytes(b"no database" * 1000)
    own = directory(tmp_path).open_own()
    assert own.id != made.id
    renamed = made.path.with_name(f"{made.path.name}.corrupt-1")
    assert renamed.read_bytes().startswith(b"no database")
    assert f"It was renamed to {renamed}" in caplog.text
    own.close()


@settings(max_examples=scaled(200, least=20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 60_000), new=st.binary(min_size=1, max_size=200))
def test_damaged_free_journal_does_not_prevent_storing(caplog: pytest.LogCaptureFixture, at: int, new: bytes) -> None:
    """Whatever is wrong with a free journal's file: there is a journal that stores events."""
    caplog.clear()
    with tempfile.TemporaryDirectory() as path:
        made = directory(Path(path)).open_own()
        store(made)
        made.close()
        damaged = bytearray(made.path.read_bytes())
        damaged[at % len(damaged) : at % len(damaged) + len(new)] = new
        made.path.write_bytes(damaged)
        own = directory(Path(path)).open_own()
        try:
            if own.id != made.id:
                assert made.id in caplog.text
                store(own)
        finally:
            own.close()


def test_journal_with_invalid_names_is_quarantined(tmp_path: Path) -> None:
    """It is renamed like any other damaged one, and no descriptor of it stays open."""
    made = directory(tmp_path).open_own()
    made.close()
    damaged = bytearray(made.path.read_bytes())
    at = damaged.index(b"CREATE") + 10
    damaged[at : at + 2] = b"\xf4 "
    made.path.write_bytes(damaged)
    own = directory(tmp_path).open_own()
    assert own.id != made.id
    held = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [name for name in held if made.id in name]
    own.close()


def test_a_newer_journal_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A journal of a later version stays where it is, and another one is used."""
    import sqlite3

    made = directory(tmp_path).open_own()
    made.close()
    with sqlite3.connect(made.path) as connection:
        connection.execute("PRAGMA user_version=9")
    connection.close()
    here = directory(tmp_path)
    own = here.open_own()
    assert (own.id != made.id, made.path.exists()) == (True, True)
    here.adopt()
    assert caplog.text.count("is of version 9") == 1
    own.close()


def test_uncreatable_directory_is_named(tmp_path: Path) -> None:
    """The error names it, and says what to do."""
    (tmp_path / "shop").write_text("a file")
    with pytest.raises(JournalError, match=r"auth \(its directory\) cannot be made.*"):
        directory(tmp_path)


@contextlib.contextmanager
def unprivileged() -> Iterator[Path]:
    """Become a user without root's permissions, with access to a directory."""
    with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as path:  # other users cannot enter tmp_path
        os.chmod(path, 0o755)
        user = os.geteuid()
        (Path(path) / "shop" / "auth").mkdir(parents=True)
        try:
            yield Path(path)
        finally:
            os.seteuid(user)
            os.chmod(Path(path) / "shop" / "auth", 0o755)


def become_nobody() -> None:
    """Do so from now on."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


def test_unwritable_directory_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """The error names it, and the setting for another place; adopting returns nothing, without an error."""
    with unprivileged() as path:
        left = directory(path).open_own()
        store(left)
        left.close()
        os.chmod(left.path.parent, 0o555)
        become_nobody()
        if os.access(left.path.with_suffix(".lock"), os.W_OK, effective_ids=True):
            left.path.with_suffix(".lock").chmod(0)
        here = directory(path)
        for _ in range(2):
            assert here.adopt() == []
            with pytest.raises(JournalError, match=rf"{left.path.parent}.* cannot be made.*LIGHTBUS_DATA_DIR"):
                here.open_own()
        assert caplog.text.count(f"The journal {left.path} cannot be held") == 1


def test_journal_of_another_user_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """A journal whose lock is not accessible is left alone, which is logged once, and another one is used."""
    with unprivileged() as path:
        left = directory(path).open_own()
        store(left)
        left.close()
        os.chmod(left.path.parent, 0o777)
        left.path.with_suffix(".lock").chmod(0)
        become_nobody()
        here = directory(path)
        own = here.open_own()
        store(own)
        assert own.id != left.id
        assert here.adopt() == []
        assert caplog.text.count(f"The journal {left.path} cannot be held") == 1
        own.close()


FULL = """
import sys
from pathlib import Path
from lightbus.exceptions import JournalError
from lightbus.adapters.sqlite.journal import NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.adapters.sqlite.journal_directory import JournalDirectory
path = Path(sys.argv[1])
(path / "reserve").write_bytes(b"x" * 600_000)  # as much as writing the log back takes
here = JournalDirectory(path / "shop" / "auth", host="here")
journal, accepted = here.open_own(), []
try:
    while True:
        events = [NewEvent(Topic("auth", "seen", n % 4), b"x" * 1000, 1.0) for n in range(10)]
        accepted += [stored.sequence for stored in journal.append(events)]
except JournalError as error:
    print(error)
(path / "ballast").write_bytes(b"")
try:
    with (path / "ballast").open("ab", buffering=0) as file:
        while file.write(b"x" * 512):
            pass
except OSError:
    pass
before = sorted(file.name for file in here.path.iterdir())
again = JournalDirectory(path / "shop" / "auth", host="here")
for _ in range(3):
    try:
        again.open_own()
    except JournalError as error:
        print(error)
print(before == sorted(file.name for file in here.path.iterdir()))
(path / "ballast").unlink()
(path / "reserve").unlink()
journal.append([NewEvent(Topic("auth", "seen", 1), b"r", 1.0)])
journal.close()
journal = here.open_own()
print(len(accepted) > 100, journal.size[0] - len(accepted), sum(journal.record(each) is None for each in accepted))
journal.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which takes root")
def test_full_disk_keeps_accepted_events(tmp_path: Path) -> None:
    """Accepted events exist, the error says what to do, failed attempts leave no file, with room it continues."""
    script = 'mount -t tmpfs -o size=1m none "$0" && exec "$1" -c "$2" "$0"'
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), sys.executable, FULL]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    first, *others, is_same, outcome = done.stdout.splitlines()
    assert "did not take 10 events: database or disk is full. The disk is full: make room." in first
    assert len(others) == 3
    assert len(set(others)) == 1  # the same text each time, so it is logged once
    assert all("The disk is full: make room." in other for other in others)
    assert (is_same, outcome) == ("True", "True 1 0")


def test_groups_of_sibling_journals_are_known(tmp_path: Path) -> None:
    """A new journal learns the groups of all others, held or not, with the earliest creation."""
    one, two = directory(tmp_path).open_own(), directory(tmp_path).open_own()
    one.groups.save(KnownGroup("auth", "shop", ("seen",), 5.0, 6.0, "d"))
    two.groups.save(KnownGroup("auth", "shop", ("gone",), 4.0, 9.0, "d"))
    two.groups.save(KnownGroup("auth", "mail", ("seen",), 1.0, 2.0, "d"))
    found = {group.name: group for group in directory(tmp_path).siblings_groups()}
    assert found["shop"] == KnownGroup("auth", "shop", ("gone", "seen"), 4.0, 9.0, "d")
    assert set(found) == {"shop", "mail"}
    one.close()
    two.close()
