"""The outbox: its events wait for all processes of the host, in order, and are handed off once."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.adapters.sqlite.quarantine import quarantine_sentences
from lightbus.exceptions import JournalError


def put(outbox: HostOutbox, id: str, api: str = "auth") -> None:
    """Put an event in."""
    outbox.put(id=id, api=api, event="seen", key=None, record=id.encode())


def test_exists_and_state_create_nothing(tmp_path: Path) -> None:
    """Whether there is an outbox, and whether it changed, is read without opening it."""
    outbox = HostOutbox(tmp_path)
    assert (HostOutbox(tmp_path).exists(), outbox.state()) == (False, None)
    put(outbox, "a")
    before = outbox.state()
    assert HostOutbox(tmp_path).exists()
    assert outbox.waiting()
    assert outbox.state() == before
    put(outbox, "b")
    assert outbox.state() != before


def test_events_of_thousands_of_published_apis_are_found(tmp_path: Path) -> None:
    """However many are published: the refused ones are left out, as of a single API."""
    outbox = HostOutbox(tmp_path)
    for name in ("a", "b", "c"):
        put(outbox, name, f"api{name}")
    outbox.refuse([("b", "form", "invalid")])
    published = dict.fromkeys((f"api{each}" for each in ("a", "b", *range(5000))), "form")
    assert [event.id for event in outbox.waiting(published)] == ["a"]
    assert [event.id for event in outbox.waiting({**published, "apib": "another"})] == ["a", "b"]


def test_unreadable_outbox_does_not_exist(tmp_path: Path) -> None:
    """Below a file, or where the system refuses to look, there is none: only adding an event raises an error."""
    (tmp_path / "file").touch()
    outbox = HostOutbox(tmp_path / "file" / "shop")
    assert (outbox.exists(), outbox.state()) == (False, None)
    assert not HostOutbox(tmp_path / ("x" * 300)).exists()  # ENAMETOOLONG: `Path.exists` raises, as it does for EACCES
    with pytest.raises(JournalError, match="outbox"):
        put(outbox, "a")


def test_holder_notices_a_removed_lock(tmp_path: Path) -> None:
    """A cleaner of old files does not make two processes hand off for long: the first stops at its next check."""
    put(HostOutbox(tmp_path), "a")
    with HostOutbox(tmp_path).hold() as first:
        (tmp_path / "outbox.lock").unlink()
        with HostOutbox(tmp_path).hold() as second:
            assert (first(), second()) == (False, True)


def test_processes_share_the_outbox(tmp_path: Path) -> None:
    """Many put events in at the same time while another takes them out: each comes out once, in order, and none waits
    for long.
    """
    code = """
import sys
from pathlib import Path
from lightbus.adapters.sqlite.outbox import HostOutbox
input()
for number in range(25):
    HostOutbox(Path(sys.argv[1])).put(id=f"{sys.argv[2]}-{number:02}", api="auth", event="seen", key=None, record=b"r")
"""
    racing = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], stdin=subprocess.PIPE) for name in "abcdef"
    ]
    for process in racing:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    taken: list[str] = []
    while any(process.poll() is None for process in racing) or HostOutbox(tmp_path).counts():
        waiting = HostOutbox(tmp_path).waiting(limit=7)
        HostOutbox(tmp_path).delivered([each.id for each in waiting])
        taken += [each.id for each in waiting]
    assert [process.returncode for process in racing] == [0] * 6
    assert len(set(taken)) == len(taken) == 150
    for name in "abcdef":
        mine = [id for id in taken if id.startswith(name)]
        assert mine == sorted(mine)


def test_added_events_survive_a_kill(tmp_path: Path) -> None:
    """They are on disk when `put` returns, whenever the process ends."""
    code = """
import sys
from pathlib import Path
from lightbus.adapters.sqlite.outbox import HostOutbox
for number in range(10**6):
    HostOutbox(Path(sys.argv[1])).put(id=str(number), api="auth", event="seen", key=None, record=b"r")
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(20)]
    process.kill()
    *whole, _ = process.stdout.read().split("\n")
    process.stdout.close()
    process.wait()
    waiting = [each.id for each in HostOutbox(tmp_path).waiting(limit=10**6)]
    assert waiting[: len(said) + len(whole)] == said + whole


