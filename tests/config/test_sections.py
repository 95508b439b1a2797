"""Sections of settings: accepted values, which were set, and copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Self

import pytest
from pydantic_core import ValidationError

from lightbus.config.fields import COUNT, SECONDS, TEXT
from lightbus.config.sections import Settings, before, optional, section, sections, setting


class Engine(Settings):
    """`engine`."""

    power: int = setting(COUNT, 100, "Horses.")
    fuel: str | None = setting(optional(TEXT), None)


class Car(Settings):
    """A car."""

    engine: Engine = setting(section(Engine), Engine.from_defaults())
    wheels: dict[str, Engine] = setting(sections(Engine), {})
    top_speed: float = setting(SECONDS, 50.0, key="speed")
    names: str = setting(before(str.title, TEXT), "none", validates_default=True)

    @classmethod
    def _prepared(cls, values: Any) -> Any:
        """Take a number for the power."""
        return {"engine": {"power": values}} if isinstance(values, int) else values

    def _checked(self) -> Self:
        """Refuse a speed that is too high."""
        if self.top_speed > self.engine.power:
            raise ValueError("is too fast")
        return self


class Lorry(Car):
    """A car that carries more."""

    takes_more = True


def test_defaults_and_set_values() -> None:
    """Settings that were not set have their default; those that were set are known."""
    car = Car.model_validate({"engine": {"power": "70"}, "speed": 60})
    assert (car.engine.power, car.engine.fuel, car.top_speed, car.wheels, car.names) == (70, None, 60.0, {}, "None")
    assert (car.model_fields_set, car.engine.model_fields_set) == ({"engine", "top_speed"}, {"power"})
    assert car.model_dump(by_alias=True, exclude_unset=True) == {"engine": {"power": 70}, "speed": 60.0}
    assert Engine.from_defaults() == Engine()
    assert Engine().model_fields_set == set()


def test_each_has_its_own_defaults() -> None:
    """Mutable defaults are not shared."""
    one, other = Car(), Car()
    one.wheels["left"] = Engine()
    assert other.wheels == {}


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({"engine": {"powr": 1}}, [("extra_forbidden", ("engine", "powr"))]),
        ({"engine": 5, "speed": "x"}, [("model_type", ("engine",)), ("float_parsing", ("speed",))]),
        ({"wheels": {"left": {"power": -1}}}, [("greater_than_equal", ("wheels", "left", "power"))]),
        ({"speed": 101}, [("value_error", ())]),
    ],
)
def test_all_faults_are_reported(values: dict[str, Any], kinds: list[tuple[str, tuple[str, ...]]]) -> None:
    """All faults are reported with their path; those of the whole section only once the rest is valid."""
    with pytest.raises(ValidationError) as caught:
        Car.model_validate(values)
    assert [(each["type"], each["loc"]) for each in caught.value.errors()] == kinds
    assert "input_value" not in str(caught.value)


def test_section_accepts_other_forms() -> None:
    """A section may accept other forms of its values, also as a nested section."""
    assert Car.model_validate(70).engine.power == 70


def test_undeclared_keys_are_kept_only_where_allowed() -> None:
    """Only a section with `takes_more` accepts undeclared keys, and keeps them in copies."""
    lorry = Lorry.model_validate({"load": 5})
    assert (lorry.model_extra, Car().model_extra) == ({"load": 5}, None)
    assert lorry.model_dump()["load"] == 5
    assert lorry.model_copy(update={"names": "x"}).model_extra == {"load": 5}
    assert lorry != Lorry()
    assert lorry != Car()


def test_copy_leaves_the_original_unchanged() -> None:
    """A copy with other values leaves the first one as it was; copied and pickled they are equal."""
    car = Car.model_validate({"engine": {"power": 70}})
    changed = car.model_copy(update={"top_speed": 5.0})
    assert (car.top_speed, changed.top_speed) == (50.0, 5.0)
    assert (car.model_fields_set, changed.model_fields_set) == ({"engine"}, {"engine", "top_speed"})
    for same in (copy.copy(car), copy.deepcopy(car), pickle.loads(pickle.dumps(car))):
        assert (same, same.model_fields_set) == (car, car.model_fields_set)
    assert repr(car).startswith("Car(engine=Engine(power=70, fuel=None), wheels={}")
