"""The `lightbus` command: one file per subcommand, each imported only when it is run."""

from __future__ import annotations

import codecs
import errno
import importlib
import io
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from ..__about__ import version as own_version

__all__ = ["main"]

COMMANDS = {
    "run": ("lightbus.cli.commands.run", "run", "Serve the APIs and listeners of a bus module."),
    "new": ("lightbus.cli.commands.new", "new", "Write a new service, with tests, ready to run."),
    "keys": ("lightbus.cli.commands.keys", "keys", "Make, show and replace the key that opens a bus to the LAN."),
    "context": ("lightbus.cli.commands.context", "context", "Name buses, and how to reach them."),
    "peers": ("lightbus.cli.commands.peers", "peers", "Show the peers of the bus, and which of them answer."),
    "apis": ("lightbus.cli.commands.apis", "apis", "Show the APIs on the bus, and the services that serve them."),
    "describe": ("lightbus.cli.commands.describe", "describe", "Show an API or one member of it."),
    "call": ("lightbus.cli.commands.call", "call", "Call a procedure, and show its result."),
    "fire": ("lightbus.cli.commands.fire", "fire", "Fire an event."),
    "ping": ("lightbus.cli.commands.ping", "ping", "Measure round trips to peers."),
    "bench": ("lightbus.cli.commands.bench", "bench", "Measure calls and events on your own bus."),
    "graph": ("lightbus.cli.commands.graph", "graph", "Show which service calls and listens to which."),
    "top": ("lightbus.cli.commands.top", "top", "Show the load of the workers, live."),
    "watch": ("lightbus.cli.commands.watch", "watch", "Show peers and APIs as they come and go."),
    "dashboard": ("lightbus.cli.commands.dashboard", "dashboard", "Show the bus in a browser."),
    "gateway": ("lightbus.cli.commands.gateway", "gateway", "Offer parts of the bus over HTTP."),
    "rate": ("lightbus.cli.commands.rate", "rate", "Show live how many events of each name are fired."),
    "doctor": ("lightbus.cli.commands.doctor", "doctor", "Check the bus and this host, and suggest remedies."),
    "tail": ("lightbus.cli.commands.tail", "tail", "Show events as they happen, or as they are stored."),
    "record": ("lightbus.cli.commands.record", "record", "Write events to a file."),
    "replay": ("lightbus.cli.commands.replay", "replay", "Fire the events of a file again, on a test bus."),
    "history": ("lightbus.cli.commands.history", "history", "Show the latest stored events."),
    "inspect": ("lightbus.cli.commands.inspect", "inspect", "Find events in the journals."),
    "groups": ("lightbus.cli.commands.groups", "groups", "Show the consumer groups, or forget one."),
    "lag": ("lightbus.cli.commands.lag", "lag", "Show how many events each group has still to handle."),
    "dead": ("lightbus.cli.commands.dead", "dead", "Show the dead letters, retry or drop them."),
    "events": ("lightbus.cli.commands.events", "events", "Move the events of an API to a JetStream, or back."),
    "demo": ("lightbus.cli.commands.demo", "demo", "Show two services finding each other, in 15 seconds."),
    "completion": ("lightbus.cli.commands.completion", "completion", "Install completion for bash, zsh or fish."),
    "shell": ("lightbus.cli.commands.shell", "shell", "Open a Python prompt with the bus."),
    "dumpschema": ("lightbus.cli.commands.dumpschema", "dumpschema", "Write the schemas of APIs."),
    "schema": (
        "lightbus.cli.commands.schema",
        "schema",
        "Show what changed between schemas, and what that breaks.",
    ),
    "stubs": ("lightbus.cli.commands.stubs", "stubs", "Write the types of what is on the bus, for type checkers."),
    "asyncapi": ("lightbus.cli.commands.asyncapi", "asyncapi", "Write what is on the bus as an AsyncAPI document."),
    "openapi": ("lightbus.cli.commands.openapi", "openapi", "Write what is on the bus as an OpenAPI document."),
    "docs": ("lightbus.cli.commands.docs", "docs", "Write pages about what is on the bus."),
    "dumpconfigschema": (
        "lightbus.cli.commands.dumpconfigschema",
        "dumpconfigschema",
        "Write the schema of the settings.",
    ),
    "cheat": ("lightbus.cli.commands.cheat", "cheat", "Show the everyday commands on one screen."),
    "version": ("lightbus.cli.commands.version", "version", "Show the versions of Lightbus and what it is built on."),
}
"""Name -> module, function, and the line that `--help` shows without importing either."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of writing the output to a file on a full disk."""

