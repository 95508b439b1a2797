"""Annotations of every kind that can be declared, each with a value: a sent value comes back equal."""

from __future__ import annotations

import collections
import enum
import ipaddress
import pathlib
import re
import typing
import zoneinfo
from collections.abc import Collection, Container, Iterable, Mapping, Reversible, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Required, TypeVar
from uuid import UUID

import pydantic
import typing_extensions
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


class Mode(enum.Flag):
    FAST = enum.auto()
    SAFE = enum.auto()


class Place(enum.Enum):
    HOME = (1, 2)
    AWAY = (3, 4)


class Odd(enum.Enum):
    NONE = None
    BYTES = b"\xff"
    DAY = date(2026, 1, 2)
    NESTED = Colour.RED


class Pair(NamedTuple):
    left: int
    right: Colour = Colour.RED


@dataclass(frozen=True)
class Point:
    x: int
    tags: frozenset[Colour] = frozenset()
    path: pathlib.Path = pathlib.Path("/tmp")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    id: UUID
    at: datetime
    colour: Colour
    place: Place
    pair: tuple[int, str]
    many: set[int]
    frozen: frozenset[Level]
    queue: collections.deque[int]
    path: pathlib.Path
    address: ipaddress.IPv4Address
    secret: pydantic.SecretStr
    url: pydantic.HttpUrl
    point: Point
    named: Pair
    keys: dict[Level, tuple[int, ...]]
    deeper: Sequence[Pair]


class Alias(BaseModel):
    user_id: int = Field(alias="userId")


class Generated(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper, extra="forbid")
    user_id: int


class ReadAlias(BaseModel):
    model_config = ConfigDict(populate_by_name=False, extra="forbid")
    user_id: int = Field(validation_alias="userId")


class WriteAlias(BaseModel):
    user_id: int = Field(serialization_alias="userId")


class BothAliases(BaseModel):
    user_id: int = Field(validation_alias="readId", serialization_alias="writeId")
    other: str = "x"


class Choices(BaseModel):
    user_id: int = Field(validation_alias=AliasChoices("uid", "userId", AliasPath("ids", 0)))


class InsideOf(BaseModel):
    first: int = Field(validation_alias=AliasPath("ids", 0))
    second: int = Field(5, validation_alias=AliasPath("ids", 1))


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    user_id: int = Field(alias="userId")


class OnlyByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)
    user_id: int = Field(alias="userId")


class Swapped(BaseModel):
    left: int = Field(alias="right")
    right: int = Field(alias="left")


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int


class Numbers(pydantic.RootModel[tuple[int, ...]]):
    pass


class Place2(pydantic.RootModel[Place]):
    pass


class Box(BaseModel, Generic[T]):
    model_config = ConfigDict(strict=True)
    held: T
    _count: int = pydantic.PrivateAttr(default=0)


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Red(BaseModel):
    colour: Literal[Colour.RED] = Colour.RED
    x: int


class Blue(BaseModel):
    colour: Literal[Colour.BLUE] = Colour.BLUE
    y: int


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.x


@pydantic.dataclasses.dataclass
class Aliased:
    user_id: int = Field(alias="userId")
    box: Box[int] | None = None


@dataclass
class WithModel:
    strict: list[Box[Place]]
    trees: dict[Colour, Tree] = field(default_factory=dict)


class Held(BaseModel):
    point: Point
    aliased: Aliased
    pair: Pair
    pairs: list[Pair] = []


class Typed(typing.TypedDict, total=False):
    colour: Required[Colour]
    size: NotRequired[Annotated[int, Field(gt=0)]]
    inner: TypedToo


class TypedToo(typing_extensions.TypedDict):
    level: Level
    note: typing_extensions.NotRequired[str]


class Name(str):
    """A user's class derived from a builtin one."""


class Row(dict[str, int]):
    pass


class Steps(list[int]):
    pass


UserId = NewType("UserId", int)


