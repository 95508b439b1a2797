"""A worker's view of its client: the parts themselves, and not a snapshot of them."""

from __future__ import annotations

from lightbus import BusPath, Feature


def test_worker_sees_later_declarations(bus: BusPath) -> None:
    """APIs, listeners, schedules and features are the present ones; hooks get the client."""
    client = bus.client
    view = client._lifecycle._view
    bus.auth.user_registered.listen(lambda username: None, listener_name="later")
    client.every(hours=1)(lambda: None)
    client.set_features([Feature.EVENTS])
    assert view.hook_client is client
    assert view.hooks is client.hooks
    assert view.engine is client.engine
    assert (view.api_registry, view.schema) == (client.api_registry, client.schema)
    assert [listener.name for listener in view.listeners] == ["later"]
    assert len(view.timetables) == 1
    assert view.features == (Feature.EVENTS,)


async def _beside() -> None: ...


def test_background_tasks_are_taken_once(bus: BusPath) -> None:
    """A coroutine runs once, in the worker that takes it."""
    view = bus.client._lifecycle._view
    coroutine = _beside()
    bus.client.add_background_task(coroutine)
    assert view.take_background_tasks() == [coroutine]
    assert view.take_background_tasks() == []
    coroutine.close()
