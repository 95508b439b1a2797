"""The features of a worker, at the path that programs import them from."""

from __future__ import annotations

from ..config.features import ALL_FEATURES, Feature

__all__ = ["ALL_FEATURES", "Feature"]
