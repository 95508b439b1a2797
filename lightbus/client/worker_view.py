"""A worker's view of its client: what the worker serves, and what it notifies."""

from __future__ import annotations

from ..config import Feature
from ..engine.engine import Engine
from ..service.hooks import HookRegistry
from .engine_holder import EngineHolder
from .listening import Listening
from .outbox import UnpublishedEvents
from .plugin_loader import PluginLoader
from .registration import Registration
from .schedules import Schedules
from .worker_holder import WorkerHolder

__all__ = ["WorkerView"]


class WorkerView:
    """
    An implementation of `engine.worker.WorkerUser` from the parts of a client.

    Attributes:
        hook_client: passed to hooks as `client`.

    """

    def __init__(
        self,
        *,
        hook_client: object,
        hooks: HookRegistry,
        engines: EngineHolder,
        workers: WorkerHolder,
        registration: Registration,
        listening: Listening,
        schedules: Schedules,
        unpublished: UnpublishedEvents,
        plugins: PluginLoader,
    ) -> None:
        self.hook_client = hook_client
        self.hooks = hooks
        self.api_registry = registration.apis
        self.schema = registration.schema
        self.listeners = listening.listeners
        self.timetables = schedules.timetables
        self.in_turn = schedules.in_turn
        self.take_background_tasks = schedules.take_background_tasks
        self.adopt_publisher = unpublished.adopt_publisher
        self.plugins = plugins
        self.load_plugins = plugins.load
        self.worker_left = workers.worker_left
        self._engines = engines
        self._workers = workers

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        return self._engines.engine

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features of a worker."""
        return self._workers.features
