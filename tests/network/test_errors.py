"""Every way in which a call or an event can fail: an error of its own, sync and async, and an undisturbed worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Door, Process, Processes
from lightbus import (
    BusPath,
    DeformError,
    EventNotFound,
    InvalidEventArguments,
    InvalidName,
    InvalidParameters,
    LightbusTimeout,
    LightbusWorkerError,
    PayloadTooLarge,
    UnknownApi,
    UnknownProcedure,
    ValidationError,
)

PROGRAMS = Path(__file__).parent / "programs"
LIMIT = 500_000
"""Bytes a message may have in these tests."""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the message limit of all processes."""
    file = tmp_path / "bus.json"
    file.write_text(f'{{"network": {{"max_message_size": {LIMIT}}}}}')
    monkeypatch.setenv("LIGHTBUS_CONFIG", str(file))


@pytest.fixture
def worker(processes: Processes, config: None) -> Process:
    """Start the worker whose procedures fail."""
    worker = processes.worker("trouble", cwd=PROGRAMS)
    worker.wait_for_line("Ready")
    return worker


@pytest.fixture
def bus(worker: Process, door: Door) -> Iterator[BusPath]:
    """Return a caller's bus; in the end the worker must still be healthy."""
    bus = lightbus.create(service_name="caller")
    yield bus
    try:
        assert door.call(bus.trouble.add, a=1, b=2) == 3
        assert worker.running
        assert "Task exception was never retrieved" not in worker.output
    finally:
        bus.client.close()


def test_unknown_api_is_refused_with_similar_names(bus: BusPath, door: Door) -> None:
    """The error for an unknown API has similar names, the available APIs, and the discovery that was used."""
    for attempt in (lambda: door.call(bus.troubel.add, a=1), lambda: door.fire(bus.troubel.happened, text="")):
        with pytest.raises(
            UnknownApi,
            match=r"^No peer advertises the API 'troubel'; looked for \d\.\d s "
            r"\(bus 'test-\w+', (zeroconf on \S+ )?sockets in [^ ,]+(, [^ ,]+)*\)\. "
            r"Did you mean 'trouble'\? Advertised are: trouble\. Is its worker running \(lightbus run\)",
        ):
            attempt()


def test_unknown_procedure_is_refused_with_similar_names(bus: BusPath, door: Door) -> None:
    """The error for an unknown procedure has similar names, and the API's procedures."""
    with pytest.raises(UnknownProcedure, match=r"'trouble' has no procedure 'ad'\. Did you mean 'add'\? It has: add, "):
        door.call(bus.trouble.ad, a=1)


def test_inherited_and_private_names_are_no_procedures(bus: BusPath, door: Door) -> None:
    """The members of every Api, and names with an underscore, cannot be called from outside."""
    for name in ("get_event", "get_procedure", "meta", "_names", "__init__"):
        with pytest.raises(UnknownProcedure, match=f"has no procedure '{name}'"):
            door.call(_Named(bus, "trouble", name), name="happened")


def test_unknown_event_is_refused_with_similar_names(bus: BusPath, door: Door) -> None:
    """The error for an unknown event has similar names; the same for a procedure that is fired."""
    with pytest.raises(EventNotFound, match=r"has no event 'happend'\. Did you mean 'happened'\? Its events are: "):
        door.fire(bus.trouble.happend, text="")
    with pytest.raises(EventNotFound, match=r"trouble\.add is no event: 'add' is a procedure: call it"):
        door.fire(bus.trouble.add, a=1)


def test_event_that_is_called(bus: BusPath, door: Door) -> None:
    """An event is no procedure; the message says how to fire it."""
    with pytest.raises(UnknownProcedure, match=r"'happened' is an event: fire it"):
        door.call(_Named(bus, "trouble", "happened"), text="")


def test_incomplete_path_is_refused_with_its_right_form(bus: BusPath, door: Door) -> None:
    """The error for a path without an API, or without a procedure, shows the right form."""
    with pytest.raises(InvalidName, match=r"^bus\.trouble cannot be called\. Name the API and the procedure: bus\."):
        door.call(bus.trouble, a=1)
    with pytest.raises(InvalidName, match=r"^bus cannot be called"):
        door.call(bus)


def test_positional_arguments_are_refused(bus: BusPath) -> None:
    """Arguments are passed by name; the error shows how."""
    with pytest.raises(InvalidParameters, match=r"given 2 argument\(s\) by position.*bus\.trouble\.add\(name=value\)"):
        bus.trouble.add(1, 2)
    with pytest.raises(InvalidEventArguments, match=r"given 1 argument\(s\) by position"):
        bus.trouble.happened.fire("text")


def test_wrong_arguments_are_named_with_the_peer(bus: BusPath, door: Door) -> None:
    """
    Missing, unknown and wrongly typed arguments are named, with the peer that refused them.

    Its declaration is in the error; later calls are checked against its schema, and are not sent.
    """
    for arguments, problem in (
        ({}, r"needs the argument 'a', which is missing\. It is declared as add\(a: int, b: int = 1\) -> int"),
        ({"a": 1, "bb": 2}, r"has no parameter 'bb'\. Did you mean 'b'\? It has: a, b"),
        ({"a": "x"}, r'a is \'x\', but it is not of type "integer"\.'),
        ({"a": True}, "a is True"),
    ):
        with pytest.raises(InvalidParameters, match=rf"^trouble\.add.*{problem}.*\(says (the schema of )?trouble "):
            door.call(bus.trouble.add, **arguments)


