"""The relays of a project: one for each database that has an outbox."""

from __future__ import annotations

from functools import partial

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ...relay import Relay, place_of_outbox
from .store import DjangoStore

__all__ = ["relays"]


def relays() -> list[Relay]:
    """Return a relay for each database in the setting OUTBOX_DATABASES, which is by default `["default"]`."""
    aliases = getattr(settings, "OUTBOX_DATABASES", ["default"])
    if isinstance(aliases, str) or not all(alias in settings.DATABASES for alias in aliases):
        raise ImproperlyConfigured(
            f"OUTBOX_DATABASES is {aliases!r}. It is a list of aliases among those of DATABASES: "
            f"{', '.join(settings.DATABASES)}."
        )
    return [
        Relay(partial(DjangoStore, alias), name=f"of the database {alias!r}", place=_place(alias)) for alias in aliases
    ]


def _place(alias: str) -> str:
    from .models import OutboxEvent

    connection = connections[alias]
    given = connection.settings_dict
    return place_of_outbox(
        connection.vendor,
        str(given["NAME"]),
        OutboxEvent._meta.db_table,
        host=given["HOST"],
        port=given["PORT"],
        service=given["OPTIONS"].get("service"),
    )
