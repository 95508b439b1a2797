"""Validated settings from file, environment and arguments, and the names that follow from them."""

from __future__ import annotations

from .config import Config
from .features import ALL_FEATURES, Feature, features_of
from .loading import config_schema, load_config
from .names import ServiceName, default_service_name, expand
from .settings import (
    ApiSettings,
    BusSettings,
    DiscoverySettings,
    JournalSettings,
    NetworkSettings,
    PluginSettings,
    SchemaSettings,
    SecuritySettings,
    ValidationSettings,
    WorkerSettings,
)

__all__ = [
    "ALL_FEATURES",
    "ApiSettings",
    "BusSettings",
    "Config",
    "DiscoverySettings",
    "Feature",
    "JournalSettings",
    "NetworkSettings",
    "PluginSettings",
    "SchemaSettings",
    "SecuritySettings",
    "ServiceName",
    "ValidationSettings",
    "WorkerSettings",
    "config_schema",
    "default_service_name",
    "expand",
    "features_of",
    "load_config",
]