AS_JSON = "lightbus.as_json"
"""The name of the error handler of standard output and standard error."""


@contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """
    Let Ctrl-C kill the process silently while a command is imported, when nothing is open yet.

    Raised during an import, KeyboardInterrupt would show a traceback, or turn into an error of a callback's caller.
    """
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class LazyGroup(click.Group):
    """A group that imports a command only when it is run, so that `--help` and completion are quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        with _ended_by_interrupt():
            command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command. An unknown one fails with near names, which click does not suggest."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from ..exceptions import did_you_mean

            ctx.fail(f"No such command '{args[0]}'.{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it without a message, with the exit code that shells use for it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, _, short) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(own_version(), message="lightbus %(version)s")
def _group() -> None:
    """Calls and events between services, peer to peer, without a broker."""


def _refuse_key_in(arguments: Sequence[str]) -> None:
    """Refuse a bus key on the command line: every user of this host can read it, and the shell stores it."""
    if not any("lb1." in argument for argument in arguments):
        return
    from ..config.keys import looks_like_key
    from ..exceptions import UnsupportedUse

    if any(map(looks_like_key, arguments)):
        raise UnsupportedUse(
            "A bus key was given on the command line, where every user of this host can read it, and the shell stores "
            "it. Treat it as disclosed: make a new one for all hosts (lightbus keys init). Give a key in its file, or "
            "in the environment (LIGHTBUS_BUS_KEY)."
        )


def _prepare_standard_streams() -> None:
    """
    Open standard streams that are closed, and let them write any character.

    A descriptor that is closed would be taken by the next opened file, which would then be used as a terminal. A
    character that the encoding of a stream lacks is escaped as in JSON, so that output in JSON stays valid.
    """
    codecs.register_error(AS_JSON, _escaped_as_json)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # `open` returns the lowest free descriptor: this one
        if getattr(sys, name) is None:  # it was closed when the interpreter started
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False))
        stream = getattr(sys, name)
        if descriptor and isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            with suppress(OSError):  # a stream of an embedding program, which cannot be flushed now: it stays as it is
                stream.reconfigure(errors=AS_JSON)


def _escaped_as_json(error: UnicodeError) -> tuple[str, int]:
    """Return the escapes of the characters that cannot be encoded, as `codecs.register_error` wants it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


def _broken_between_words(line: str) -> str:
    """Wrap a line for standard error at the width of the terminal; indented lines are code, and not wrapped."""
    if not sys.stderr.isatty() or line.startswith(" "):
        return line
    width = shutil.get_terminal_size().columns
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) if len(line) > width else line


def main(**kwargs: Any) -> None:
    """Run the command. A LightbusException, or a full disk, becomes a readable message and an exit code."""
    from ..exceptions import LightbusException

    _prepare_standard_streams()
    try:
        _refuse_key_in(kwargs.get("args") or sys.argv[1:])
        _group(**kwargs)
    except LightbusException as error:
        _show_error(str(error))
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if error.errno not in NO_ROOM or error.filename is not None:
            raise
        # What is still in the buffer is lost: Python would fail to write it at the exit, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _show_error(f"The output cannot be written: {error.strerror}.")
        raise SystemExit(1) from None


def _show_error(error: str) -> None:
    from ..phrases import clean

    # It may contain a handler's error and traceback: keep line ends, and escape all other control characters.
    first, *others = (_broken_between_words(clean(line)) for line in f"Error: {error}".split("\n"))
    text = "\n".join([first.removeprefix("Error:"), *others])
    coloured = None if not os.environ.get("NO_COLOR") else False
    click.echo(click.style("Error:", fg="red", bold=True) + text, err=True, color=coloured)
