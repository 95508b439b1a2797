from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import InvalidDeclaration
from lightbus.service.hooks import HOOKS, HookRegistry, decorator

CLIENT, CALL, RESULT = object(), object(), object()


async def call(function: Callable[..., Any], args: Any, kwargs: Any, /, *, on_loop: bool) -> Any:
    """Call a function like the runtime does, in a thread if it may block."""
    value = function(*args, **kwargs) if on_loop else await asyncio.to_thread(function, *args, **kwargs)
    return await value if inspect.isawaitable(value) else value


def call_blocking(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Do the same in this thread."""
    value = function(*args, **kwargs)
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def run(registry: HookRegistry, name: str, **details: Any) -> None:
    asyncio.run(registry.run(name, call, **details))


def run_blocking(registry: HookRegistry, name: str, **details: Any) -> None:
    registry.run_blocking(name, call_blocking, **details)


both_doors = pytest.mark.parametrize("door", [run, run_blocking])


def after_rpc_call(door: Callable[..., None], function: Callable[..., Any]) -> None:
    """Register a function, and run its hook with all arguments."""
    registry = HookRegistry()
    registry.add("after_rpc_call", function)
    door(registry, "after_rpc_call", client=CLIENT, rpc_message=CALL, result_message=RESULT)


def recorder(told: list[Any], form: str) -> Callable[..., Any]:
    """Return a hook function of this form, which records its arguments."""

    def no_argument() -> None:
        told.append({})

    def client(client: Any) -> None:
        told.append({"client": client})

    def some(*, result_message: Any, client: Any, own: int = 5) -> None:
        told.append({"client": client, "result_message": result_message})

    def everything(**details: Any) -> None:
        told.append(details)

    def client_and_rest(client: Any, *args: Any, **rest: Any) -> None:
        told.append({"client": client, "args": args, **rest})

    async def asynchronous(rpc_message: Any) -> None:
        await asyncio.sleep(0)
        told.append({"rpc_message": rpc_message})

    class Instance:
        def __call__(self, client: Any) -> None:
            told.append({"client": client})

        async def method(self, client: Any) -> None:
            told.append({"client": client})

    class AsyncCallable:
        async def __call__(self, client: Any) -> None:
            told.append({"client": client})

    return {
        "no_argument": no_argument,
        "client": client,
        "some": some,
        "everything": everything,
        "client_and_rest": client_and_rest,
        "asynchronous": asynchronous,
        "object": Instance(),
        "async_object": AsyncCallable(),
        "method": Instance().method,
        "partial": functools.partial(some, own=6),
        "async_partial": functools.partial(asynchronous),
        "lambda_around_async": lambda rpc_message: asynchronous(rpc_message),
    }[form]


@both_doors
@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("no_argument", {}),
        ("client", {"client": CLIENT}),
        ("some", {"client": CLIENT, "result_message": RESULT}),
        ("everything", {"client": CLIENT, "rpc_message": CALL, "result_message": RESULT}),
        ("client_and_rest", {"client": CLIENT, "args": (), "rpc_message": CALL, "result_message": RESULT}),
        ("asynchronous", {"rpc_message": CALL}),
        ("object", {"client": CLIENT}),
        ("async_object", {"client": CLIENT}),
        ("method", {"client": CLIENT}),
        ("partial", {"client": CLIENT, "result_message": RESULT}),
        ("async_partial", {"rpc_message": CALL}),
        ("lambda_around_async", {"rpc_message": CALL}),
    ],
)
def test_hook_gets_the_arguments_it_names(door: Callable[..., None], form: str, told: dict[str, Any]) -> None:
    """For any form of hook, sync or async, from sync and from async code."""
    notes: list[Any] = []
    after_rpc_call(door, recorder(notes, form))
    assert notes == [told]


@both_doors
def test_hook_without_signature_gets_no_arguments(door: Callable[..., None]) -> None:
    """A C function without a signature is called without arguments."""
    with pytest.raises(TypeError, match="expected at least 1 argument, got 0"):
        after_rpc_call(door, max)


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (lambda bus_client: None, "bus_client"),
        (lambda client, result_message: None, "result_message"),
        (lambda client, /: None, "client"),
        (lambda *, other: None, "other"),
    ],
)
def test_hook_with_unknown_arguments_is_refused(function: Callable[..., Any], argument: str) -> None:
    """At registration, and not at the first message."""
    with pytest.raises(InvalidDeclaration) as caught:
        HookRegistry().add("before_rpc_call", function)
    assert f"wants an argument '{argument}', which it will not be given." in str(caught.value)
    assert str(caught.value).endswith("this hook is told: client, rpc_message.")


def test_unknown_hook_is_refused() -> None:
    """With similar names."""
    with pytest.raises(InvalidDeclaration, match=r"There is no hook 'on_strat'\. Did you mean 'on_start'"):
        HookRegistry().add("on_strat", print)


def test_uncallable_hook_is_refused() -> None:
    """At registration."""
    with pytest.raises(InvalidDeclaration, match="The on_start hook must be a function, not str"):
        HookRegistry().add("on_start", "print")  # type: ignore[arg-type]


def test_a_generator_is_refused() -> None:
    """Calling it would not run it, so it is refused at registration."""

    async def on_start() -> Any:
        yield 1

    with pytest.raises(InvalidDeclaration, match="has a `yield` in it, so that calling it runs nothing of it"):
        HookRegistry().add("on_start", on_start)


def test_hooks_are_those_of_the_documents() -> None:
    """Those of Lightbus 1.x, four of a worker's life and a pair around each of four subjects; and some further ones."""
    things = ["rpc_call", "rpc_execution", "event_sent", "event_execution"]
    pairs = {f"{when}_{what}" for when in ("before", "after") for what in things}
    ours = {"after_worker_started", "on_events_lost"} | {f"around_{what}" for what in things}
    assert set(HOOKS) == {"on_start", "on_stop", "before_worker_start", "after_worker_stopped"} | pairs | ours
    assert all(details[0] == "client" for details in HOOKS.values())


@both_doors
def test_hooks_run_in_order_of_plugins_and_adding(door: Callable[..., None]) -> None:
    """First those before plugins, then plugins by priority, then the rest; each in the order of adding."""
    registry, order = HookRegistry(), list[str]()

    def note(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    registry.add("on_start", note("first"))
    registry.add_for_plugin("on_start", note("late plugin"), priority=1000)
    registry.add("on_start", note("second"))
    registry.add("on_start", note("before 1"), before_plugins=True)
    registry.add_for_plugin("on_start", note("early plugin"), priority=-1)
    registry.add("on_start", note("before 2"), before_plugins=True)
    door(registry, "on_start", client=CLIENT)
    assert order == ["before 1", "before 2", "early plugin", "late plugin", "first", "second"]


@given(st.lists(st.sampled_from(["before", "after"]) | st.integers()))
def test_any_order_of_adding(places: list[str | int]) -> None:
    """In any order of adding, functions are ordered by place, and within a place by adding."""
    registry = HookRegistry()
    added = [(place, (lambda: None)) for place in places]
    for place, function in added:
        if isinstance(place, int):
            registry.add_for_plugin("on_stop", function, priority=place)
        else:
            registry.add("on_stop", function, before_plugins=place == "before")

    def rank(entry: tuple[str | int, Any]) -> tuple[int, int]:
        return {"before": (0, 0), "after": (2, 0)}.get(str(entry[0])) or (1, int(entry[0]))

    assert registry.functions("on_stop") == tuple(function for _, function in sorted(added, key=rank))


def test_has_says_whether_a_hook_has_functions() -> None:
    """From the first added function until the last is removed."""
    registry = HookRegistry()
    assert not registry.has("on_start")
    registry.add("on_start", print)
    assert registry.has("on_start")
    assert not registry.has("on_stop")
    registry.remove("on_start", print)
    assert not registry.has("on_start")
    assert registry.functions("on_start") == ()


def test_remove_takes_only_that_function() -> None:
    """Removing one function leaves the others."""
    registry = HookRegistry()
    registry.add("on_start", print)
    registry.add("on_start", dict)
    registry.remove("on_start", print)
    assert registry.functions("on_start") == (dict,)


def test_remove_of_an_unknown_function() -> None:
    """It is an error."""
    with pytest.raises(InvalidDeclaration, match=r"print\(\) is not registered as on_start hook"):
        HookRegistry().remove("on_start", print)


@both_doors
def test_hook_without_functions_does_nothing(door: Callable[..., None]) -> None:
    """Running a hook without registered functions is no error."""
    door(HookRegistry(), "on_start", client=CLIENT)


@both_doors
@pytest.mark.parametrize("asynchronous", [False, True])
def test_exception_reaches_the_runner_of_a_hook(door: Callable[..., None], asynchronous: bool) -> None:
    """It is not caught, and the functions after it are not called."""
    registry, called = HookRegistry(), list[str]()

    def refuse() -> None:
        raise ValueError("not today")

    async def refuse_async() -> None:
        refuse()

    registry.add("before_rpc_call", refuse_async if asynchronous else refuse)
    registry.add("before_rpc_call", lambda: called.append("second"))
    with pytest.raises(ValueError, match="not today"):
        door(registry, "before_rpc_call", client=CLIENT, rpc_message=CALL)
    assert called == []


def test_async_function_runs_on_the_loop_and_sync_one_where_told() -> None:
    """`async def` hooks run on the loop; `def` hooks in the given way, so that they may block."""
    registry, threads = HookRegistry(), list[bool]()

    def sync() -> None:
        threads.append(threading.current_thread() is threading.main_thread())

    async def asynchronous() -> None:
        sync()

    registry.add("on_start", sync)
    registry.add("on_start", asynchronous)
    run(registry, "on_start", client=CLIENT)
    assert threads == [False, True]


def test_function_may_remove_itself_while_it_runs() -> None:
    """A run in progress uses the functions it started with."""
    registry, called = HookRegistry(), list[str]()

    def once() -> None:
        called.append("once")
        registry.remove("on_start", once)

    registry.add("on_start", once)
    registry.add("on_start", lambda: called.append("always"))
    run_blocking(registry, "on_start", client=CLIENT)
    run_blocking(registry, "on_start", client=CLIENT)
    assert called == ["once", "always", "always"]


def test_registration_from_many_threads() -> None:
    """Functions added by several threads at once are all registered."""
    registry, start = HookRegistry(), threading.Barrier(8)

    def add() -> None:
        start.wait()
        for _ in range(50):
            registry.add("on_start", lambda: None)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.functions("on_start")) == 400


def decorated(form: str, registry: HookRegistry) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a function, and the result of decorating it in this form."""
    hook = decorator(registry, "on_start")

    def function() -> None: ...

    result: Callable[..., Any] = {
        "@hook": lambda: hook(function),
        "@hook()": lambda: hook()(function),
        "@hook(before_plugins=True)": lambda: hook(before_plugins=True)(function),
        "hook(function, before_plugins=True)": lambda: hook(function, before_plugins=True),
    }[form]()
    return function, result


@pytest.mark.parametrize(
    ("form", "before_plugins"),
    [
        ("@hook", False),
        ("@hook()", False),
        ("@hook(before_plugins=True)", True),
        ("hook(function, before_plugins=True)", True),
    ],
)
def test_decorator_returns_the_function(form: str, before_plugins: bool) -> None:
    """Every form of the decorator registers the function and returns it unchanged."""
    registry = HookRegistry()
    registry.add_for_plugin("on_start", print, priority=0)
    function, result = decorated(form, registry)
    assert result is function
    assert registry.functions("on_start") == ((function, print) if before_plugins else (print, function))


def test_decorator_is_named_after_its_hook() -> None:
    """The decorator shows its name in a traceback and in `help()`."""
    assert "on_start" in repr(decorator(HookRegistry(), "on_start"))