def test_wrong_event_arguments(bus: BusPath, door: Door) -> None:
    """The arguments of an event that is handed off are checked by its publisher."""
    for arguments, problem in (
        ({}, r"needs the argument 'text', which is missing\. It is declared as happened\(text: str\)"),
        ({"text": "", "txt": ""}, r"has no parameter 'txt'\. Did you mean 'text'\?"),
        ({"text": 1}, r'text is 1, but it is not of type "string"'),
    ):
        with pytest.raises(InvalidEventArguments, match=rf"^trouble\.happened.*{problem}"):
            door.fire(bus.trouble.happened, **arguments)


@pytest.mark.parametrize("procedure", ["raises", "raises_async"])
def test_exception_of_a_handler_reaches_the_caller_in_full(bus: BusPath, door: Door, procedure: str) -> None:
    """With its type, arguments, message, traceback and the peer."""
    with pytest.raises(LightbusWorkerError) as caught:
        door.call(getattr(bus.trouble, procedure), kind="value")
    error = caught.value
    assert error.remote_type == "builtins.ValueError"
    assert error.remote_args == ("no account", 7)
    assert error.peer.startswith("trouble ")
    assert f"in {procedure}" in error.trace
    assert error.trace.endswith("ValueError: ('no account', 7)\n")
    first, *rest = str(error).splitlines()
    assert first == f"trouble.{procedure} raised ValueError: ('no account', 7) (raised by {error.peer})"
    assert f"Traceback of the peer {error.peer}:" in rest


@pytest.mark.parametrize("procedure", ["raises", "raises_async"])
def test_handler_raises_a_base_exception(bus: BusPath, door: Door, procedure: str) -> None:
    """SystemExit and others that are no Exception are answered likewise: neither the worker nor the wait ends."""
    for kind, remote_type in {
        "exit": "builtins.SystemExit",
        "interrupt": "builtins.KeyboardInterrupt",
        "odd": "trouble.Odd",
        "cancelled": "asyncio.exceptions.CancelledError",
    }.items():
        with pytest.raises(LightbusWorkerError, match=f"raised {remote_type.rpartition('.')[2]}:") as caught:
            door.call(getattr(bus.trouble, procedure), kind=kind)
        assert caught.value.remote_type == remote_type


@pytest.mark.parametrize("procedure", ["raises", "raises_async"])
def test_exception_that_cannot_be_sent(bus: BusPath, door: Door, procedure: str) -> None:
    """Whatever an exception contains, and however it is shown, its caller gets an error."""
    raises = getattr(bus.trouble, procedure)
    with pytest.raises(LightbusWorkerError) as unserialisable:
        door.call(raises, kind="unserialisable")
    assert unserialisable.value.remote_args[::2] == ("overdrawn", 7)
    assert unserialisable.value.remote_args[1].startswith("<object object at")
    assert unserialisable.value.remote_args[3] == "<repr() of a NoRepr raised ValueError>"
    with pytest.raises(LightbusWorkerError, match=r"raised NoWords: <str\(\) of a NoWords raised ValueError>"):
        door.call(raises, kind="no_words")
    with pytest.raises(LightbusWorkerError, match=r"raised FileNotFoundError: .*caf\\udce9") as bad_text:
        door.call(raises, kind="bad_text")
    assert bad_text.value.remote_args == (2, "No such file or directory")
    with pytest.raises(LightbusWorkerError, match="xxx") as long:
        door.call(raises, kind="long")
    assert len(str(long.value)) < LIMIT


def test_handler_raises_an_error_of_lightbus(bus: BusPath, door: Door) -> None:
    """An error of the handler's own calls is the handler's: the caller's arguments were not wrong."""
    with pytest.raises(LightbusWorkerError, match="own call had wrong arguments") as caught:
        door.call(bus.trouble.raises, kind="own")
    assert caught.value.remote_type == "lightbus.exceptions.InvalidParameters"


@pytest.mark.parametrize("procedure", ["sleeps", "sleeps_async"])
def test_timeout_says_what_may_have_happened(bus: BusPath, door: Door, procedure: str) -> None:
    """A call that takes too long ends in time, and the error says what may have happened and what to do."""
    bus.client.wait_for_apis("trouble")
    with pytest.raises(LightbusTimeout, match=r"^trouble \w+… on host \S+ did not answer trouble\.sleeps.* may or may"):
        door.call(getattr(bus.trouble, procedure), seconds=2, bus_options={"timeout": 0.2})
    with pytest.raises(TimeoutError):
        door.call(getattr(bus.trouble, procedure), seconds=2, bus_options={"timeout": 0.2})


