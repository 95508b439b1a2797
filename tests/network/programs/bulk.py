"""A worker that returns as many bytes as requested."""

from __future__ import annotations

import lightbus
from lightbus import Api

bus = lightbus.create(service_name="bulk")


class BulkApi(Api):
    class Meta:
        name = "bulk"

    async def fetch(self, size: int) -> bytes:
        return b"x" * size

    def fetch_def(self, size: int) -> bytes:
        return b"x" * size


bus.client.register_api(BulkApi())