class Encoded(pydantic.BaseModel):
    """A class that pydantic encodes in a model as it decodes it."""

    some: pydantic.Json[list[int]]
    texts: list[pydantic.Base64Str]


Json = typing_extensions.TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | None")

POINT = Point(1, frozenset({Colour.BLUE}), pathlib.Path("/a/b"))
STRICT = Strict(
    id=UUID(int=7),
    at=datetime(2026, 1, 2, tzinfo=UTC),
    colour=Colour.RED,
    place=Place.AWAY,
    pair=(1, "x"),
    many={1, 2},
    frozen=frozenset({Level.LOW}),
    queue=collections.deque([1]),
    path=pathlib.Path("a"),
    address=ipaddress.IPv4Address("10.0.0.1"),
    secret=pydantic.SecretStr("s3cret"),
    url=pydantic.HttpUrl("https://example.org/a?b=c"),
    point=POINT,
    named=Pair(1),
    keys={Level.HIGH: (1, 2)},
    deeper=[Pair(2, Colour.BLUE)],
)

VALUES: list[tuple[Any, Any]] = [
    (Strict, STRICT),
    (list[Strict], [STRICT]),
    (Alias, Alias(userId=1)),
    (Generated, Generated.model_validate({"USER_ID": 1})),
    (ReadAlias, ReadAlias.model_validate({"userId": 1})),
    (WriteAlias, WriteAlias(user_id=1)),
    (BothAliases, BothAliases.model_validate({"readId": 1})),
    (dict[str, BothAliases], {"a": BothAliases.model_validate({"readId": 1, "other": "y"})}),
    (Choices, Choices.model_validate({"uid": 1})),
    (InsideOf, InsideOf.model_validate({"ids": [1, 2]})),
    (ByName, ByName.model_validate({"user_id": 1})),
    (OnlyByName, OnlyByName.model_validate({"user_id": 1})),
    (Swapped, Swapped(left=1, right=2)),
    (Extra, Extra.model_validate({"known": 1, "other": [2]})),
    (Numbers, Numbers((1, 2))),
    (Place2, Place2(Place.HOME)),
    (Box[Place], Box[Place](held=Place.HOME)),
    (Box[Box[Level]], Box[Box[Level]](held=Box[Level](held=Level.LOW))),
    (Tree, Tree(name="a", children=[Tree(name="b")])),
    (Annotated[Cat | Dog, Field(discriminator="kind")], Dog(name="x")),
    (Annotated[Red | Blue, Field(discriminator="colour")], Blue(y=1)),
    (Red | Blue, Blue(y=1)),
    (Computed, Computed(x=1)),
    (Aliased, Aliased(userId=1, box=Box[int](held=2))),
    (WithModel, WithModel([Box[Place](held=Place.AWAY)], {Colour.RED: Tree(name="x")})),
    (Held, Held(point=POINT, aliased=Aliased(userId=3), pair=Pair(1), pairs=[Pair(2)])),
    (Typed, {"colour": Colour.RED}),
    (Typed, {"colour": Colour.RED, "size": 2, "inner": {"level": Level.HIGH}}),
    (Pair, Pair(3, Colour.BLUE)),
    (Point, POINT),
    (UserId, UserId(3)),
    (Json, {"a": [1, "b", None]}),
    (Encoded, Encoded.model_validate({"some": "[1]", "texts": ["YWI="]})),
    (Colour, Colour.RED),
    (Level, Level.HIGH),
    (Access, Access.READ | Access.WRITE),
    (Access, Access(0)),
    (Mode, Mode.FAST | Mode.SAFE),
    (Place, Place.AWAY),
    *((Odd, each) for each in Odd),
    (dict[Level, str], {Level.LOW: "a"}),
    (dict[Access, str], {Access.READ | Access.WRITE: "a"}),
    (dict[Mode, int], {Mode.FAST: 1}),
    (dict[Colour, Level], {Colour.RED: Level.LOW}),
    (dict[int, str], {1: "a", -5: "b"}),
    (dict[bool, str], {True: "a"}),
    (dict[float, str], {1.5: "a"}),
    (dict[UUID, int], {UUID(int=1): 1}),
    (dict[date, int], {date(2026, 1, 2): 1}),
    (dict[datetime, int], {datetime(2026, 1, 2, tzinfo=UTC): 1}),
    (dict[Decimal, int], {Decimal("1.50"): 1}),
    (dict[bytes, int], {b"\xff": 1}),
    (dict[pathlib.Path, int], {pathlib.Path("a"): 1}),
    (dict[ipaddress.IPv6Address, int], {ipaddress.IPv6Address("::1"): 1}),
    (dict[Literal["a", "b"], int], {"a": 1}),
    (dict[int | str, int], {1: 1, "b": 2}),
    (dict[UserId, int], {UserId(1): 1}),
    (Literal[Colour.RED, 3, "x", b"y", None], Colour.RED),
    (Literal[Place.HOME], Place.HOME),
    (Literal[b"y"], b"y"),
    (pathlib.Path, pathlib.Path("/a/ö")),
    (pathlib.PurePosixPath, pathlib.PurePosixPath("a")),
    *((type(each), each) for each in map(ipaddress.ip_address, ("10.0.0.1", "::1"))),
    *((type(each), each) for each in map(ipaddress.ip_network, ("10.0.0.0/8", "fe80::/10"))),
    (ipaddress.IPv4Interface, ipaddress.IPv4Interface("10.0.0.1/8")),
    (pydantic.HttpUrl, pydantic.HttpUrl("https://example.org/")),
    (pydantic.AnyUrl, pydantic.AnyUrl("ftp://a.b/c")),
    (pydantic.PostgresDsn, pydantic.PostgresDsn("postgres://u:p@a,b/c")),
    (pydantic.SecretStr, pydantic.SecretStr("x")),
    (pydantic.SecretBytes, pydantic.SecretBytes(b"\xff")),
    (pydantic.Secret[int], pydantic.Secret[int](3)),
    (pydantic.ByteSize, pydantic.ByteSize(1024)),
    (collections.deque[Level], collections.deque([Level.LOW])),
    (collections.Counter[str], collections.Counter("aab")),
    (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2)),
    (collections.defaultdict[str, list[int]], collections.defaultdict(list, a=[1])),
    (Sequence[Place], [Place.HOME]),
    (Collection[Place], [Place.HOME]),
    (Container[Place], [Place.HOME]),
    (dict[str, Reversible[Level]], {"a": [Level.LOW]}),
    (Name, Name("sally")),
    (list[Row], [Row(a=1)]),
    (Steps, Steps([1, 2])),
    (typing.LiteralString, "a"),
    (float, float("inf")),
    (Iterable[int], [1, 2]),
    (Mapping[Level, Place], {Level.LOW: Place.HOME}),
    (set[Place], {Place.HOME}),
    (frozenset[Pair], frozenset({Pair(1)})),
    (tuple[Place, ...], (Place.HOME, Place.AWAY)),
    (tuple[()], ()),
    (Fraction, Fraction(1, 3)),
    (re.Pattern[str], re.compile("a+")),
    (zoneinfo.ZoneInfo, zoneinfo.ZoneInfo("UTC")),
    (complex, complex(1, -2)),
    (bytes, b"\xff\x00"),
    (Decimal, Decimal("1E+30")),
    (timedelta, timedelta(days=-3, microseconds=1)),
    (time, time(1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))),
    (datetime, datetime(2026, 1, 2)),
    (datetime, datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))),
    (int, 2**64),
    (int, -(2**200)),
    (Annotated[int, Field(gt=2)], 3),
    (Annotated[str, pydantic.StringConstraints(pattern="^a+$", max_length=3)], "aa"),
    (Annotated[list[Level], Field(max_length=2)], [Level.LOW]),
    (int | Place | None, Place.HOME),
    (int | UUID | str, UUID(int=5)),
    (Any, {"a": [1, None]}),
]
