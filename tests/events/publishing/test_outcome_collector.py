"""The outcomes of events that were fired together."""

from __future__ import annotations

import pytest

from lightbus.events.publishing.outcome_collector import OutcomeCollector


def test_all_outcomes_in_order() -> None:
    """The result is set once the last of them is known, and not before."""
    together = OutcomeCollector[str](2)
    together("one")
    assert not together.future.done()
    together("two")
    assert together.future.result(0) == ["one", "two"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_first_error_is_the_outcome_of_all(place: int) -> None:
    """At once, whichever event it is; later outcomes change nothing."""
    together = OutcomeCollector[int](3)
    for number in range(place):
        together(number)
    together(ValueError("first"))
    assert isinstance(together.future.exception(0), ValueError)
    for number in range(place, 1):
        together(number)
    together(ValueError("second"))
    together(7)
    with pytest.raises(ValueError, match="first"):
        together.future.result(0)
