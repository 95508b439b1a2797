"""The features of a worker: serve calls, handle events, run scheduled tasks."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from ..exceptions import InvalidConfiguration, did_you_mean

__all__ = ["ALL_FEATURES", "Feature", "features_of"]


class Feature(Enum):
    """One kind of work of a worker; `lightbus run --only` and `--skip` choose among them."""

    RPCS = "rpcs"
    EVENTS = "events"
    TASKS = "tasks"


ALL_FEATURES: tuple[Feature, ...] = tuple(Feature)


def features_of(names: Iterable[Feature | str] | str) -> tuple[Feature, ...]:
    """Return features by name, given separately or in one string with commas. Raises InvalidConfiguration."""
    return tuple(_feature(each) for each in (names.split(",") if isinstance(names, str) else names))


def _feature(name: Feature | str) -> Feature:
    try:
        return Feature(name.strip() if isinstance(name, str) else name)
    except ValueError:
        known = [each.value for each in Feature]
        near = did_you_mean(str(name), known)
        raise InvalidConfiguration(f"There is no feature {name!r:.100}.{near} There are: {', '.join(known)}.") from None
