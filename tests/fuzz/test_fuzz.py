"""Any bytes are decoded or raise ProtocolError, and a handler raises nothing."""

from __future__ import annotations

import os

import pytest

from fuzz.run import fuzz, replay
from helpers import examples


@pytest.mark.long
def test_damaged_messages_raise_nothing() -> None:
    """In decoders and in handlers, of a worker and of a listener. A seed that finds a fault is printed."""
    seed = int.from_bytes(os.urandom(4), "big")
    found = fuzz(seed, examples(1_000_000))
    assert found.faults == [], f"python tests/fuzz --seed {seed} --inputs {found.inputs}"


def test_corpus_finds_nothing() -> None:
    """The inputs of the corpus do no harm any more."""
    found = replay()
    assert found.inputs > 0
    assert found.faults == []
