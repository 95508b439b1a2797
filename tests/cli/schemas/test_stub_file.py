"""The generated stubs: mypy and pyright accept correct uses, and refuse wrong ones."""

from __future__ import annotations

import base64
import datetime
import enum
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

import lightbus
from lightbus import Api, Event, Parameter, WildcardParameter
from lightbus.cli.schemas.gathering import schemas_of_module
from lightbus.cli.schemas.stub_file import read_back, stub_text
from lightbus.exceptions import UnsupportedUse
from lightbus.typing import JsonSchema


def _pyright() -> list[str]:
    if importlib.util.find_spec("basedpyright") is not None:
        return [sys.executable, "-m", "basedpyright"]
    found = shutil.which("pyright")
    return [found] if found else []


PYRIGHT = _pyright()


class Role(enum.Enum):
    ADMIN = "admin"
    USER = "user"


@dataclass
class User:
    name: str
    born: datetime.date
    role: Role = Role.USER
    friends: tuple[User, ...] = ()


class AuthApi(Api):
    user_registered = Event(
        ["username", Parameter("age", int, default=0), Parameter("user", User | None, default=None)]
    )
    anything = Event([WildcardParameter()])

    class Meta:
        name = "auth"

    def check_password(self, username: str, password: str) -> bool:
        r"""Return whether this is the user's password.

        Nobody else's will do: "1234" \ '''is''' none.
        """
        return True

    def find(self, ids: list[int], kind: Literal["new", "old"] = "new", **further: int) -> User | None: ...

    def add(self, user: User, role: Role | None = None) -> datetime.datetime: ...


class OrdersApi(Api):
    sold = Event([Parameter("sku", str)])

    class Meta:
        name = "auth.orders"

    def count(self) -> int: ...


class Unusual(Api):
    empty = Event()

    class Meta:
        name = "class.user"


USES = """
import datetime
from dataclasses import dataclass
from enum import Enum
from typing import Any

import lightbus
from lightbus import EventMessage, OnError
{imports}


class Mine(Enum):
    ADMIN = "admin"


@dataclass
class Person:
    name: str
    born: datetime.date


@dataclass
class Stranger:
    name: str


right = bus.auth.check_password(username="sally", password="secret")
is_right: bool = right
wrong: str = bus.auth.check_password(username="sally", password="secret")  # wrong
bus.auth.check_password(username="sally")  # wrong
bus.auth.check_password(username=3, password="secret")  # wrong
bus.auth.check_password("sally", "secret")  # wrong
bus.auth.check_pasword(username="sally", password="secret")  # wrong
bus.auht.check_password(username="sally", password="secret")  # wrong
bus.auth.check_password.call(username="sally", password="secret", bus_options={{"timeout": 3}})
bus.auth.check_password(username="sally", password="secret", bus_options={{"timeoot": 3}})  # wrong
found = bus.auth.find(ids=[1, 2], kind="old", more=3)
bus.auth.find(ids=(1, 2))
bus.auth.find(ids=["1"])  # wrong
bus.auth.find(ids=[1], kind="other")  # wrong
bus.auth.find(ids=[1], more="3")  # wrong
found["name"]  # wrong
if found is not None:
    name: str = found["name"]
    age = found["age"]  # wrong
    role: str = found.get("role", "user")
    born: datetime.date = found["born"]
today = datetime.date.today()
when: datetime.datetime = bus.auth.add(user={{"name": "sally", "born": today}})
bus.auth.add(user=Person("sally", today), role=Mine.ADMIN)
bus.auth.add(user={{"name": "sally", "born": today, "friends": []}}, role="admin")
bus.auth.add(user=Stranger("sally"))  # wrong
bus.auth.add(user={{"name": "sally"}})  # wrong
bus.auth.add(user=Person("sally", today), role="boss")  # wrong
number: int = bus.auth.orders.count()
bus.auth.orders.sold(sku="tea")
bus.auth.orders.sold.fire(skew="tea")  # wrong

message: EventMessage = bus.auth.user_registered.fire(username="sally")
bus.auth.user_registered(username="sally", age="3")  # wrong
bus.auth.user_registered.fire(username="sally", bus_options={{"wait_for": "acks"}})  # wrong
bus.auth.user_registered.fire_many([{{"username": "sally", "age": 3}}])
bus.auth.user_registered.fire_many([{{"username": "sally", "age": "3"}}])  # wrong
bus.auth.anything.fire(a=1, b="2")
bus.auth.user_registered.call(username="sally")  # wrong
bus.auth.check_password.fire(username="sally", password="secret")  # wrong


def plain(username: str, age: int, user: Person) -> None: ...
def with_message(event_message: EventMessage, username: str, age: int, user: Person | None) -> None: ...
def some(event_message: EventMessage, age: int, **rest: Any) -> None: ...
def message_only(message: EventMessage) -> int: return 3
async def asynchronous(event_message: EventMessage, **kwargs: Any) -> None: ...
def several(messages: list[EventMessage]) -> None: ...
def another_type(event_message: EventMessage, username: str, age: str, user: Any) -> None: ...
def another_name(event_message: EventMessage, usernaem: str, age: int, user: Any) -> None: ...


for handler in (plain, with_message):
    pass
bus.auth.user_registered.listen(plain, listener_name="a", on_error=OnError.RETRY)
bus.auth.user_registered.listen(with_message)
bus.auth.user_registered.listen(some, bus_options={{"since": "0"}})
bus.auth.user_registered.listen(message_only)
bus.auth.user_registered.listen(asynchronous, concurrency=4)
bus.auth.user_registered.listen(several, batch=10)
bus.auth.user_registered.listen(lambda message: print(message.id))
bus.auth.user_registered.listen(another_type)  # wrong
bus.auth.user_registered.listen(another_name)  # wrong
bus.auth.user_registered.listen(several)  # wrong
bus.auth.user_registered.listen(plain, name="a")  # wrong


async def main() -> None:
    is_right: bool = await bus.auth.check_password.call_async(username="sally", password="secret")
    not_awaited: bool = bus.auth.check_password.call_async(username="sally", password="secret")  # wrong
    await bus.auth.user_registered.fire_async(username="sally")
    await bus.auth.user_registered.fire_async(age=3)  # wrong


bus.client.run_forever()
schema = bus.auth.check_password.parameter_schema
"""
AS_A_STUB = "from bus import bus"
AS_A_PACKAGE = "from typed_bus import User, typed\n\nbus = typed(lightbus.create())\nsally: User"


