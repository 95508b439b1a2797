from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from lightbus.config import Config, load_config
from lightbus.exceptions import InvalidConfiguration, UnexpectedConfigurationFormat


def test_a_mapping_is_read_without_the_file_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in 1.x: the mapping and the environment's names, and with `set_defaults=False` only the mapping."""
    (tmp_path / "bus.yaml").write_text("bus: {log_level: debug}")
    monkeypatch.setenv("LIGHTBUS_CONFIG", str(tmp_path / "bus.yaml"))
    monkeypatch.setenv("LIGHTBUS_PROCESS_NAME", "first")
    made = Config.load_dict({"service_name": "store"})
    assert (made.service_name, made.process_name, made.bus.log_level) == ("store", "first", "info")
    assert Config.load_dict({}, set_defaults=False).process_name != "first"
    assert Config.default().process_name == "first"
    assert load_config(from_file=tmp_path / "bus.yaml", quiet=True).bus.log_level == "debug"


def test_texts_and_files(tmp_path: Path) -> None:
    """YAML and JSON, as text or bytes; a file by its suffix."""
    (tmp_path / "bus.json").write_text('{"service_name": "store"}')
    assert Config.load_file(tmp_path / "bus.json").service_name == "store"
    assert Config.load_yaml("service_name: store").service_name == "store"
    assert Config.load_json(b'{"service_name": "store"}').service_name == "store"
    with pytest.raises(UnexpectedConfigurationFormat, match="The configuration text holds a list"):
        Config.load_yaml("- store")
    with pytest.raises(InvalidConfiguration, match="text given as JSON, line 1"):
        Config.load_json("{")
    with pytest.raises(InvalidConfiguration, match=r"A path is for Config.load_file\(\)"):
        Config.load_dict("bus.yaml")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration, match="must be text, not dict"):
        Config.load_yaml({})  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{}, {"apis": {"auth": {"rpc_timeout": 1}}}])
def test_sections_are_asked_for(values: dict[str, object]) -> None:
    """`config.apis()` are the sections, also of a copy, and `config.api()` is the default one."""
    made = Config.load_dict(values)
    for config in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made)), load_config(made)):
        assert config.apis() is config.apis
        assert config.api() is config.apis()["default"]
