"""A service whose procedures and events take and give classes of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum

import lightbus
from lightbus import Api, Event, Parameter

bus = lightbus.create()


class Role(Enum):
    ADMIN = "admin"
    MEMBER = "member"


@dataclass
class User:
    """Somebody who may log in."""

    username: str
    born: date
    role: Role = Role.MEMBER


USERS: dict[str, User] = {}


class AuthApi(Api):
    user_registered = Event([Parameter("user", User), Parameter("invited_by", str | None, default=None)])

    class Meta:
        name = "auth"

    def register(self, user: User) -> int:
        """Register a user, and return how many there are."""
        USERS[user.username] = user
        bus.auth.user_registered(user=user)
        return len(USERS)

    def find(self, username: str) -> User | None:
        """Return the user of this name, if there is one."""
        return USERS.get(username)


bus.client.register_api(AuthApi())
