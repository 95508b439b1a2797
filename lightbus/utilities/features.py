"""The features of a worker, under their module path in Lightbus 1.x."""

from __future__ import annotations

from ..config.features import ALL_FEATURES, Feature

__all__ = ["ALL_FEATURES", "Feature"]
