"""The state of peers by their silence: alive, suspect, gone. Knows when each gave its last sign of life, not how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

__all__ = ["Liveness", "LivenessChange", "State", "classify_silence"]

K = TypeVar("K")


class State(Enum):
    """The states of a peer, by how long it has been silent."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    GONE = "gone"


def classify_silence(silence: float, suspect_after: float, gone_after: float) -> State:
    """Return the state after so many seconds of silence."""
    if silence >= gone_after:
        return State.GONE
    return State.SUSPECT if silence >= suspect_after else State.ALIVE


@dataclass(frozen=True, slots=True)
class LivenessChange(Generic[K]):
    """A peer changed its state."""

    key: K
    state: State


class Liveness(Generic[K]):
    """
    The time of each peer's last sign of life. Only touched from the loop it belongs to.

    Suspect is not dead: a peer that gives a sign of life is alive again.

    Args:
        suspect_after: seconds of silence after which a peer is suspect.
        gone_after: seconds of silence after which it is forgotten.

    """

    def __init__(self, *, suspect_after: float, gone_after: float) -> None:
        if not 0 < suspect_after <= gone_after:
            raise ValueError(f"suspect_after ({suspect_after}) must be positive and at most gone_after ({gone_after})")
        self.suspect_after = suspect_after
        self.gone_after = gone_after
        self._heard: dict[K, float] = {}
        self._suspects: set[K] = set()

    def __len__(self) -> int:
        return len(self._heard)

    def __contains__(self, key: K) -> bool:
        return key in self._heard

    def record_activity(self, key: K, now: float) -> None:
        """Record a sign of life of a peer."""
        self._heard[key] = now
        self._suspects.discard(key)

    def forget(self, key: K) -> None:
        """Stop tracking a peer, known or not."""
        self._heard.pop(key, None)
        self._suspects.discard(key)

    def tick(self, now: float) -> list[LivenessChange[K]]:
        """Return the peers that became suspect or gone since the last call; those that are gone are forgotten."""
        changes: list[LivenessChange[K]] = []
        for key, heard in list(self._heard.items()):
            state = classify_silence(now - heard, self.suspect_after, self.gone_after)
            if state is State.GONE:
                self.forget(key)
                changes.append(LivenessChange(key, state))
            elif state is State.SUSPECT and key not in self._suspects:
                self._suspects.add(key)
                changes.append(LivenessChange(key, state))
        return changes
