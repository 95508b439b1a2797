"""What `manage.py runlightbus` serves. It has the project's models, and its connections to the database."""

import lightbus
from lightbus import Api, Event, Parameter

from .models import Order, Product

bus = lightbus.create(service_name="shop")


class StoreApi(Api):
    order_placed = Event([Parameter("order", int), Parameter("customer", str)], key="customer")

    class Meta:
        name = "store"

    def stock(self, product: str) -> int:
        return Product.objects.get(name=product).stock


bus.client.register_api(StoreApi())


@bus.client.on_start()
def on_start() -> None:
    bus.store.order_placed.listen(ship, listener_name="ship")


def ship(event_message: lightbus.EventMessage, order: int, customer: str) -> None:
    # The event comes at least once: to ship an order that is shipped does nothing.
    Order.objects.filter(pk=order).update(is_shipped=True)
