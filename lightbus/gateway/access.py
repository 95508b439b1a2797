"""What may be done by way of the gateway: nothing but what a rule allows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from ..exceptions import InvalidConfiguration, did_you_mean

__all__ = ["Permission", "Rule", "Rules"]

_WORD = r"[A-Za-z0-9_*?\[\]-]+"
_PATTERN = re.compile(rf"(?:(call|fire|listen):)?({_WORD}(?:\.{_WORD})*)", re.ASCII)


class Permission(Enum):
    """What may be done with a procedure, or an event."""

    CALL = "call"
    FIRE = "fire"
    LISTEN = "listen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One thing that is allowed.

    Attributes:
        permission: what may be done with it; None for all that can be done.
        api: the name of the API, with wildcards.
        member: the same of its procedure or event.

    """

    permission: Permission | None
    api: str
    member: str

    @classmethod
    def read(cls, text: str) -> Rule:
        """
        Return the rule that is written so: `auth.check_password`, `shop.*`, `listen:shop.order_placed`.

        The last dot is between the API and its member, and `shop.*` is about the API `shop` alone. Raises
        InvalidConfiguration for anything else.
        """
        found = _PATTERN.fullmatch(text)
        if found is None or ("." not in found[2] and found[2] != "*"):
            raise InvalidConfiguration(
                f"{text!r:.100} allows nothing: write an API and what of it, as auth.check_password or auth.*, and "
                "before it call:, fire: or listen: where only that is allowed."
            )
        api, _, member = found[2].rpartition(".")
        return cls(permission=Permission(found[1]) if found[1] else None, api=api or "*", member=member)

    def allows(self, permission: Permission, api: str, member: str) -> bool:
        """Return whether it is allowed. All events of an API (`*`) are where the rule has all of them."""
        return self.allows_some(permission, api) and fnmatchcase(member, self.member)

    def allows_some(self, permission: Permission, api: str) -> bool:
        """Return whether it is allowed with anything of an API."""
        return self.permission in (None, permission) and fnmatchcase(api, self.api)


class Rules:
    """Several rules: what any of them allows is allowed. Internal APIs never are."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)

    @classmethod
    def read(cls, texts: Iterable[str]) -> Rules:
        """Return the rules that are written so. Raises InvalidConfiguration."""
        return cls(Rule.read(text) for text in texts)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def opening_nothing(self, members: Mapping[str, Iterable[str]]) -> list[str]:
        """Return a sentence for each rule that none of these APIs, by name with their members, has anything for."""
        known = {f"{api}.{member}" for api, names in members.items() for member in names}
        found = []
        for rule in self._rules:
            apis = [api for api in members if fnmatchcase(api, rule.api)]
            if any(fnmatchcase(member, rule.member) for api in apis for member in members[api]):
                continue
            near = did_you_mean(f"{rule.api}.{rule.member}", known) if apis else did_you_mean(rule.api, members)
            found.append(f"Nobody on the bus has {rule.api}.{rule.member} now: what it allows is not open.{near}")
        return found

    def allow(self, permission: Permission, api: str, member: str) -> bool:
        """Return whether something is allowed."""
        return not _is_internal(api) and any(rule.allows(permission, api, member) for rule in self._rules)

    def allow_some(self, permission: Permission, api: str) -> bool:
        """Return whether it is allowed with anything of an API."""
        return not _is_internal(api) and any(rule.allows_some(permission, api) for rule in self._rules)


def _is_internal(api: str) -> bool:
    return api == "internal" or api.startswith("internal.")
