"""The features of a worker."""

from __future__ import annotations

from lightbus.config.features import ALL_FEATURES, Feature


def test_features_have_the_words_of_the_command_line() -> None:
    """The names are those of `lightbus run --only` and of the settings."""
    assert [feature.value for feature in ALL_FEATURES] == ["rpcs", "events", "tasks"]
    assert ALL_FEATURES == (Feature.RPCS, Feature.EVENTS, Feature.TASKS)
    assert Feature("events") is Feature.EVENTS
