import json

import lightbus

bus = lightbus.create()
page_views = {}


def handle_page_view(event_message, url):
    page_views.setdefault(url, 0)
    page_views[url] += 1
    with open("dashboard.json", "w") as file:
        json.dump(page_views, file)


@bus.client.on_start()
def on_start(**kwargs):
    bus.store.page_viewed.listen(handle_page_view, listener_name="count")