def test_wrong_option_is_refused(bus: BusPath, door: Door) -> None:
    """A misspelt or senseless option is an error, and not ignored."""
    for options, problem in (
        ({"timeut": 3}, r"has no option 'timeut'\. Did you mean 'timeout'\?"),
        ({"timeout": "3"}, r"timeout is '3'\. It is a positive number of seconds"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": True}, "timeout is True"),
    ):
        with pytest.raises(InvalidParameters, match=rf"^bus_options of .*{problem}"):
            door.call(bus.trouble.add, a=1, bus_options=options)
        with pytest.raises(InvalidParameters, match=rf"^bus_options of .*{problem}"):
            door.fire(bus.trouble.happened, text="", bus_options=options)


def test_unserialisable_argument_is_named_with_its_place(bus: BusPath, door: Door) -> None:
    """A value that cannot be sent is named with its place in the arguments."""
    data = [1, {"key": object()}]
    with pytest.raises(DeformError, match=r"^The arguments of trouble\.size cannot be sent: .*data\[1\]\.key is .*obj"):
        door.call(bus.trouble.size, data=data)
    with pytest.raises(DeformError, match=r"^The arguments of trouble\.anything cannot be sent: .*value\[1\]\.key is "):
        door.fire(bus.trouble.anything, value=data)


def test_unserialisable_result_is_an_error_of_the_procedure(bus: BusPath, door: Door) -> None:
    """A result that cannot be sent is an error of the procedure, not a timeout."""
    with pytest.raises(DeformError, match=r"^The result of trouble\.gives_object cannot be sent: .*items\[1\] is "):
        door.call(bus.trouble.gives_object)


def test_undeclared_result_is_refused_by_the_worker(bus: BusPath, door: Door) -> None:
    """A result that does not match the declaration is refused by the worker."""
    with pytest.raises(ValidationError, match=r"gives_wrong: the result is 'seven', .* declared as gives_wrong\(\) ->"):
        door.call(bus.trouble.gives_wrong)


def test_payload_over_the_limit(bus: BusPath, door: Door) -> None:
    """Arguments, results and events over the limit are refused before they are sent, with sizes and the setting."""
    size = r"\d{6} bytes; a message may have 500000\."
    with pytest.raises(PayloadTooLarge, match=rf"^The arguments of trouble\.size take {size}.*max_message_size"):
        door.call(bus.trouble.size, data=b"x" * LIMIT)
    with pytest.raises(PayloadTooLarge, match=rf"^The result of trouble\.large takes {size}.*max_message_size"):
        door.call(bus.trouble.large, size=LIMIT)
    with pytest.raises(PayloadTooLarge, match=rf"^The arguments of trouble\.anything take {size}"):
        door.fire(bus.trouble.anything, value=b"x" * LIMIT)
    with pytest.raises(LightbusWorkerError, match=rf"PayloadTooLarge: The arguments of trouble\.anything take {size}"):
        door.call(bus.trouble.large_event, size=LIMIT)
    assert len(door.call(bus.trouble.large, size=LIMIT - 1000)) == LIMIT - 1000


def test_reply_over_the_callers_limit(worker: Process, door: Door) -> None:
    """If a caller has a lower limit than the worker, the error comes at once, with both limits."""
    small = lightbus.create({"network": {"max_message_size": 100_000}}, service_name="caller")
    both = r"200\d{3} bytes; the caller takes messages of 100000 \(this process may send 500000\)\. .*max_message_size"
    try:
        with pytest.raises(PayloadTooLarge, match=rf"^The result of trouble\.large takes {both}"):
            door.call(small.trouble.large, size=200_000)
        assert door.call(small.trouble.add, a=1) == 2
        assert len(door.call(small.trouble.large, size=99_000)) == 99_000
    finally:
        small.client.close()


def test_arguments_over_the_workers_limit(worker: Process, door: Door) -> None:
    """If a worker has a lower limit than the caller, the error comes at once, with both limits."""
    large = lightbus.create({"network": {"max_message_size": 2 * LIMIT}}, service_name="caller")
    both = (
        r"take 6\d{5} bytes; .* takes messages of 500000 bytes, and this process may send 1000000\. .*max_message_size"
    )
    try:
        with pytest.raises(PayloadTooLarge, match=rf"^The arguments of trouble\.size {both}"):
            door.call(large.trouble.size, data=b"x" * 600_000)
        with pytest.raises(PayloadTooLarge, match=rf"^The arguments of trouble\.anything {both}"):
            door.fire(large.trouble.anything, value=b"x" * 600_000)
        assert door.call(large.trouble.size, data=b"x" * 400_000) == 400_000
    finally:
        large.client.close()


class _Named:
    """A path by its parts, for names that attribute access refuses, and for calls of events."""

    def __init__(self, bus: BusPath, api: str, name: str) -> None:
        self._client, self._api, self._name = bus.client, api, name

    def __call__(self, **kwargs: Any) -> Any:
        return self._client.call_rpc_blocking(self._api, self._name, kwargs)

    async def call_async(self, **kwargs: Any) -> Any:
        return await self._client.call_rpc_remote(self._api, self._name, kwargs)
