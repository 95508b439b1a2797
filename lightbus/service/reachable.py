"""The names of APIs, procedures and events that a path (`bus.auth.check_password`) can reach, and its own names."""

from __future__ import annotations

from ..exceptions import InvalidName
from .api import Api

__all__ = ["OF_EVERY_PATH", "OF_MEMBERS", "OF_THE_ROOT", "check_reachable"]

OF_THE_ROOT = frozenset({"client", "schema"})
"""Attributes of `bus` itself: no name of an API begins with one of these."""

OF_EVERY_PATH = frozenset(
    {
        *("api_name", "fully_qualified_name", "parameter_schema", "response_schema"),
        *("call_async", "fire_async", "fire_many_async", "history_async", "lag_async"),
    }
)
"""Attributes of every path."""

OF_MEMBERS = frozenset(
    {
        *("call", "fire", "fire_many", "listen", "history", "lag", "validate_parameters", "validate_response"),
        *("ancestors", "name", "parent"),
    }
)
"""
Attributes of the path of a procedure or an event: `bus.auth.check_password.call`. Such a path has at least two parts;
on a shorter path these are ordinary names: `bus.orders.history()` calls a procedure.
"""


def check_reachable(api: Api) -> None:
    """
    Check that a path leads to every procedure and event of an Api.

    Raises:
        InvalidName: a name is an attribute of paths; the message proposes another one.

    """
    parts = api.meta.name.split(".")
    if parts[0] in OF_THE_ROOT:
        raise InvalidName(
            f"The name of the API '{api.meta.name}' begins with '{parts[0]}', and bus.{parts[0]} is something else. "
            f"Rename it, to '{parts[0]}s' for one."
        )
    for each in parts:
        if each.startswith("_"):
            raise InvalidName(f"The API '{api.meta.name}' has a part that begins with an underscore. Rename it.")
    for name in (*api.procedures, *api.events):
        _check(api.meta.name, (*parts, name))


def _check(api_name: str, parts: tuple[str, ...]) -> None:
    for place, part in enumerate(parts):
        if part in OF_EVERY_PATH or (place > 1 and part in OF_MEMBERS):
            what = f"'{part}' of the API '{api_name}'" if place == len(parts) - 1 else f"the API '{api_name}'"
            here = ".".join(("bus", *parts[:place]))
            better = f"{parts[place - 1] if place else 'my'}_{part}".replace("-", "_")
            raise InvalidName(
                f"{here}.{part} cannot lead to {what}: this name belongs to the paths of procedures and events "
                f"themselves. Rename it, to '{better}' for one."
            )
