"""Whether values are exactly of the types in annotations: the fast path of most calls, without a schema."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from ..typing import Kwargs
from .parameters import Parameter, WildcardParameter, exact_types

__all__ = ["ExactMatch"]


class ExactMatch:
    """
    The types with which values of a procedure or an event pass without a further check.

    Args:
        parameters: the parameters in the order of their declaration, without the wildcard.
        wildcard: the parameter that takes all further arguments, or None.
        returns: the annotation of the result.

    """

    __slots__ = ("_complete", "_kinds", "_names", "_required", "_rest", "_result")

    def __init__(self, parameters: Sequence[Parameter], wildcard: WildcardParameter | None, returns: Any) -> None:
        self._names = frozenset(each.name for each in parameters)
        self._required = frozenset(each.name for each in parameters if each.is_required)
        # Parameters that are not in here need a further check.
        kinds = {each.name: exact_types(each.annotation) for each in parameters}
        self._kinds = {name: types for name, types in kinds.items() if types is not None}
        # With this many of these arguments, all are present. Never reached with a wildcard, which allows others.
        self._complete = len(self._kinds) if wildcard is None and len(self._kinds) == len(kinds) else -1
        # The same for arguments of other names: None if none are allowed, or each needs a further check.
        self._rest = None if wildcard is None else exact_types(wildcard.annotation)
        self._result = exact_types(returns)

    def arguments(self, kwargs: Kwargs) -> bool:
        """Return whether arguments are complete, and exactly of the types in the annotations."""
        exact = self._kinds
        for name, value in kwargs.items():
            kinds = exact.get(name)
            if kinds is None:
                rest = self._rest
                if rest is None or name in self._names or (rest and type(value) not in rest):
                    return False
            elif kinds and type(value) not in kinds:
                return False
        return len(kwargs) == self._complete or self._required <= kwargs.keys()

    def arguments_of_all(self, several: Sequence[Kwargs]) -> bool:
        """
        Return whether the arguments of several events have the same names, and `arguments` is true for each.

        There must be at least one. This takes a fifth of the time of `arguments` for each, by loops in C.
        """
        names, exact = several[0].keys(), self._kinds
        if set(map(len, several)) != {len(names)}:
            return False
        try:
            for name in names:
                types = set(map(type, map(itemgetter(name), several)))
                kinds = exact.get(name)
                if kinds is None:
                    kinds = self._rest
                    if kinds is None or name in self._names:
                        return False
                if kinds and not types <= kinds:
                    return False
        except KeyError:  # one has another name instead
            return False
        return len(names) == self._complete or self._required <= names

    def result(self, value: Any) -> bool:
        """Return whether a result is exactly of the type in its annotation."""
        kinds = self._result
        return kinds is not None and (not kinds or type(value) in kinds)
