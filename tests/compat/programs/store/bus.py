import lightbus


class StoreApi(lightbus.Api):
    page_viewed = lightbus.Event(parameters=("url",))

    class Meta:
        name = "store"


bus = lightbus.create(flask=True)
bus.client.register_api(StoreApi())
