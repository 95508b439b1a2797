"""
A small shop for the dashboard's tests and pictures: five services in one program of each name.

    SERVICE=orders lightbus run --bus shop

The load is steady, so that pictures of it resemble each other: an order every `EVERY` seconds.
"""

from __future__ import annotations

import asyncio
import os
from typing import Literal

import lightbus

SERVICE = os.environ["SERVICE"]
EVERY = float(os.environ.get("EVERY", "0.1"))

bus = lightbus.create(service_name=SERVICE)


class CustomersApi(lightbus.Api):
    """The customers of the shop."""

    class Meta:
        name = "customers"

    async def find(self, email: str) -> dict[str, str]:
        """Return a customer by the address of the mail."""
        return {"email": email, "name": email.partition("@")[0].title()}

    async def check_password(self, user: str, password: str, *, remember: bool = False) -> bool:
        """Return whether this is the user's password: `secret` is everybody's."""
        return password == "secret"


class OrdersApi(lightbus.Api):
    """The orders, each with its customer."""

    created = lightbus.Event(parameters=["number", "email", "total"])
    cancelled = lightbus.Event(parameters=["number"])

    class Meta:
        name = "orders"
        version = 2

    def __init__(self) -> None:
        self._number = 0

    async def place(self, email: str, items: list[str], carrier: Literal["post", "bike"] = "post") -> int:
        """
        Place an order, and return its number.

        The customer has to be known.
        """
        await bus.customers.find.call_async(email=email)
        self._number += 1
        await bus.orders.created.fire_async(number=self._number, email=email, total=round(19.9 * len(items), 2))
        return self._number

    async def show(self, number: int) -> dict[str, int]:
        """Return an order. Raises KeyError where there is none."""
        if number > self._number:
            raise KeyError(number)
        return {"number": number}


class StockApi(lightbus.Api):
    """The goods in stock."""

    class Meta:
        name = "stock"

    async def reserve(self, number: int) -> bool:
        """Put aside what was ordered."""
        return number % 50 != 0


async def reserve(message: lightbus.EventMessage, number: int, email: str, total: float) -> None:
    """Have the stock put aside what was ordered."""
    await bus.stock.reserve.call_async(number=number)


async def write_mail(message: lightbus.EventMessage, number: int, email: str, total: float) -> None:
    """Thank for the order; of some nobody can."""
    if number % 40 == 7:
        raise ValueError(f"the mail server does not know {email}")


async def place_orders() -> None:
    """Buy something, again and again, and ask for an order that is not there."""
    number = 0
    while True:
        number += 1
        try:
            await bus.orders.place.call_async(email=f"sally{number % 7}@example.com", items=["tea"] * (1 + number % 3))
            if number % 20 == 0:
                await bus.orders.show.call_async(number=number + 1000)
        except lightbus.LightbusException:
            pass
        await asyncio.sleep(EVERY)


APIS = {"customers": [CustomersApi], "orders": [OrdersApi], "stock": [StockApi]}

for api in APIS.get(SERVICE, []):
    bus.client.register_api(api())

if SERVICE == "web":

    @bus.client.on_start()
    def buy() -> None:
        """Keep the shop busy."""
        bus.client.add_background_task(place_orders())


if SERVICE == "warehouse":
    bus.orders.created.listen(reserve, listener_name="reserve")

if SERVICE == "mail":
    bus.orders.created.listen(write_mail, listener_name="thanks", on_error=lightbus.OnError.RETRY, max_deliveries=2)
