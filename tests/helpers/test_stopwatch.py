"""The stopwatch of the tests: it excludes the times of an overloaded machine, but the waits are bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import Stopwatch, stopwatch, wait_until, waiting


class FakeTime:
    """A replacement of `time`, which passes only during sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Machine:
    """A machine that reports how long programs waited for it."""

    def __init__(self, directory: Path) -> None:
        self.paths = (directory / "cpu", directory / "io")
        self.lack()

    def lack(self, *, processor: float = 0.0, disk: float = 0.0) -> None:
        """Let programs have waited for this many seconds of each second."""
        for path, seconds in zip(self.paths, (processor, disk), strict=True):
            numbers = f"avg10=1.00 avg60=0.30 avg300=0.06 total={round(seconds * 1e6)}"
            path.write_text(f"some {numbers}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Let the clock advance as the test says."""
    made = FakeTime()
    monkeypatch.setattr(stopwatch, "time", made)
    monkeypatch.setattr(waiting, "time", made)
    monkeypatch.setattr(waiting, "PAUSE", 1.0)
    return made


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Let the stopwatch read another machine than this one."""
    made = Machine(tmp_path)
    monkeypatch.setattr(stopwatch, "_PRESSURE", made.paths)
    monkeypatch.setattr(stopwatch, "_stolen", lambda: 0.0)
    return made


def test_waits_for_the_machine_do_not_count(time: FakeTime, machine: Machine) -> None:
    """The time counts as elapsed, but not as seconds."""
    machine.lack(processor=50.0)
    watch = Stopwatch()
    time.now += 3.0
    machine.lack(processor=51.5, disk=0.5)
    assert watch.elapsed == 3.0
    assert watch.seconds == pytest.approx(1.0)
    machine.lack(processor=90.0)
    assert watch.seconds == 0.0


def test_a_machine_without_statistics(time: FakeTime, machine: Machine) -> None:
    """Then all seconds count."""
    for path in machine.paths:
        path.unlink()
    watch = Stopwatch()
    time.now += 3.0
    assert watch.seconds == watch.elapsed == 3.0


@pytest.mark.parametrize(
    ("lacked", "least", "most"), [(0.0, 100.0, 101.0), (100.0, 200.0, 201.0), (9000.0, 400.0, 401.0)]
)
def test_waiting_is_bounded(time: FakeTime, machine: Machine, lacked: float, least: float, most: float) -> None:
    """The lacking time is added to the timeout, up to a few times that."""

    def condition() -> bool:
        machine.lack(processor=lacked)
        return False

    watch = Stopwatch()
    with pytest.raises(AssertionError, match="it never comes"):
        wait_until(condition, 100.0, "it never comes")
    assert least <= watch.elapsed <= most


def test_timeouts_are_at_least_a_minute(time: FakeTime, machine: Machine) -> None:
    """A shorter one would assert how fast the machine is."""
    watch = Stopwatch()
    with pytest.raises(AssertionError, match="not true after 60 s: it never comes"):
        wait_until(lambda: False, 0.5, "it never comes")
    assert 60.0 <= watch.elapsed <= 61.0


def test_a_failed_wait_shows_the_values(time: FakeTime, machine: Machine) -> None:
    """The error contains the values that the condition read."""
    heard = [b"one", b"three"]

    def is_more(most: int = 2) -> bool:
        return len(heard) > most

    with pytest.raises(AssertionError) as raised:
        wait_until(is_more)
    assert str(raised.value).splitlines()[1:] == ["  heard: [b'one', b'three']", "  most: 2"]
    with pytest.raises(AssertionError, match=r"not true after 60 s: bool$"):
        wait_until(bool)
