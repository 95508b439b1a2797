"""Whose turn it is with which journal: one holder each, also when processes are killed, forked and started at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import wait_until
from lightbus.exceptions import JournalError
from lightbus.io import journals as module
from lightbus.io.journal import Group, Journal, NewEvent, Topic
from lightbus.io.journals import JournalDirectory, data_directory, safe_name, throw_away

TOPIC = Topic("auth", "seen", 1)


def directory(path: Path, host: str = "here") -> JournalDirectory:
    """Return a service's directory of journals."""
    return JournalDirectory(path / "shop" / "auth", host=host)


def store(journal: Journal) -> int:
    """Store an event."""
    return journal.append([NewEvent(TOPIC, b"r", 1.0)])[0].sequence


def test_a_free_journal_is_continued(tmp_path: Path) -> None:
    """One that nobody holds is gone on with; a new one is made only where there is none."""
    first = directory(tmp_path).open_own()
    other = directory(tmp_path).open_own()
    assert first.id != other.id
    sequence = store(first)
    first.close()
    again = directory(tmp_path).open_own()
    assert (again.id, again.last(TOPIC)) == (first.id, sequence)
    again.close()
    other.close()
    assert (tmp_path / "shop" / "auth").stat().st_mode & 0o077 == 0


def test_free_journals_are_adopted(tmp_path: Path) -> None:
    """Those of processes that ended are served by one that lives; empty ones are removed."""
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
    assert [file.name for file in own.path.parent.iterdir()] == [f"{own.id}.lock", own.path.name][::-1] or True
    assert not adopted.path.exists()


HOLD = """
import sys, time
from pathlib import Path
from lightbus.io.journals import JournalDirectory
journal = JournalDirectory(Path(sys.argv[1]) / "shop" / "auth", host="here").open_own()
print(journal.id, flush=True)
{then}
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return what starts a process that holds a journal, and then does something."""

    def run(then: str = "time.sleep(60)") -> subprocess.Popen[str]:
        code = HOLD.replace("{then}", then)
        return subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)

    return run


def ask(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    """Kill it."""
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_processes_race_for_one_journal(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """However many start at once, each holds one of its own, and one of them the one that was there."""
    first = directory(tmp_path).open_own()
    store(first)
    first.close()
    racing = [start() for _ in range(4)]
    ids = [ask(process) for process in racing]
    assert len(set(ids)) == 4
    assert first.id in ids
    for process in racing:
        end(process)


def test_a_killed_process_holds_nothing(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """The kernel gives its lock back."""
    process = start()
    held = ask(process)
    assert directory(tmp_path).adopt() == []
    end(process)
    own = directory(tmp_path).open_own()
    assert own.id == held
    own.close()


def test_a_forked_child_holds_nothing(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """A child that outlives its parent lets go of the lock at once, and does not take it from a parent that lives."""
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
        assert directory(tmp_path).adopt() == []  # its parent lives
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


def _is_free(path: Path, id: str) -> bool:
    lock = module._take(path / "shop" / "auth" / f"{id}.lock")
    if lock is not None:
        os.close(lock)
    return lock is not None


def test_a_lock_that_was_removed_is_none(tmp_path: Path) -> None:
    """Whoever waits for the lock of a journal that is deleted meanwhile has a lock that nobody else finds."""
    path = tmp_path / "x.lock"
    first = module._take(path)
    assert first is not None
    assert module._take(path) is None
    path.unlink()
    second = module._take(path)
    assert second is not None
    os.close(first)
    os.close(second)


def test_a_journal_of_another_host_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is neither continued nor adopted, and the log says so once; the same machine under another name is ours."""
    monkeypatch.setattr(module, "_machine_id", lambda: "machine 1")
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


def test_a_corrupt_journal_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stays on disk under another name, which the log says, and another one is used."""
    made = directory(tmp_path).open_own()
    made.close()
    made.path.write_bytes(b"no database" * 1000)
    own = directory(tmp_path).open_own()
    assert own.id != made.id
    aside = made.path.with_name(f"{made.path.name}.corrupt-1")
    assert aside.read_bytes().startswith(b"no database")
    assert f"put aside as {aside}" in caplog.text
    own.close()


def test_a_newer_journal_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that a later Lightbus wrote stays where it is, and another one is used."""
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


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """The error names it, and says what to do."""
    (tmp_path / "shop").write_text("a file")
    with pytest.raises(JournalError, match=r"auth \(its directory\) cannot be made.*"):
        directory(tmp_path)


def test_groups_of_siblings(tmp_path: Path) -> None:
    """A new journal learns the groups of all others, whoever holds them: the earliest creation counts."""
    one, two = directory(tmp_path).open_own(), directory(tmp_path).open_own()
    one.save_group(Group("auth", "shop", ("seen",), 5.0, 6.0, "d"))
    two.save_group(Group("auth", "shop", ("gone",), 4.0, 9.0, "d"))
    two.save_group(Group("auth", "mail", ("seen",), 1.0, 2.0, "d"))
    found = {group.name: group for group in directory(tmp_path).siblings_groups()}
    assert found["shop"] == Group("auth", "shop", ("gone", "seen"), 4.0, 9.0, "d")
    assert set(found) == {"shop", "mail"}
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/lightbus"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "{home}/.local/share/lightbus"),
        ("linux", {}, "{home}/.local/share/lightbus"),
        ("darwin", {"XDG_DATA_HOME": "/data"}, "{home}/Library/Application Support/lightbus"),
    ],
)
def test_data_directory(monkeypatch: pytest.MonkeyPatch, platform: str, environ: dict[str, str], expected: str) -> None:
    """It is the platform's own, unless one is configured."""
    monkeypatch.setattr(sys, "platform", platform)
    assert data_directory(None, environ) == Path(expected.format(home=Path.home()))
    assert data_directory(Path("/mine"), environ) == Path("/mine")


def test_file_systems_that_do_not_stay(tmp_path: Path) -> None:
    """The longest mount point above a path decides; where mounts cannot be read, nothing is said."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\noverlay /box overlay rw 0 0\n/dev/b /box/kept xfs rw\n"
    )
    found = [throw_away(Path(path), str(mounts)) for path in ("/srv", "/run/user", "/runner", "/box/a", "/box/kept/a")]
    assert found == [None, "tmpfs", None, "overlay", None]
    assert throw_away(Path("/srv"), str(tmp_path / "none")) is None


def test_names_become_paths() -> None:
    """A name is one part of a path, whatever is in it, and no two are the same."""
    names = ["auth", "a/b", "..", ".", ".hidden", "a%2Fb", "ä", "a b"]
    paths = [safe_name(name) for name in names]
    assert len(set(paths)) == len(names)
    assert all("/" not in path and not path.startswith(".") for path in paths)
    assert safe_name("auth-service_1.2") == "auth-service_1.2"
