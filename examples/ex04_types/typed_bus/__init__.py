"""
What is on the bus, for type checkers and editors. Written by `lightbus stubs`: make it anew, and change nothing here.

`lightbus stubs --check` compares it with the bus.
"""

from __future__ import annotations

import datetime as _dt
from typing import Any, Literal, NotRequired, Protocol, TypeAlias, TypedDict, cast

from lightbus.message import EventMessage
from lightbus.path import BusPath
from lightbus.typed import CallOptions, FireOptions, TypedBus, TypedEvent, TypedPath, TypedProcedure

_UNSET: Any = ...


class MessageListener(Protocol):
    """What takes the message alone."""

    def __call__(self, event_message: EventMessage, /) -> object: ...


class User(TypedDict):
    """Somebody who may log in."""

    username: str
    born: _dt.date
    role: NotRequired[Role]


class UserLike(Protocol):
    """An object with what User has: a dataclass, a model."""

    @property
    def username(self) -> str: ...

    @property
    def born(self) -> _dt.date: ...


Role: TypeAlias = Literal["admin", "member"]


class AuthFind(TypedProcedure):
    """The procedure auth.find."""

    def __call__(self, *, username: str, bus_options: CallOptions | None = None) -> User | None:
        """Return the user of this name, if there is one."""
        raise NotImplementedError

    def call(self, *, username: str, bus_options: CallOptions | None = None) -> User | None:
        """Return the user of this name, if there is one."""
        raise NotImplementedError

    async def call_async(self, *, username: str, bus_options: CallOptions | None = None) -> User | None:
        """Return the user of this name, if there is one."""
        raise NotImplementedError


class AuthRegister(TypedProcedure):
    """The procedure auth.register."""

    def __call__(self, *, user: User | UserLike, bus_options: CallOptions | None = None) -> int:
        """Register a user, and return how many there are."""
        raise NotImplementedError

    def call(self, *, user: User | UserLike, bus_options: CallOptions | None = None) -> int:
        """Register a user, and return how many there are."""
        raise NotImplementedError

    async def call_async(self, *, user: User | UserLike, bus_options: CallOptions | None = None) -> int:
        """Register a user, and return how many there are."""
        raise NotImplementedError


class AuthUserRegisteredArguments(TypedDict):
    user: User | UserLike
    invited_by: NotRequired[str | None]


class AuthUserRegisteredListener(Protocol):
    def __call__(self, event_message: EventMessage, /, *, user: Any, invited_by: str | None) -> object: ...


class AuthUserRegisteredPlain(Protocol):
    def __call__(self, *, user: Any, invited_by: str | None) -> object: ...


AuthUserRegisteredHandler: TypeAlias = AuthUserRegisteredListener | AuthUserRegisteredPlain | MessageListener


class AuthUserRegistered(TypedEvent[AuthUserRegisteredArguments, AuthUserRegisteredHandler]):
    """The event auth.user_registered."""

    def __call__(
        self,
        *,
        user: User | UserLike,
        invited_by: str | None = None,
        bus_options: FireOptions | None = None,
    ) -> EventMessage:
        raise NotImplementedError

    def fire(
        self,
        *,
        user: User | UserLike,
        invited_by: str | None = None,
        bus_options: FireOptions | None = None,
    ) -> EventMessage:
        raise NotImplementedError

    async def fire_async(
        self,
        *,
        user: User | UserLike,
        invited_by: str | None = None,
        bus_options: FireOptions | None = None,
    ) -> EventMessage:
        raise NotImplementedError


class Auth(TypedPath):
    """What begins with auth."""

    find: AuthFind
    register: AuthRegister
    user_registered: AuthUserRegistered


class Bus(TypedBus):
    """What is on the bus."""

    auth: Auth


def typed(bus: BusPath) -> Bus:
    """Return a bus as it is; to type checkers it has from now on what is written here."""
    return cast("Bus", bus)


# lightbus stubs: eNrtlU1v2zAMhv+KoObQAWnc5dhrsXOLDjsFRSFHtK3CojyJbmEE/e+VqHzX2bAOO3SoTxQtUeTjl/RKqp4aeSVWEp4A
# lightbus stubs: KbDZB/APHmoTCDxo9nXKKwtxnbdMNFTZunMt5ADY22gspNLWoJwKacGW4OV9NMkQb8vbk2PoeB3IG6zlS3T9iNdyJA1h
# lightbus stubs: 6U1HxmHa8t1ZKJ0exHPjhFWDaF0tDM5SmM67DjwZyMmUziMblfNWUTqtFZ260G9Sn3io0ruzgusqNknGhepbDrOuJR1L
# lightbus stubs: eDDC4KPHYTku/OxNBrfY7Y4vOL0DHFzzXnaufIQl5TCTsGzAquRuiLpwVRSPweFFds+crwvtVUXF/HJ+efF1Xqz3x6NK
# lightbus stubs: a5PwqfZ2H1Cl2gBvqRl8MgT6oRx4qXC4STgWqxFoOx/2bStf7g8wJd8G0ShZrncc0iGYb0mOIqlzdiRHsSfFMXIcvFvm
# lightbus stubs: 0iqD4/r9Z2yPxHsH1HsU1IBIdQhXRdsEkSQxFSatYlEiehzCmKTfqbbDpru9zigTjvMvvyHIMUPnMMBnr3+AXt+163i3
# lightbus stubs: jTftSXFsv/26vtx3nz+B/+0n8GZQ5Q8tFA+qqVCooxZ4ejXuOTLHYT2slD85qf5u6G+luFHdn8+q9+P6ZRbbS/ZyMEhQ
# lightbus stubs: c2XxeQUg0v5Z
