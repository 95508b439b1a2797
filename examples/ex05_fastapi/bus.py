"""The service: what `lightbus run` serves, and what the web processes fire."""

import lightbus
from lightbus import Api, Event, Parameter

bus = lightbus.create(service_name="shop")


class StoreApi(Api):
    order_placed = Event([Parameter("product", str), Parameter("customer", str)], key="customer")

    class Meta:
        name = "store"

    async def price(self, product: str) -> int:
        return 10 * len(product)


bus.client.register_api(StoreApi())


@bus.client.on_start()
def on_start() -> None:
    bus.store.order_placed.listen(ship, listener_name="ship")


async def ship(event_message: lightbus.EventMessage, product: str, customer: str) -> None:
    print(f"ships {product} to {customer}", flush=True)
