"""The time by which a call must be answered."""

from __future__ import annotations

import contextvars

import pytest

from lightbus.deadline import LONGEST, Deadline, ServedCall, current_call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Freeze the clock; its only item is the time."""
    shown = [100.0]
    monkeypatch.setattr("lightbus.deadline.time.monotonic", lambda: shown[0])
    return shown


def test_time_runs_out(clock: list[float]) -> None:
    """The time left falls to zero and not below."""
    deadline = Deadline.after(2.0)
    assert (deadline.left(), deadline.passed(), str(deadline)) == (2.0, False, "2.000 s left")
    clock[0] = 101.5
    assert (deadline.left(), deadline.passed()) == (0.5, False)
    clock[0] = 102.0
    assert (deadline.left(), deadline.passed()) == (0.0, True)
    clock[0] = 500.0
    assert (deadline.left(), deadline.passed(), str(deadline)) == (0.0, True, "0.000 s left")


def within(inherited: ServedCall, seconds: float) -> Deadline:
    """Return the deadline that code which serves a call gets."""

    def serve() -> Deadline:
        current_call.set(inherited)
        return Deadline.after(seconds)

    return contextvars.copy_context().run(serve)


def test_the_sooner_one_is_inherited(clock: list[float]) -> None:
    """A call made while another is served ends no later than that one, and earlier with a shorter timeout."""
    inherited = ServedCall(Deadline(103.0))
    assert within(inherited, 10.0) == Deadline(103.0)
    assert within(inherited, 1.0) == Deadline(101.0)
    assert Deadline.after(10.0) == Deadline(110.0)


def test_answered_call_passes_on_no_deadline(clock: list[float]) -> None:
    """A task that a handler leaves running does not inherit the deadline of the answered call."""
    inherited = ServedCall(Deadline(103.0))
    inherited.end()
    assert within(inherited, 10.0) == Deadline(110.0)


@pytest.mark.parametrize("seconds", [1e300, float("inf"), 10**400])
def test_deadline_is_at_most_a_year_away(clock: list[float], seconds: float) -> None:
    """A number from a peer, even one too large for a float, gives a deadline of a year at most."""
    assert Deadline.after(seconds) == Deadline(100.0 + LONGEST)


def test_a_time_that_is_over(clock: list[float]) -> None:
    """A deadline in the past has passed."""
    assert Deadline.after(-5.0).passed()
