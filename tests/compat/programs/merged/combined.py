import asyncio
import json
import signal

import lightbus

page_views = {}


def handle_page_view(event_message, url):
    page_views.setdefault(url, 0)
    page_views[url] += 1


class DashboardApi(lightbus.Api):
    class Meta:
        name = "dashboard"

    async def total(self):
        return sum(page_views.values())


async def answer(reader, writer):
    url = (await reader.readline()).split()[1].decode()
    resized = await bus.image.resize.call_async(url=url, width=1, height=2)
    body = json.dumps({"views": page_views, "total": await bus.dashboard.total.call_async(), "image": resized}).encode()
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()
    writer.close()


async def main():
    bus.client.register_api(DashboardApi())
    bus.store.page_viewed.listen(handle_page_view, listener_name="combined")
    await bus.client.start_worker()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print("Listens on", server.sockets[0].getsockname()[1], flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with server:
        await stopped.wait()
    await bus.client.stop_worker()
    await bus.client.close_async()


bus = lightbus.create(service_name="combined")
lightbus.configure_logging()
asyncio.run(main())
print("Ended", flush=True)
