"""A publisher of `sale.sold`, which fires on demand."""

from __future__ import annotations

import lightbus
from lightbus import Api, Event, Parameter

bus = lightbus.create(service_name="sale")


class SaleApi(Api):
    sold = Event([Parameter("number", int), Parameter("note", str, default="")])

    class Meta:
        name = "sale"

    async def sell(self, first: int, count: int, size: int = 0) -> None:
        """Fire so many events, numbered from `first`, with so many bytes each; return when they are on disk."""
        for number in range(first, first + count):
            await bus.sale.sold.fire_async(number=number, note="x" * size)


bus.client.register_api(SaleApi())
