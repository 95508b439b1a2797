"""The description of an invalid value, as a short text."""

from __future__ import annotations

from lightbus.service.problems import Problem, elided


def test_elided_never_raises() -> None:
    """Values that are too long, or raise when shown, have a short text."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError

    assert len(elided("x" * 10_000)) < 100
    assert elided(10**5000) == "an int"
    assert "Shy" in elided(Shy())
    assert str(Problem(path=("a", 0, "b"), got=1, reason="why")) == "a[0].b is 1, but why"
