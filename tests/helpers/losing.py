"""Decides which frames get lost on a connection, and counts them."""

from __future__ import annotations

import random
from collections import Counter

from lightbus.wire.envelope import EVENT_TOPIC_PARTS, MARKER_PREFIX, Kind

__all__ = ["Losing", "kind_of_published"]


def kind_of_published(frame: bytes) -> Kind:
    """Return the kind of a published message, which follows the topic."""
    if frame[:1] == MARKER_PREFIX:
        return Kind(frame[17])
    return Kind(frame.split(b"\0", EVENT_TOPIC_PARTS)[EVENT_TOPIC_PARTS][0])


class Losing:
    """
    Decides for each frame whether it gets lost. None does until one of the methods below is called.

    Attributes:
        seen: how many frames of each kind there were.
        lost: how many of them got lost.

    """

    def __init__(self) -> None:
        self.seen: Counter[Kind] = Counter()
        self.lost: Counter[Kind] = Counter()
        self._next: Counter[Kind] = Counter()
        self._chance: tuple[random.Random, float] | None = None

    def lose_next(self, kind: Kind, count: int = 1) -> None:
        """Lose the next frame of a kind, or several."""
        self._next[kind] = count

    def lose_at_random(self, seed: int, part: float) -> None:
        """Lose a share of all frames, of any kind."""
        self._chance = random.Random(seed), part

    def lose_nothing(self) -> None:
        """Lose nothing from now on."""
        self._next.clear()
        self._chance = None

    def __call__(self, kind: Kind) -> bool:
        """Return whether to lose this frame."""
        self.seen[kind] += 1
        is_lost = self._next[kind] > 0
        if is_lost:
            self._next[kind] -= 1
        elif self._chance is not None:
            chance, part = self._chance
            is_lost = chance.random() < part
        self.lost[kind] += is_lost
        return is_lost