@pytest.mark.long
@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "deliver", "look"]), st.integers(0, 5), st.sampled_from(["auth", "mail"])),
        max_size=15,
    )
)
def test_outbox_is_an_ordered_set(steps: list[tuple[str, int, str]]) -> None:
    """For any order of adding and removing: an id is in it once, where it was first added."""
    model: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as directory:
        outbox = HostOutbox(Path(directory))
        for what, number, api in steps:
            if what == "put":
                put(outbox, str(number), api)
                model.setdefault(str(number), api)
            elif what == "deliver":
                outbox.delivered([str(number)])
                model.pop(str(number), None)
            assert [(each.id, each.api) for each in outbox.waiting()] == list(model.items())
            assert [each.id for each in outbox.waiting({api: ""})] == [id for id, of in model.items() if of == api]
            assert outbox.counts() == Counter(model.values())


def test_unlockable_outbox_names_the_reason(tmp_path: Path) -> None:
    """`hold` raises an error with the reason."""
    with pytest.raises(JournalError, match=r"outbox\.sqlite cannot be held"), HostOutbox(tmp_path / "none").hold():
        pass


def test_unusable_outbox_is_named(tmp_path: Path) -> None:
    """The error names it and says what to do."""
    (tmp_path / "shop").write_text("a file")
    with pytest.raises(JournalError, match=r"outbox\.sqlite did not take an event"):
        put(HostOutbox(tmp_path / "shop"), "a")


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _cut_to_a_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096])


def _overwrite(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))


@pytest.mark.parametrize("damage", [_zero, _cut, _cut_to_a_page, _overwrite])
def test_a_damaged_outbox_is_quarantined(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It is named and logged once, later events wait in a new one, and doctor reports it."""
    outbox = HostOutbox(tmp_path)
    for number in range(100):
        outbox.put(id=str(number), api="auth", event="seen", key=None, record=b"x" * 1000)
    damage(outbox.path)
    put(outbox, "a")
    put(HostOutbox(tmp_path), "b")
    assert [each.id for each in HostOutbox(tmp_path).waiting()][-2:] == ["a", "b"]
    [renamed] = tmp_path.glob("*.corrupt-1")
    assert len([each for each in caplog.messages if "was renamed to" in each and str(renamed) in each]) == 1
    [told] = quarantine_sentences(tmp_path, "host")
    assert str(renamed) in told


def test_reader_of_another_program_blocks_no_process(tmp_path: Path) -> None:
    """During a backup events are added without delay, and the change is noticed."""
    outbox = HostOutbox(tmp_path)
    put(outbox, "a")
    with contextlib.closing(sqlite3.connect(outbox.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM waiting").fetchone()
        before = outbox.state()
        put(outbox, "b")
        assert outbox.state() != before
        assert [each.id for each in outbox.waiting()] == ["a", "b"]


def test_writer_of_another_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding an event waits for a while, and then the error names the reason."""
    monkeypatch.setattr("lightbus.adapters.sqlite.outbox.BUSY_TIMEOUT", 0.1)
    outbox = HostOutbox(tmp_path)
    put(outbox, "a")
    with contextlib.closing(sqlite3.connect(outbox.path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="It is locked by another program"):
            put(outbox, "b")
    put(outbox, "b")


def test_outbox_of_an_earlier_version_is_used(tmp_path: Path) -> None:
    """Its waiting events have no service."""
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as old:
        old.execute(
            "CREATE TABLE waiting (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, api TEXT NOT NULL, "
            "event TEXT NOT NULL, key TEXT, record BLOB NOT NULL, at REAL NOT NULL)"
        )
        old.execute("INSERT INTO waiting VALUES (1, 'a', 'auth', 'seen', NULL, x'00', 1.0)")
        old.commit()
    outbox = HostOutbox(tmp_path)
    outbox.put(id="b", api="mail", event="seen", key=None, record=b"b", service="post")
    assert [(each.id, each.service) for each in outbox.waiting()] == [("a", ""), ("b", "post")]
    assert outbox.services() == {"mail": "post"}
