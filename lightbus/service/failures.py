"""Describing exceptions of the user's code, for callers and the log. Nothing here raises.

An exception may have a `__str__`, `args` or a class that raise, text that is not UTF-8, or arguments too large for a
message. The caller gets as much of it as possible.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import traceback
from collections import deque
from collections.abc import Coroutine
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from ..exceptions import LightbusException, LightbusWorkerError
from ..phrases import class_name, safely
from ..wire import codec, envelope
from ..wire.envelope import Error
from .forks import FORKS, end_child, ended_in_child

__all__ = [
    "MAX_TRACE",
    "as_exception",
    "describe",
    "encode_error",
    "is_a",
    "report",
    "run_through",
    "shorten",
    "show",
    "trace_of",
]

logger = logging.getLogger("lightbus.worker")

MAX_TEXT = 20_000
MAX_TRACE = 100_000
MAX_ARG = 1_000
MAX_ARGS = 50
"""The limits of an exception in an answer: characters, and number of `args`."""

MAX_STOPS = 100
"""How often in a second the user's code may stop a worker's loop before the worker ends."""

PACKAGE = Path(__file__).parents[1]
OURS = tuple(str(PACKAGE / name) for name in ("rpc", "events", "engine", "service", "client", "cli", "scheduling.py"))
"""The files of our code that calls the user's."""

LOOP_FILES = (
    *(str(Path(asyncio.__file__).parents[1] / name) for name in ("asyncio", "concurrent")),
    "uvloop/",  # as it names its own files
)
"""The files of the event loops, which run between our code and the user's."""


def is_a(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether an exception is of a class. `isinstance` would use its `__class__`, which may be anything."""
    return issubclass(type(error), kind)


def show(error: BaseException) -> str:
    """Return an exception as text: `"ValueError: too late"`."""
    text = safely(str, error)[:MAX_TEXT]
    return f"{class_name(error)}: {text}" if text else class_name(error)


def as_exception(what: str, error: BaseException) -> Exception:
    """
    Return an exception of the user's code as an Exception.

    SystemExit, a CancelledError raised by the user's code and the like must not end the process or our tasks.
    """
    if is_a(error, Exception) and not is_a(error, StopIteration):
        return cast(Exception, error)
    made = RuntimeError(f"{what} raised {show(error)}")
    shorten(error)
    made.__cause__ = error
    return made


def report(logger: logging.Logger, level: int, error: BaseException, text: str, *args: Any) -> None:
    """Log an exception with the traceback of the user's code."""
    shorten(error)
    try:
        if _is_readable(error):
            logger.log(level, text, *args, exc_info=(type(error), error, _traceback(error)))
        else:
            logger.log(level, "%s\n%s", text % args, trace_of(error))
    except BaseException:  # a log handler or filter of the application failed with it
        with contextlib.suppress(BaseException):
            logger.log(level, "%s (%s; it cannot be logged as it is)", text % args, class_name(error))


def _is_readable(error: BaseException) -> bool:
    """Return whether log formatters can read the name of its class, and files can store its text."""
    try:
        return type(type(error)) is type and error.__class__ is type(error) and bool(_format(error).encode())
    except BaseException:
        return False


def run_through(runner: asyncio.Runner, coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a coroutine to its end on the loop of a runner, even if the user's tasks stop the loop.

    SystemExit in a task stops the loop, as do `loop.stop()` and exceptions of signal handlers. That is an error of the
    user's code: the loop continues, unless it happens `MAX_STOPS` times in a second.
    """
    loop = runner.get_loop()
    main = loop.create_task(coroutine)
    stops: deque[float] = deque(maxlen=MAX_STOPS)
    forks = FORKS.count
    while True:
        try:
            with ended_in_child(loop):
                loop.run_until_complete(main)
            return
        except BaseException as error:
            if FORKS.count != forks:
                end_child(error)
            stops.append(time.monotonic())
            if main.done() or loop.is_closed() or (len(stops) == MAX_STOPS and stops[-1] - stops[0] < 1.0):
                raise
            text = "The loop was stopped by a task or the handler of a signal (%s); the worker continues"
            report(logger, logging.ERROR, error, text, show(error))


def shorten(error: BaseException) -> None:
    """Remove the frames of this package before those of the user's code; if there are only such frames, keep them."""
    with contextlib.suppress(Exception):
        found = _from_user_code(_traceback(error))
        if found is not None:
            BaseException.with_traceback(error, found)


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS + LOOP_FILES):
        trace = trace.tb_next
    return trace


def trace_of(error: BaseException) -> str:
    """Return the traceback as text, only its end if it is long."""
    shorten(error)
    return safely(_format, error)[-MAX_TRACE:]


def _format(error: BaseException) -> str:
    try:
        told = traceback.TracebackException(type(error), error, _traceback(error))
        if is_a(error, LightbusException):
            told.stack = _without_own_frames(told.stack)
        return "".join(told.format())
    except Exception:  # its class cannot be read
        return "".join([*traceback.format_tb(_traceback(error)), show(error)])


def _without_own_frames(stack: traceback.StackSummary) -> traceback.StackSummary:
    """Remove the frames of this package after the user's last: the text of our own error is enough."""
    frames = list(stack)
    while frames and frames[-1].filename.startswith(f"{PACKAGE}{os.sep}"):
        frames.pop()
    return traceback.StackSummary.from_list(frames or stack)


def _traceback(error: BaseException) -> TracebackType | None:
    trace: TracebackType | None = BaseException.__getattribute__(error, "__traceback__")
    return trace


def describe(what: str, error: BaseException) -> Error:
    """Return the error that a caller gets for an exception of a handler."""
    kind = class_name(error)
    text = f"{what} raised {kind}: {safely(str, error)[:MAX_TEXT]}"
    details = {"type": class_name(error, qualified=True), "args": args_of(error), "trace": trace_of(error)}
    return Error(LightbusWorkerError.code, text, True, details)


def args_of(error: BaseException) -> list[Any]:
    """Return the `args` of an exception; if its own cannot be read, those of BaseException."""
    try:
        return [*error.args]
    except BaseException:
        return [*_ARGS.__get__(error)]


_ARGS = vars(BaseException)["args"]


def encode_error(message: Error, call_id: int, limit: int) -> bytes:
    """Return the frame of an error, with as much of it as can be sent in `limit` bytes."""
    for reduce in (_whole, _with_short_args, _with_short_trace, _without_details):
        with contextlib.suppress(BaseException):
            frame = envelope.encode(reduce(message), call_id)
            if len(frame) <= limit:
                return frame
    bare = Error(message.code, "It raised an exception that cannot be shown.", message.started, {})
    return envelope.encode(bare, call_id)


def _whole(message: Error) -> Error:
    return message


def _with_short_args(message: Error) -> Error:
    args = [_sendable(arg) for arg in islice(message.details.get("args", ()), MAX_ARGS)]
    return message._replace(details={**message.details, "args": args})


def _with_short_trace(message: Error) -> Error:
    details = {**message.details, "args": [], "trace": message.details.get("trace", "")[-MAX_ARG:]}
    return message._replace(message=message.message[:MAX_ARG], details=details)


def _without_details(message: Error) -> Error:
    return message._replace(message=message.message[:MAX_ARG], details={})


def _sendable(arg: Any) -> Any:
    """Return an argument of an exception, or its `repr` if it is too long or cannot be sent."""
    with contextlib.suppress(BaseException):
        if len(codec.encode(arg)) <= MAX_ARG:
            return arg
    return safely(repr, arg)[:MAX_ARG]
