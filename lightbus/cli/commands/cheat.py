"""`lightbus cheat`: the everyday commands, and the same in Python, on one screen."""

from __future__ import annotations

import click

from ..support.output import Output

__all__ = ["LINES", "cheat"]

LINES = (
    ("START", "lightbus new shop", "a service with tests"),
    ("", "lightbus run --reload", "serve bus.py, reload on edits"),
    ("LOOK", "lightbus peers", "the peers, and which answer"),
    ("", "lightbus describe shop.orders", "what it offers, with types"),
    ("", "lightbus top", "the load of workers, live"),
    ("WRONG?", "lightbus doctor", "what is wrong, and what to do"),
    ("", "lightbus tail --errors", "calls that fail, live"),
    ("", "lightbus lag", "how far groups are behind"),
    ("", "lightbus dead list", "events that failed for good"),
    ("", "lightbus dead retry all --group shop-mail", "deliver them again"),
    ("CALL", "lightbus call shop.orders.place item=tea", "--all: all of its servers"),
    ("EVENTS", "lightbus fire shop.orders.placed item=tea", "kept on disk, for every group"),
    ("", "lightbus tail 'shop.*' --since 10m", "past and live events"),
    ("", "lightbus history --where 'amount > 100'", "past events"),
    ("HOSTS", "lightbus keys init", "a key, to open it to the LAN"),
    ("", "lightbus context add office --peers H:PORT", "a name for another bus"),
    ("", "lightbus peers --context office", "the bus of a context"),
    ("PYTHON", 'bus.shop.orders.place(item="tea")', "or await ...call_async(...)"),
    ("", 'bus.shop.orders.placed.fire(item="tea")', "or await ...fire_async(...)"),
    ("", "bus.shop.orders.placed.listen(", "each event, to one process of"),
    ("", '    handler, listener_name="mail")', "the group SERVICE-mail"),
)
"""Topic, command, and what it does. Everything fits on a terminal of 80 columns and 24 lines."""

END = "Lists take --json, -o yaml, --watch, --sort NAME. More: lightbus COMMAND --help"


@click.command()
def cheat() -> None:
    """Show the everyday commands, and the same in Python, on one screen."""
    output = Output()
    for about, written, does in LINES:
        output.line((f"{about:7}", "bold"), (f"{written:42} ", "cyan"), (does, "dim"))
    output.line((END, "dim"))
