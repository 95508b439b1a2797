"""What the shop tells the bus. The web process imports it, and so may a script."""

import lightbus
from lightbus import Api, Event, Parameter

bus = lightbus.create(service_name="shop")


class StoreApi(Api):
    page_viewed = Event([Parameter("url", str), Parameter("visitor", str)])
    image_uploaded = Event([Parameter("image_id", str), Parameter("picture", bytes)], key="image_id")

    class Meta:
        name = "store"


bus.client.register_api(StoreApi())
