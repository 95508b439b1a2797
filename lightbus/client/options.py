"""`bus_options`: the options of one call, one event or one listener, checked before they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..deadline import LONGEST
from ..exceptions import InvalidParameters, did_you_mean
from ..typing import BusOptions

__all__ = ["CALL_OPTIONS", "CALL_OR_FIRE_OPTIONS", "FIRE_OPTIONS", "LISTEN_OPTIONS", "check_options", "timeout_of"]

CALL_OPTIONS = ("timeout", "idempotent", "trace", "peer", "version")
FIRE_OPTIONS = ("timeout", "wait_for", "trace")
CALL_OR_FIRE_OPTIONS = (*CALL_OPTIONS, "wait_for")
LISTEN_OPTIONS = ("since",)

_OPTION_TYPES: dict[str, type] = {"idempotent": bool, "trace": dict, "peer": str, "version": int}


def check_options(options: BusOptions, known: Sequence[str], what: str) -> None:
    """Raise InvalidParameters for an option that `what` does not have, and for a value of the wrong type."""
    if not isinstance(options, Mapping):
        raise InvalidParameters(f"bus_options of {what} is {options!r:.100}. It is a dict, as {{'timeout': 3}}.")
    for option, value in options.items():
        if option not in known:
            raise InvalidParameters(
                f"bus_options of {what} has no option '{option}'.{did_you_mean(str(option), known)} "
                f"There are: {', '.join(known)}."
            )
        kind = _OPTION_TYPES.get(option)
        if kind is not None and value is not None and not isinstance(value, kind):
            raise InvalidParameters(
                f"bus_options of {what}: {option} is {value!r:.100}, and has to be of type {kind.__name__}."
            )


def timeout_of(options: BusOptions, default: float, what: str) -> float:
    """Return the timeout in the options, or else `default`, in seconds. Raises InvalidParameters for an invalid one."""
    timeout = options.get("timeout")
    if timeout is None:
        return default
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidParameters(
            f"bus_options of {what}: timeout is {timeout!r:.100}. It is a positive number of seconds."
        )
    return float(min(timeout, LONGEST))
