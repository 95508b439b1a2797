import lightbus


class ImageApi(lightbus.Api):
    class Meta:
        name = "image"

    def resize(self, url, width, height):
        return f"https://images.example/{width}/{height}/animals?_={url}"


bus = lightbus.create()
bus.client.register_api(ImageApi())
