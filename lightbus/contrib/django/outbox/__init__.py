"""An outbox in the project's database: `INSTALLED_APPS = ["lightbus.contrib.django.outbox", ...]`.

`fire(bus.store.order_placed, order=1)` stores the event in the current transaction; the worker fires it once that has
been committed.
"""

from __future__ import annotations

from .firing import fire

__all__ = ["fire"]
