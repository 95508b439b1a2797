from __future__ import annotations

import lightbus.config
from lightbus.utilities import features


def test_features_at_the_path_of_upstream() -> None:
    """Feature and ALL_FEATURES are importable where programs expect them, and are the ones the settings use."""
    assert features.Feature is lightbus.config.Feature
    assert [feature.value for feature in features.ALL_FEATURES] == ["rpcs", "events", "tasks"]
