"""Registering APIs: the APIs of this process, with their schemas."""

from __future__ import annotations

import logging

from ..service.api import Api, ApiRegistry, left_out
from ..service.reachable import check_reachable
from ..service.schema import Schema
from ..service.sendable import check_sendable
from .worker_holder import WorkerHolder

__all__ = ["Registration"]

logger = logging.getLogger("lightbus.client")


class Registration:
    """
    The APIs of this process. A running worker advertises added ones at once, and removed ones no longer.

    Attributes:
        apis: the registered APIs.
        schema: the schemas of the registered APIs, and those that were loaded.

    """

    def __init__(self, workers: WorkerHolder, *, human_readable: bool) -> None:
        self.apis = ApiRegistry(self._removed)
        self.schema = Schema(human_readable=human_readable)
        self._workers = workers

    def add(self, api: Api) -> None:
        """Offer an API. Raises what `BusClient.register_api` raises."""
        if isinstance(api, Api):  # the registry refuses all others
            check_reachable(api)
            check_sendable(api)
        self.apis.add(api)
        self.schema.add_api(api)
        for name, why in left_out(api).items():
            logger.warning(
                "%s.%s is no procedure: %s. Write a `def` that calls it, or begin its name with an underscore",
                api.meta.name,
                name,
                why,
            )
        self._workers.change(lambda worker: worker.api_registered())

    def kept(self) -> list[str]:
        """Return the registered APIs that have durable events, of which this process can be the publisher."""
        return [
            api.meta.name
            for api in self.apis.all()
            if any(event.delivery != "best_effort" for event in api.events.values())
        ]

    def _removed(self, name: str) -> None:
        self.schema.remove_api(name)
        self._workers.change(lambda worker: worker.api_registered())
