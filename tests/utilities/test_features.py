from __future__ import annotations

import lightbus.config
from lightbus.utilities import features


def test_features_at_the_path_of_upstream() -> None:
    """Feature and ALL_FEATURES are importable from their module in 1.x, and are those of the settings."""
    assert features.Feature is lightbus.config.Feature
    assert [feature.value for feature in features.ALL_FEATURES] == ["rpcs", "events", "tasks"]
