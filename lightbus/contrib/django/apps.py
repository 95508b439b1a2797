"""The application that brings `manage.py runlightbus`."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["LightbusConfig"]


class LightbusConfig(AppConfig):  # type: ignore[misc]
    """What Django is told."""

    name = "lightbus.contrib.django"
    label = "lightbus"
    verbose_name = "Lightbus"
