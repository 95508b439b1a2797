"""Events that are fired once a transaction is committed, and never if it is rolled back."""

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

    Without a transaction it is fired at once. If the process is killed between the commit and the firing, the event is
    lost, and an error of the firing is raised after the commit: the outbox has neither problem.

    Args:
        event: the path of the event.
        using: the alias of the transaction's database.
        kwargs: the arguments of the event, encoded now.

    Raises what `fire` raises for invalid arguments, before the commit, as far as this process knows the event.
    """
    made = client_of(event).made_events
    message = made.make(*place_of(event), kwargs)
    transaction.on_commit(partial(made.fire_blocking, message), using=using)
