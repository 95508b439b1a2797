"""The Django application with the outbox table."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["OutboxConfig"]


class OutboxConfig(AppConfig):  # type: ignore[misc]
    """The configuration of the application."""

    name = "lightbus.contrib.django.outbox"
    label = "lightbus_outbox"
    verbose_name = "Lightbus: the outbox"
    default_auto_field = "django.db.models.BigAutoField"
