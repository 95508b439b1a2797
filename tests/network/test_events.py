"""Events between processes: which listener gets which, in which form, from when on, and the effect of failures."""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Door, Process, Processes, scaled, wait_until, wait_until_async
from helpers.surroundings import Surroundings
from lightbus import Api, BusPath, Event, EventMessage, Parameter

PROGRAMS = Path(__file__).parent / "programs"

RATE = 1000
"""Events a second of the stream that listeners join."""

JOINS = 200
SCRIPTS = 100
SUBSCRIPTIONS = 5000


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a bus that only fires and calls."""
    bus = lightbus.create(service_name="caller")
    yield bus
    bus.client.close()


@pytest.fixture
def publish(processes: Processes) -> Callable[[], Process]:
    """Return a function that starts a publisher."""

    def start() -> Process:
        process = processes.worker("stream", cwd=PROGRAMS)
        process.wait_for_line("Ready")
        return process

    return start


@pytest.fixture
def listen(processes: Processes) -> Callable[..., Process]:
    """Return a function that starts a listener, and waits until it is live at this many publishers."""

    def start(api: str = "heard", *, publishers: int = 1) -> Process:
        process = processes.worker("heard", cwd=PROGRAMS, env={"API": api})
        wait_until_live(process, publishers)
        return process

    return start


def wait_until_live(process: Process, publishers: int) -> None:
    """Return when the events of this many publishers arrive in a process."""
    process.wait_for_line("Ready")
    wait_until(
        lambda: len(set(re.findall(r"Events of (\S+ \S+) .*arrive", process.output))) == publishers,
        what=f"{process} hears {publishers} publishers",
    )


def by(door: Door, path: BusPath, listener: str, count: int) -> list[Any]:
    """Return the events of a listener, once it has `count` events."""
    return wait_until(
        lambda: found if len(found := door.call(path.by, listener=listener)) >= count else None,
        what=f"{listener} heard {count} events",
    )


def test_each_process_gets_each_event_once(
    publish: Callable[[], Process], listen: Callable[..., Process], bus: BusPath, door: Door
) -> None:
    """Two listening processes get all events of two publishers, their handlers and a third process, once."""
    first, second = publish(), publish()
    for api in ("here", "there"):
        listen(api, publishers=2)
    each = scaled(1000, least=50)
    wait_until(lambda: {door.call(bus.stream.who) for _ in range(10)} == {first.pid, second.pid})
    fired = [door.fire(bus.stream.ticked, number=number) for number in range(each)]
    for number, peer in enumerate(bus.client.engine.snapshot.by_api["stream"]):
        for kind, procedure in enumerate((bus.stream.fire_each, bus.stream.fire_each_def)):
            start = (1 + 2 * number + kind) * each
            arguments = [{"number": start + count} for count in range(each)]
            door.call(_at(procedure, peer.instance), event="ticked", arguments=arguments)
    assert len({message.id for message in fired}) == each
    assert {message.publisher for message in fired} <= set(bus.client.engine.snapshot.peers)
    for path in (bus.here, bus.there):
        for listener in ("with_message", "asynchronous"):
            heard = by(door, path, listener, 5 * each)
            assert sorted(number for _, number in heard) == list(range(5 * each))
        assert len(by(door, path, "arguments_only", 5 * each)) == 5 * each


def test_joining_a_stream_leaves_no_gap(publish: Callable[[], Process], bus: BusPath) -> None:
    """A listener that joins a stream of 1,000 events/s gets every one from its marker on, at every join."""
    publish()
    bus.stream.start(rate=RATE)
    joins = scaled(JOINS)
    gaps = [gap for _ in range(joins) if (gap := asyncio.run(_join())) is not None]
    print(f"joins without a gap: {joins - len(gaps)} of {joins}")
    assert not gaps


async def _join() -> str | None:
    """Join the stream again; return its missing events, or None."""
    bus = lightbus.create(service_name="joiner")
    heard: list[int] = []

    async def hear(message: EventMessage, number: int) -> None:
        heard.append(number)

    await bus.client.wait_for_apis_async("stream")
    bus.stream.ticked.listen(hear, group=None)
    await bus.client.start_worker()  # returns when the marker was seen
    try:
        from_here = await bus.stream.number.call_async()
        owed = range(from_here + 1, from_here + RATE // 20)
        await wait_until_async(lambda: heard and max(heard) > owed[-1] + RATE // 20, what="the stream goes on")
    finally:
        await bus.client.close_async()
    missing = sorted(set(owed) - set(heard))
    if not missing and len(set(heard)) == len(heard):
        return None
    return f"marker before {from_here}, heard {min(heard)} to {max(heard)}, {len(heard)} in all, without {missing[:10]}"


def test_thousands_of_subscriptions_are_in_force(surroundings: Surroundings) -> None:
    """All of 5,000 subscriptions at one publisher: none is dropped by the sockets."""
    apis = [_many_events(f"api_{number}", scaled(SUBSCRIPTIONS) // 10) for number in range(10)]
    names = [(api.meta.name, event) for api in apis for event in api.events]
    heard: Counter[tuple[str, str]] = Counter()

    def hear(message: EventMessage) -> None:
        heard[message.api_name, message.event_name] += 1

    async def main() -> None:
        publisher, listener = lightbus.create(service_name="publisher"), lightbus.create(service_name="listener")
        try:
            for api in apis:
                publisher.client.register_api(api)
            await publisher.client.start_worker()
            for api_name, event in names:
                listener.client.listen_for_event(api_name, event, hear, listener_name=event)
            await listener.client.wait_for_apis_async(*(api.meta.name for api in apis))
            await listener.client.start_worker()
            for api_name, event in names:
                await publisher.client.fire_event(api_name, event, {"number": 1})
            await wait_until_async(lambda: heard.total() >= len(names), 30, what="all were heard")
        finally:
            await listener.client.close_async()
            await publisher.client.close_async()

    asyncio.run(main())
    print(f"subscriptions that count: {len(heard)} of {len(names)}")
    assert heard == dict.fromkeys(names, 1)


def _many_events(name: str, count: int) -> Api:
    events = {f"event_{number}": Event([Parameter("number", int)]) for number in range(count)}
    made: type[Api] = type(name, (Api,), {"Meta": type("Meta", (), {"name": name}), **events})
    return made()


def test_scripts_that_only_fire(
    publish: Callable[[], Process], listen: Callable[..., Process], processes: Processes, bus: BusPath
) -> None:
    """A script that fires one event and exits at once has handed it off: 100 scripts, 100 events."""
    publish()
    listen()
    scripts = scaled(SCRIPTS)
    for number in range(scripts):
        script = processes.python("register_user.py", str(number), cwd=PROGRAMS, name=f"script-{number}")
        assert script.wait() == 0
        assert script.output == ""
    heard = wait_until(lambda: found if len(found := bus.heard.by(listener="with_message")) >= scripts else None)
    print(f"events of scripts delivered: {len(heard)} of {scripts}")
    assert sorted(number for _, number in heard) == list(range(scripts))


def test_forms_of_listeners(
    publish: Callable[[], Process], listen: Callable[..., Process], bus: BusPath, door: Door
) -> None:
    """A listener gets the message first, or only arguments by name, some or all, with defaults filled in."""
    publish()
    listen()
    fired = door.fire(bus.stream.painted, what="door", colour="green")
    arguments = {"what": "door", "colour": "green", "coats": []}  # a default, which this process does not know
    expected: dict[str, list[Any]] = {
        "message_only": ["stream.painted", arguments],
        "nothing_at_all": [],
        "some": ["door"],
        "everything": [arguments],
        "only_kwargs": [arguments],
        "positional": [1, arguments],
        "keyword_only": ["door", "green"],
        "method": ["door"],
        "called": ["door"],
        "any_event": ["painted"],
    }
    for listener, what in expected.items():
        assert by(door, bus.heard, listener, 1) == [what], listener
    described = [fired.id, fired.native_id, "stream", "painted", "painted", 3, 1, False, True, fired.publisher]
    assert by(door, bus.heard, "described", 1) == [described]


def test_listeners_are_independent(
    publish: Callable[[], Process], listen: Callable[..., Process], bus: BusPath, door: Door
) -> None:
    """A listener that changes its arguments changes only its own copy; a default is new for each event."""
    publish()
    listen()
    for _ in range(2):
        door.fire(bus.stream.painted, what="door")
    door.fire(bus.stream.painted, what="door", coats=["first"])
    assert by(door, bus.heard, "changes", 3) == [[["changed"]], [["changed"]], [["first", "changed"]]]
    assert by(door, bus.heard, "changes_too", 3)[-1] == [["first", "changed too"]]


def test_arguments_are_cast(
    publish: Callable[[], Process], listen: Callable[..., Process], bus: BusPath, door: Door
) -> None:
    """A listener gets the annotated types; an event that cannot be cast is a separate error."""
    publish()
    worker = listen()
    door.fire(bus.stream.anything, value={"what": "door", "colour": "green"})
    door.fire(bus.stream.anything, value={"what": "door"})
    door.fire(bus.stream.anything, value={"what": "wall", "colour": "white"})
    assert by(door, bus.heard, "cast", 2) == [["Paint", "door"], ["Paint", "wall"]]
    worker.wait_for_line(r"is not delivered to the listener heard\.cast: stream\.heard\.cast: value\.colour ")


def test_events_fired_from_listeners(
    publish: Callable[[], Process], listen: Callable[..., Process], bus: BusPath, door: Door
) -> None:
    """A listener, `def` or `async def`, may call and fire; events of several kinds do not delay each other."""
    worker = publish()
    listen()
    for number in range(1, 6):
        door.fire(bus.stream.anything, value=number, call=True)
    assert by(door, bus.heard, "calls_back", 5) == [[worker.pid]] * 5
    assert by(door, bus.heard, "calls_back_async", 5) == [[worker.pid]] * 5
    heard = by(door, bus.heard, "arguments_only", 10)
    assert sorted(number for [number] in heard) == [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]


def test_events_of_a_key_stay_in_order(
    publish: Callable[[], Process], listen: Callable[..., Process], bus: BusPath, door: Door
) -> None:
    """With `Event(key=...)` the events of one key arrive in the order of firing, on any path."""
    first, second = publish(), publish()
    wait_until(lambda: {door.call(bus.stream.who) for _ in range(10)} == {first.pid, second.pid})
    listen(publishers=2)
    keys, each = [f"key {number}" for number in range(8)], scaled(200)
    for number in range(each):
        for key in keys:
            door.fire(bus.stream.keyed, key=key, number=number)
    heard = by(door, bus.heard, "in_order", each * len(keys))
    for key in keys:
        assert [number for other, number in heard if other == key] == list(range(each))


def test_events_without_a_key_stay_in_order(
    publish: Callable[[], Process], listen: Callable[..., Process], bus: BusPath, door: Door
) -> None:
    """A single listening process gets them in the order of firing: in bulk, one by one, handed off, or after a gap."""
    publish()
    count = scaled(1000)
    numbers = list(range(2 * count))
    listener = listen()
    door.call(bus.stream.fire_each, event="ticked", arguments=[{"number": n} for n in numbers[:count]])
    listeners = ("asynchronous", "with_message", "arguments_only")
    for name in listeners:
        assert [number for *_, number in by(door, bus.heard, name, count)] == numbers[:count]
    listener.signal(signal.SIGTERM)
    assert listener.wait() == 0
    for number in numbers[count : count + 50]:
        door.fire(bus.stream.ticked, number=number)
    door.call(bus.stream.fire_each_def, event="ticked", arguments=[{"number": n} for n in numbers[count + 50 :]])
    listen()
    for name in listeners:
        assert [number for *_, number in by(door, bus.heard, name, count)] == numbers[count:]


def test_best_effort_events(
    publish: Callable[[], Process], listen: Callable[..., Process], bus: BusPath, door: Door
) -> None:
    """An event with delivery="best_effort" reaches connected listeners."""
    publish()
    listen()
    for number in range(10):
        door.fire(bus.stream.loose, number=number)
    assert sorted(by(door, bus.heard, "loosely", 10)) == [[number] for number in range(10)]


def test_listening_after_the_start(
    publish: Callable[[], Process], listen: Callable[..., Process], bus: BusPath, door: Door
) -> None:
    """A listener added to a running worker gets later events, also of an event that has a listener already."""
    publish()
    worker = listen()
    door.fire(bus.stream.ticked, number=1)
    by(door, bus.heard, "with_message", 1)
    for event in ("ticked", "loose", "*"):
        listener = f"late {event}"
        door.call(bus.heard.listen_now, event=event, listener=listener)
        message = door.fire(bus.stream.loose if event == "loose" else bus.stream.ticked, number=2)
        assert by(door, bus.heard, listener, 1) == [[message.id]]
    assert worker.running


def test_publisher_that_starts_later(
    publish: Callable[[], Process], processes: Processes, bus: BusPath, door: Door
) -> None:
    """A listener may start before its publishers, and finds each of them."""
    worker = processes.worker("heard", cwd=PROGRAMS)
    worker.wait_for_line("Ready")
    for count in (1, 2):
        publisher = publish()
        wait_until_live(worker, count)
        wait_until(lambda pid=publisher.pid: door.call(bus.stream.who) == pid)
        peers = bus.client.engine.snapshot.by_api["stream"]
        for number, peer in enumerate(peers):
            door.call(_at(bus.stream.fire_each, peer.instance), event="ticked", arguments=[{"number": number}])
        by(door, bus.heard, "with_message", 2 * count - 1)
    assert [number for _, number in by(door, bus.heard, "with_message", 3)][1:] in ([0, 1], [1, 0])


@pytest.fixture(params=["def", "async def"])
def fragile(request: pytest.FixtureRequest, processes: Processes) -> Callable[..., Process]:
    """Return a function that starts a worker whose listeners fail at negative numbers."""

    def start(policy: str = "", **environment: str) -> Process:
        kind = {"ASYNC": "1"} if request.param == "async def" else {}
        env = {**({"POLICY": policy} if policy else {}), **kind, **environment}
        process = processes.worker("fragile", cwd=PROGRAMS, env=env)
        process.wait_for_line("Ready")
        return process

    return start


def test_failing_listener_stops_alone(fragile: Callable[..., Process], bus: BusPath, door: Door) -> None:
    """By default a listener that fails in all deliveries stops; its worker continues, logs it, and exits with 1."""
    worker = fragile(MAX_DELIVERIES="2")
    door.fire(bus.fragile.dropped, number=-1)
    worker.wait_for_line(r"The listener handler of fragile\.dropped has stopped, since its handler failed: ValueError")
    door.fire(bus.fragile.dropped, number=1)
    wait_until(lambda: door.call(bus.fragile.heard_by_another) == [-1, 1])
    assert door.call(bus.fragile.heard) == []
    [instance] = [peer.instance for peer in bus.client.engine.snapshot.by_api["fragile"]]
    told = _at(bus.internal.peer.health, instance)
    assert [text for text in door.call(told)["problems"] if "has stopped" in text]
    stats = door.call(_at(bus.internal.peer.stats, instance))
    assert {each["name"]: each["stopped"] for each in stats["listeners"]} == {
        "handler": "ValueError: dropped on the floor", "another": None
    }  # fmt: skip
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1


def test_failing_listener_stops_the_worker(fragile: Callable[..., Process], bus: BusPath) -> None:
    """With SHUTDOWN, as in 1.x, a failing listener stops its worker, with exit code 1 and the reason in the log."""
    worker = fragile("SHUTDOWN")
    bus.fragile.dropped(number=1)
    wait_until(lambda: bus.fragile.heard() == [[1, 1, False]])
    bus.fragile.dropped(number=-1)
    assert worker.wait() == 1
    assert "ValueError: dropped on the floor" in worker.stderr
    worker.wait_for_line(r"The worker stops, since the listener handler failed and its on_error is SHUTDOWN")


def test_failing_listener_continues(fragile: Callable[..., Process], bus: BusPath, door: Door) -> None:
    """With ACKNOWLEDGE_AND_LOG a failure of any kind is logged, and the next event is handled."""
    worker = fragile("ACKNOWLEDGE_AND_LOG")
    for number in (1, -1, -3, -4, 2):
        door.fire(bus.fragile.dropped, number=number)
    wait_until(lambda: sorted(door.call(bus.fragile.heard)) == [[1, 1, False], [2, 1, False]])
    for problem in ("ValueError: dropped on the floor", "handler raised SystemExit: 3", "handler raised Odd"):
        worker.wait_for_line(problem)
    assert worker.running


def test_failing_listener_retries(fragile: Callable[..., Process], bus: BusPath, door: Door) -> None:
    """With RETRY the event is handled again after a pause, and is marked as a redelivery."""
    worker = fragile("RETRY")
    door.fire(bus.fragile.dropped, number=-2)
    wait_until(lambda: door.call(bus.fragile.heard) == [[-2, 3, True]], 8)
    assert worker.stderr.count("The listener handler failed on") == 2


def test_incoming_events_are_validated(
    fragile: Callable[..., Process], bus: BusPath, door: Door, tmp_path: Path
) -> None:
    """An invalid event is an error in the listener's process, with the declaration."""
    config = tmp_path / "careless.yaml"
    config.write_text("apis: {default: {validate: {outgoing: false}}}")
    worker = fragile("ACKNOWLEDGE_AND_LOG", LIGHTBUS_CONFIG=str(config))
    door.call(bus.fragile.drop, number="seven")
    worker.wait_for_line(
        r"delivered to the listener handler: fragile\.dropped: number is 'seven', .* declared as dropped\(number: int\)"
    )
    door.call(bus.fragile.drop, number=7)
    wait_until(lambda: door.call(bus.fragile.heard) == [[7, 1, False]])


def test_outgoing_events_are_validated(fragile: Callable[..., Process], bus: BusPath, door: Door) -> None:
    """A worker does not fire an event that does not match its declaration."""
    fragile("SHUTDOWN")
    with pytest.raises(lightbus.LightbusWorkerError, match=r"ValidationError: fragile\.dropped: number is 'seven'"):
        door.call(bus.fragile.drop, number="seven")
    assert door.call(bus.fragile.heard) == []


def _at(path: BusPath, instance: str) -> Any:
    """Return a path whose calls go to one given peer."""

    class At:
        def __call__(self, **kwargs: Any) -> Any:
            return path(**kwargs, bus_options={"peer": instance})

        async def call_async(self, **kwargs: Any) -> Any:
            return await path.call_async(**kwargs, bus_options={"peer": instance})

    return At()
