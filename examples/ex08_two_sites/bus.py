"""The bus of both sites: orders are fired in the north, and handled in the south."""

import lightbus
from lightbus import Api, Event, EventMessage, Parameter


class OrdersApi(Api):
    placed = Event([Parameter("number", int), Parameter("customer", str)], key="customer")

    class Meta:
        name = "orders"


def mail(event_message: EventMessage, number: int, customer: str) -> None:
    print(f"mail to {customer} about order {number}", flush=True)


def north() -> lightbus.BusPath:
    """Return the bus of a process that fires orders."""
    bus = lightbus.create(service_name="shop")
    bus.client.register_api(OrdersApi())
    return bus


def south() -> lightbus.BusPath:
    """Return the bus of a worker that handles them, those from before its first start as well."""
    bus = lightbus.create(service_name="mails")
    bus.orders.placed.listen(mail, listener_name="mail", bus_options={"since": "0"})
    return bus
