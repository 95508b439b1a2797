"""The outbox: what is put in waits for all processes of the host, in order, and goes out once."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import JournalError
from lightbus.io.outbox import Outbox


def put(outbox: Outbox, id: str, api: str = "auth") -> None:
    """Put an event in."""
    outbox.put(id=id, api=api, event="seen", key=None, record=id.encode())


def test_what_is_put_in_waits_in_order(tmp_path: Path) -> None:
    """Also for another process; the same id once; what was delivered is out."""
    for id in ("b", "a", "c", "a"):
        put(Outbox(tmp_path / "shop"), id)
    put(Outbox(tmp_path / "shop"), "x", api="other")
    other = Outbox(tmp_path / "shop")
    assert [each.record for each in other.waiting(["auth"])] == [b"b", b"a", b"c"]
    assert [each.id for each in other.waiting(limit=2)] == ["b", "a"]
    assert other.counts() == {"auth": 3, "other": 1}
    other.delivered(["a", "b"])
    assert [each.id for each in other.waiting()] == ["c", "x"]


def test_a_look_costs_nothing_and_makes_nothing(tmp_path: Path) -> None:
    """Whether there is an outbox is seen without opening one, and so is whether it changed."""
    outbox = Outbox(tmp_path)
    assert (Outbox.exists(tmp_path), outbox.state()) == (False, None)
    put(outbox, "a")
    before = outbox.state()
    assert Outbox.exists(tmp_path)
    assert outbox.waiting()
    assert outbox.state() == before
    put(outbox, "b")
    assert outbox.state() != before


def test_an_outbox_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """Below something that is no directory there is none: looking raises nothing, putting something in does."""
    (tmp_path / "file").touch()
    outbox = Outbox(tmp_path / "file" / "shop")
    assert outbox.state() is None
    with pytest.raises(JournalError, match="outbox"):
        put(outbox, "a")


def test_what_was_seen_is_remembered(tmp_path: Path) -> None:
    """That there is such an event is known to every process, and once is enough."""
    for _ in range(2):
        Outbox(tmp_path).note_seen("auth", "seen")
    assert Outbox(tmp_path).seen("auth") == {"seen"}
    assert Outbox(tmp_path).seen("other") == set()


def test_one_hands_off_at_a_time(tmp_path: Path) -> None:
    """The second is told no, until the first has finished."""
    put(Outbox(tmp_path), "a")
    with Outbox(tmp_path).hold() as first, Outbox(tmp_path).hold() as second:
        assert (first, second) == (True, False)
    with Outbox(tmp_path).hold() as third:
        assert third


def test_processes_share_it(tmp_path: Path) -> None:
    """Many put events in at the same time while another takes them out: each comes out once, in order, and none waits
    for long.
    """
    code = """
import sys
from pathlib import Path
from lightbus.io.outbox import Outbox
input()
for number in range(25):
    Outbox(Path(sys.argv[1])).put(id=f"{sys.argv[2]}-{number:02}", api="auth", event="seen", key=None, record=b"r")
"""
    racing = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], stdin=subprocess.PIPE) for name in "abcdef"
    ]
    for process in racing:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    taken: list[str] = []
    while any(process.poll() is None for process in racing) or Outbox(tmp_path).counts():
        waiting = Outbox(tmp_path).waiting(limit=7)
        Outbox(tmp_path).delivered([each.id for each in waiting])
        taken += [each.id for each in waiting]
    assert [process.returncode for process in racing] == [0] * 6
    assert len(set(taken)) == len(taken) == 150
    for name in "abcdef":
        mine = [id for id in taken if id.startswith(name)]
        assert mine == sorted(mine)


def test_what_was_put_in_survives_a_kill(tmp_path: Path) -> None:
    """It is on disk when that is said, whenever the process ends."""
    code = """
import sys
from pathlib import Path
from lightbus.io.outbox import Outbox
for number in range(10**6):
    Outbox(Path(sys.argv[1])).put(id=str(number), api="auth", event="seen", key=None, record=b"r")
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(20)]
    process.kill()
    *whole, _ = process.stdout.read().split("\n")
    process.stdout.close()
    process.wait()
    waiting = [each.id for each in Outbox(tmp_path).waiting(limit=10**6)]
    assert waiting[: len(said) + len(whole)] == said + whole


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "deliver", "look"]), st.integers(0, 5), st.sampled_from(["auth", "mail"])),
        max_size=15,
    )
)
def test_it_is_an_ordered_set(steps: list[tuple[str, int, str]]) -> None:
    """Whatever is put in and taken out in whatever order: an id is in once, where it was put in first."""
    model: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as directory:
        outbox = Outbox(Path(directory))
        for what, number, api in steps:
            if what == "put":
                put(outbox, str(number), api)
                model.setdefault(str(number), api)
            elif what == "deliver":
                outbox.delivered([str(number)])
                model.pop(str(number), None)
            assert [(each.id, each.api) for each in outbox.waiting()] == list(model.items())
            assert [each.id for each in outbox.waiting([api])] == [id for id, of in model.items() if of == api]
            assert outbox.counts() == Counter(model.values())


def test_an_outbox_that_cannot_be_held(tmp_path: Path) -> None:
    """Where it cannot be, whoever wanted to empty it is told why."""
    with pytest.raises(JournalError, match=r"outbox\.sqlite cannot be held"), Outbox(tmp_path / "none").hold():
        pass


def test_an_outbox_that_cannot_be_used(tmp_path: Path) -> None:
    """The error names it and says what to do."""
    (tmp_path / "shop").write_text("a file")
    with pytest.raises(JournalError, match=r"outbox\.sqlite did not take an event"):
        put(Outbox(tmp_path / "shop"), "a")
    (tmp_path / "outbox.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError, match=r"outbox\.sqlite cannot be read"):
        Outbox(tmp_path).waiting()
