"""Counts views: misses none, also those of the time in which it did not run."""

from collections import Counter

import lightbus

bus = lightbus.create(service_name="dashboard")
views = Counter()


class DashboardApi(lightbus.Api):
    class Meta:
        name = "dashboard"

    async def views(self) -> dict[str, int]:
        return dict(views)


bus.client.register_api(DashboardApi())


@bus.client.on_start()
def on_start():
    bus.store.page_viewed.listen(count, listener_name="count")


async def count(event_message, url, visitor):
    views[url] += 1
    print(f"{visitor} looked at {url}, view {views[url]}", flush=True)
