"""A program that stores orders and fires them by its outbox, some of them rolled back; and relays them, all in one."""

from __future__ import annotations

import os
import threading
from typing import Any

import lightbus
from lightbus import Api, Event, Parameter
from lightbus.events.publishing import relay_turns

URL, TOTAL, TOGETHER = os.environ["OUTBOX_URL"], int(os.environ["OUTBOX_TOTAL"]), 20

relay_turns.PATIENCE = relay_turns.LONGEST  # a machine may stand still for seconds

bus = lightbus.create(service_name="sells")


class SalesApi(Api):
    sold = Event([Parameter("customer", str), Parameter("number", int)], key="customer")

    class Meta:
        name = "sales"


bus.client.register_api(SalesApi())


def sell_all(shop: Any) -> None:
    """Go on behind the last order that was committed."""
    number = shop.last()
    while number < TOTAL:
        together = range(number + 1, min(number + TOGETHER, TOTAL) + 1)
        shop.sell([-each for each in together], is_kept=False)
        shop.sell(together, is_kept=True)
        number = together[-1]


def start(shop: Any) -> None:
    """Sell in a thread, once the worker runs."""
    threading.Thread(target=sell_all, args=[shop], daemon=True).start()


if os.environ["OUTBOX_BY"] == "django":
    from of_django import Shop
else:
    from of_sqlalchemy import Shop  # type: ignore[assignment]

shop = Shop(bus, URL)


@bus.client.after_worker_started
def begin() -> None:
    start(shop)
