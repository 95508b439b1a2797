"""Silence -> alive, suspect, gone."""

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
def test_what_silence_means(silence: float, state: State) -> None:
    """Three seconds make suspect and ten gone, where these are the bounds."""
    assert classify_silence(silence, 3.0, 10.0) is state


def watch() -> Liveness[str]:
    return Liveness(suspect_after=3.0, gone_after=10.0)


def test_suspect_then_gone() -> None:
    """Each change is told once, and whoever is gone is judged no more."""
    liveness = watch()
    liveness.record_activity("a", 0.0)
    assert liveness.tick(2.9) == []
    assert liveness.tick(3.0) == [LivenessChange("a", State.SUSPECT)]
    assert liveness.tick(4.0) == []
    assert liveness.tick(10.0) == [LivenessChange("a", State.GONE)]
    assert "a" not in liveness
    assert liveness.tick(99.0) == []


def test_whoever_is_heard_again_is_alive() -> None:
    """A suspect that speaks is no suspect, and may become one again."""
    liveness = watch()
    liveness.record_activity("a", 0.0)
    assert liveness.tick(5.0) == [LivenessChange("a", State.SUSPECT)]
    liveness.record_activity("a", 6.0)
    assert liveness.tick(8.9) == []
    assert liveness.tick(9.0) == [LivenessChange("a", State.SUSPECT)]


def test_long_silence_skips_suspicion() -> None:
    """Where nobody looked for a long time, gone is the first that is told."""
    liveness = watch()
    liveness.record_activity("a", 0.0)
    assert liveness.tick(50.0) == [LivenessChange("a", State.GONE)]


def test_the_forgotten_are_not_judged() -> None:
    """Nobody is told of somebody that was forgotten, not even when it was suspect; forgetting strangers is no fault."""
    liveness = watch()
    liveness.record_activity("a", 0.0)
    liveness.tick(4.0)
    liveness.forget("a")
    liveness.forget("stranger")
    assert liveness.tick(50.0) == []
    assert len(liveness) == 0


@pytest.mark.parametrize(("suspect_after", "gone_after"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_bounds_that_cannot_be(suspect_after: float, gone_after: float) -> None:
    """Nobody can be gone before it is suspect, nor suspect at once."""
    with pytest.raises(ValueError, match="suspect_after"):
        Liveness(suspect_after=suspect_after, gone_after=gone_after)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.5, 2.0, 4.0, 20.0]), st.booleans()), max_size=30))
def test_changes_follow_from_silence(steps: list[tuple[str, float, bool]]) -> None:
    """After any sequence of words and silences, whoever is left was heard of lately, and changes alternate."""
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
