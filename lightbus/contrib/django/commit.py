"""Events that are fired once a transaction is committed, and never where it is rolled back."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction

from ...path import BusPath
from ..paths import client_of, place_of

__all__ = ["fire_on_commit"]


def fire_on_commit(event: BusPath, /, *, using: str | None = None, **kwargs: Any) -> None:
    """
    Fire an event when the transaction is committed: `fire_on_commit(bus.store.order_placed, order="1")`.

    At once where there is none. A process that is killed between the commit and the firing has not fired it, and an
    error of the firing is raised there, behind the commit: the outbox loses nothing.

    Args:
        event: its path.
        using: the alias of the database whose transaction it is.
        kwargs: the arguments of the event, as they are now.

    Raises what `fire` raises for arguments that are wrong, before the commit, as far as this process knows the event.
    """
    made = client_of(event).made_events
    message = made.make(*place_of(event), kwargs)
    transaction.on_commit(partial(made.fire_blocking, message), using=using)
