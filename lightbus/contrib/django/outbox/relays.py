"""The relays of a project: one for each database that has an outbox."""

from __future__ import annotations

from functools import partial

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from ...relay import Relay
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
    return [Relay(partial(DjangoStore, alias), name=f"of the database {alias!r}") for alias in aliases]
