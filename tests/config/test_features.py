"""What a process does for others."""

from __future__ import annotations

from lightbus.config.features import ALL_FEATURES, Feature


def test_features_have_the_words_of_the_command_line() -> None:
    """`lightbus run --only rpcs` says them, and settings do."""
    assert [feature.value for feature in ALL_FEATURES] == ["rpcs", "events", "tasks"]
    assert ALL_FEATURES == (Feature.RPCS, Feature.EVENTS, Feature.TASKS)
    assert Feature("events") is Feature.EVENTS
