"""The Django application with the command `manage.py runlightbus`."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["LightbusConfig"]


class LightbusConfig(AppConfig):  # type: ignore[misc]
    """The configuration of the application."""

    name = "lightbus.contrib.django"
    label = "lightbus"
    verbose_name = "Lightbus"
