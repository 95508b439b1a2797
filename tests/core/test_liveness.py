"""The state of peers by their silence: alive, suspect, gone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.core.liveness import Liveness, LivenessChange, State, classify_silence


@pytest.mark.parametrize(
    ("silence", "state"),
    [
        (0.0, State.ALIVE),
        (2.999, State.ALIVE),
        (3.0, State.SUSPECT),
        (9.999, State.SUSPECT),
        (10.0, State.GONE),
        (1e9, State.GONE),
    ],
)
def test_silence_classification(silence: float, state: State) -> None:
    """Suspect after three seconds and gone after ten, with these bounds."""
    assert classify_silence(silence, 3.0, 10.0) is state


def watch() -> Liveness[str]:
    return Liveness(suspect_after=3.0, gone_after=10.0)


def test_suspect_then_gone() -> None:
    """Each change is returned once, and a gone peer is forgotten."""
    liveness = watch()
    liveness.record_activity("a", 0.0)
    assert liveness.tick(2.9) == []
    assert liveness.tick(3.0) == [LivenessChange("a", State.SUSPECT)]
    assert liveness.tick(4.0) == []
    assert liveness.tick(10.0) == [LivenessChange("a", State.GONE)]
    assert "a" not in liveness
    assert liveness.tick(99.0) == []


def test_activity_ends_suspicion() -> None:
    """A suspect that gives a sign of life is alive, and may become suspect again."""
    liveness = watch()
    liveness.record_activity("a", 0.0)
    assert liveness.tick(5.0) == [LivenessChange("a", State.SUSPECT)]
    liveness.record_activity("a", 6.0)
    assert liveness.tick(8.9) == []
    assert liveness.tick(9.0) == [LivenessChange("a", State.SUSPECT)]


def test_long_silence_skips_suspicion() -> None:
    """If nothing was checked for long, gone is the first change."""
    liveness = watch()
    liveness.record_activity("a", 0.0)
    assert liveness.tick(50.0) == [LivenessChange("a", State.GONE)]


def test_forgotten_peers_are_not_returned() -> None:
    """Not even suspects; forgetting an unknown peer is allowed."""
    liveness = watch()
    liveness.record_activity("a", 0.0)
    liveness.tick(4.0)
    liveness.forget("a")
    liveness.forget("stranger")
    assert liveness.tick(50.0) == []
    assert len(liveness) == 0


@pytest.mark.parametrize(("suspect_after", "gone_after"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_invalid_bounds_are_refused(suspect_after: float, gone_after: float) -> None:
    """A peer cannot be gone before it is suspect, nor suspect at once."""
    with pytest.raises(ValueError, match="suspect_after"):
        Liveness(suspect_after=suspect_after, gone_after=gone_after)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.5, 2.0, 4.0, 20.0]), st.booleans()), max_size=30))
def test_changes_follow_from_silence(steps: list[tuple[str, float, bool]]) -> None:
    """After any sequence of activity and silence, remaining peers were active recently, and changes alternate."""
    liveness, now, heard, suspects = watch(), 0.0, dict[str, float](), set[str]()
    for key, seconds, speaks in steps:
        now += seconds
        if speaks:
            liveness.record_activity(key, now)
            heard[key] = now
            suspects.discard(key)
        for change in liveness.tick(now):
            assert classify_silence(now - heard[change.key], 3.0, 10.0) is change.state
            assert change.key not in suspects or change.state is State.GONE
            suspects.add(change.key)
            if change.state is State.GONE:
                suspects.discard(change.key)
                del heard[change.key]
        assert len(liveness) == len(heard)
        assert all(key in liveness and now - since < 10.0 for key, since in heard.items())
