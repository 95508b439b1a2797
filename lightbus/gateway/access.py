"""Access rules of the gateway: nothing is allowed unless a rule allows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from ..exceptions import InvalidConfiguration, did_you_mean

__all__ = ["Permission", "Rule", "Rules"]

EVERY = "*"
"""The member that means all events of an API."""

_WORD = r"[A-Za-z0-9_*?\[\]-]+"
_PATTERN = re.compile(rf"(?:(call|fire|listen):)?({_WORD}(?:\.{_WORD})*)", re.ASCII)


class Permission(Enum):
    """An action on a procedure or an event."""

    CALL = "call"
    FIRE = "fire"
    LISTEN = "listen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    A rule that allows an action on the procedures and events that match it.

    Attributes:
        permission: the allowed action; None for every action.
        api: the name of the API, with wildcards.
        member: the name of the procedure or event, with wildcards.

    """

    permission: Permission | None
    api: str
    member: str

    @classmethod
    def read(cls, text: str) -> Rule:
        """
        Parse a rule: `auth.check_password`, `shop.*`, `listen:shop.order_placed`.

        The last dot separates the API and its member: `shop.*` matches the API `shop` only. Raises
        InvalidConfiguration for any other text.
        """
        found = _PATTERN.fullmatch(text)
        if found is None or ("." not in found[2] and found[2] != "*"):
            raise InvalidConfiguration(
                f"{text!r:.100} allows nothing: write an API and its member, as auth.check_password or auth.*, and "
                "before it call:, fire: or listen: to allow only that."
            )
        api, _, member = found[2].rpartition(".")
        return cls(permission=Permission(found[1]) if found[1] else None, api=api or "*", member=member)

    def allows(self, permission: Permission, api: str, member: str) -> bool:
        """Return whether the rule allows an action. The member `*` (all events) needs a rule for all members."""
        # The sign `*` itself also matches patterns of some members only, such as `?`.
        is_matched = fnmatchcase(member, self.member) if member != EVERY else not self.member.strip(EVERY)
        return self.allows_some(permission, api) and is_matched

    def allows_some(self, permission: Permission, api: str) -> bool:
        """Return whether the rule allows an action on any member of an API."""
        return self.permission in (None, permission) and fnmatchcase(api, self.api)


class Rules:
    """Several rules: an action is allowed if any of them allows it. Internal APIs are never allowed."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)

    @classmethod
    def read(cls, texts: Iterable[str]) -> Rules:
        """Parse several rules. Raises InvalidConfiguration."""
        return cls(Rule.read(text) for text in texts)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def without_effect(self, members: Mapping[str, Iterable[str]]) -> list[str]:
        """Return a sentence for each rule that matches no member of these APIs (API name -> member names)."""
        known = {f"{api}.{member}" for api, names in members.items() for member in names}
        found = []
        for rule in self._rules:
            apis = [api for api in members if fnmatchcase(api, rule.api)]
            if any(fnmatchcase(member, rule.member) for api in apis for member in members[api]):
                continue
            near = did_you_mean(f"{rule.api}.{rule.member}", known) if apis else did_you_mean(rule.api, members)
            found.append(f"No peer serves {rule.api}.{rule.member} now: the rule allows nothing yet.{near}")
        return found

    def allow(self, permission: Permission, api: str, member: str) -> bool:
        """Return whether an action on a member is allowed."""
        return not _is_internal(api) and any(rule.allows(permission, api, member) for rule in self._rules)

    def allow_some(self, permission: Permission, api: str) -> bool:
        """Return whether an action on any member of an API is allowed."""
        return not _is_internal(api) and any(rule.allows_some(permission, api) for rule in self._rules)


def _is_internal(api: str) -> bool:
    return api == "internal" or api.startswith("internal.")