@pytest.fixture(scope="module")
def schemas() -> dict[str, JsonSchema]:
    bus = lightbus.create(service_name="auth")
    for api in (AuthApi(), OrdersApi(), Unusual()):
        bus.client.register_api(api)
    return schemas_of_module(bus)


def written(directory: Path, schemas: dict[str, JsonSchema]) -> list[Path]:
    """Write a stub, a package, and a program for each; return the programs."""
    (directory / "bus.pyi").write_text(stub_text(schemas, package=False))
    (directory / "typed_bus").mkdir()
    (directory / "typed_bus" / "__init__.py").write_text(stub_text(schemas, package=True))
    programs = [directory / "uses_stub.py", directory / "uses_package.py"]
    for program, imports in zip(programs, (AS_A_STUB, AS_A_PACKAGE), strict=True):
        program.write_text(USES.format(imports=imports))
    return programs


def lines_marked(program: Path) -> set[tuple[str, int]]:
    lines = enumerate(program.read_text().splitlines(), 1)
    return {(program.name, number) for number, line in lines if line.endswith("# wrong")}


@pytest.mark.long
def test_mypy_accepts_correct_code_only(tmp_path: Path, schemas: dict[str, JsonSchema]) -> None:
    """In strict mode; the stub itself has no error."""
    programs = written(tmp_path, schemas)
    paths = [*map(str, programs), "bus.pyi", "typed_bus"]
    # Of lightbus itself only that is read which the files use: all of it takes half a minute.
    rest = ",".join(f"lightbus.{name}.*" for name in ("client", "config", "creation", "path", "service", "testing"))
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\n[mypy-{rest}]\nfollow_imports = skip\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", "cache", *paths]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = re.findall(r"^([\w/.]+):(\d+): error: ", said.stdout, re.MULTILINE)
    found = {(Path(file).name, int(line)) for file, line in errors}
    assert found == lines_marked(programs[0]) | lines_marked(programs[1]), said.stdout + said.stderr


@pytest.mark.long
@pytest.mark.skipif(not PYRIGHT, reason="no pyright: npm install -g pyright, or pip install basedpyright")
def test_pyright_accepts_correct_code_only(tmp_path: Path, schemas: dict[str, JsonSchema]) -> None:
    """The same, in its standard mode."""
    programs = written(tmp_path, schemas)
    options = {
        "typeCheckingMode": "standard",
        "reportRedeclaration": False,
        "reportUnusedExpression": False,
        "reportUnusedCoroutine": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(options))
    command = [*PYRIGHT, "--outputjson", "--pythonpath", sys.executable]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [each for each in json.loads(said.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    found = {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in errors}
    assert found == lines_marked(programs[0]) | lines_marked(programs[1]), errors


def test_a_package_can_be_imported(
    tmp_path: Path, schemas: dict[str, JsonSchema], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`typed()` returns the same bus, and its classes can be inspected, with their docstrings."""
    written(tmp_path, schemas)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("typed_bus")
    try:
        bus = lightbus.create(service_name="shop")
        assert module.typed(bus) is bus
        assert module.AuthCheckPassword.call_async.__doc__ == AuthApi.check_password.__doc__
        assert [*module.User.__annotations__] == ["name", "born", "friends", "role"]
    finally:
        del sys.modules["typed_bus"]


@pytest.mark.parametrize("package", [True, False])
def test_the_schemas_in_a_stub_are_read_back(schemas: dict[str, JsonSchema], package: bool) -> None:
    """They give the same text again."""
    text = stub_text(schemas, package=package)
    assert stub_text(read_back(text, "bus.pyi"), package=package) == text
    assert max(map(len, text.splitlines())) <= 120


NESTED = f"# lightbus stubs: {base64.b64encode(zlib.compress(b'[' * 100_000)).decode()}"


@pytest.mark.parametrize("text", ["", "x = 1", NESTED, "# lightbus stubs: AAAA", "# lightbus stubs: eJyrrgUAAXUA+Q=="])
def test_a_file_of_another_origin(text: str) -> None:
    """A file that the command did not write is refused, with what to do."""
    if text.endswith("+Q=="):
        assert read_back(text, "bus.pyi") == {}
        return
    with pytest.raises(UnsupportedUse, match=r"^bus.pyi was not written by `lightbus stubs`, .* Write it again\.$"):
        read_back(text, "bus.pyi")
