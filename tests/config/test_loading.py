from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from lightbus.config import Config, Feature, SecuritySettings, ServiceName, config_schema, load_config
from lightbus.config.environment import ENVIRONMENT
from lightbus.config.keys import BusKey, write_key_file
from lightbus.config.surroundings import NO_HOME
from lightbus.exceptions import InvalidConfiguration


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a configuration file with `file` as the value of many settings."""
    path = tmp_path / "bus.yaml"
    path.write_text("service_name: file\nprocess_name: file\nbus: {name: file, log_level: error}\n")
    return path


def load(config: Any = None, environ: dict[str, str] | None = None, **arguments: Any) -> Config:
    return load_config(config, environ=environ or {}, **arguments)


def test_nothing_said_gives_the_defaults() -> None:
    """Without file, environment and arguments, the defaults hold."""
    assert load().written() == {}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "file"),
        ({"environ": {"LIGHTBUS_SERVICE_NAME": "environment"}}, "environment"),
        ({"environ": {"LIGHTBUS_SERVICE_NAME": "environment"}, "service_name": "argument"}, "argument"),
        (
            {
                "environ": {"LIGHTBUS_SERVICE_NAME": "environment"},
                "service_name": "argument",
                "overrides": {"service_name": "command-line"},
            },
            "command-line",
        ),
        ({"overrides": {"service_name": None, "bus": {"log_level": None}}}, "file"),
        ({"environ": {"LIGHTBUS_SERVICE_NAME": " "}}, "file"),
        ({"service_name": None}, "file"),
    ],
)
def test_command_line_wins_over_arguments_environment_and_file(
    file: Path, arguments: dict[str, Any], name: str
) -> None:
    """The command line goes before arguments, these before the environment, this before the file."""
    config = load(file, **arguments)
    assert (config.service_name, config.process_name, config.bus.log_level) == (name, "file", "error")


def test_dict_goes_before_the_environment_and_file(file: Path) -> None:
    """A dict given to create() overrides environment and file, which apply to the other settings."""
    environ = {"LIGHTBUS_CONFIG": str(file), "LIGHTBUS_BUS": "environment", "LIGHTBUS_PROCESS_NAME": "environment"}
    config = load({"bus": {"name": "dict"}}, environ)
    assert (config.service_name, config.process_name) == ("file", "environment")
    assert (config.bus.name, config.bus.log_level) == ("dict", "error")


@pytest.mark.parametrize("as_what", ["path", "text", "config_file", "environment"])
def test_ways_to_name_the_file(file: Path, as_what: str) -> None:
    """A file is named by `config`, by `config_file` or by the environment."""
    config = {
        "path": lambda: load(file),
        "text": lambda: load(str(file)),
        "config_file": lambda: load(config_file=str(file), environ={"LIGHTBUS_CONFIG": "/nowhere.yaml"}),
        "environment": lambda: load(environ={"LIGHTBUS_CONFIG": str(file)}),
    }[as_what]()
    assert config.bus.name == "file"


def test_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the environment is the process's own."""
    monkeypatch.setenv("LIGHTBUS_BUS", "own")
    assert load_config().bus.name == "own"


def test_each_environment_variable_sets_its_setting() -> None:
    """Each variable sets its setting in ENVIRONMENT, and the table is complete."""
    environ = {
        "LIGHTBUS_SERVICE_NAME": "auth",
        "LIGHTBUS_PROCESS_NAME": "auth-{pid}",
        "LIGHTBUS_FEATURES": "rpcs, events",
        "LIGHTBUS_BUS": "main",
        "LIGHTBUS_LOG_LEVEL": "WARNING",
        "LIGHTBUS_INTERFACES": "127.0.0.1,eth0",
        "LIGHTBUS_PEERS": "10.0.0.7:5570",
        "LIGHTBUS_SECURITY": "insecure",
        "LIGHTBUS_DATA_DIR": "/var/lib/lightbus",
    }
    assert load(environ=environ).written() == {
        "service_name": "auth",
        "process_name": "auth-{pid}",
        "features": (Feature.RPCS, Feature.EVENTS),
        "bus": {"name": "main", "log_level": "warning"},
        "network": {"interfaces": ["127.0.0.1", "eth0"]},
        "discovery": {"peers": ["10.0.0.7:5570"]},
        "security": {"mode": "insecure"},
        "journal": {"data_dir": Path("/var/lib/lightbus")},
    }
    assert set(ENVIRONMENT) == {*environ, "LIGHTBUS_BUS_KEY", "LIGHTBUS_BUS_KEY_FILE"}


@pytest.mark.parametrize("features", [[Feature.EVENTS], (Feature.EVENTS,), iter(["events"]), "events", {"events"}])
def test_features_are_accepted_in_every_form(features: Any) -> None:
    """Features can be given in every documented form."""
    assert load(features=features).features == (Feature.EVENTS,)


@pytest.mark.parametrize(
    ("arguments", "origin"),
    [
        ({"config": {"service_name": "{x}"}}, "the config argument"),
        ({"service_name": "{x}"}, "an argument of create()"),
        ({"environ": {"LIGHTBUS_SERVICE_NAME": "{x}"}}, "LIGHTBUS_SERVICE_NAME in the environment"),
        ({"overrides": {"service_name": "{x}"}}, "the command line"),
    ],
)
def test_error_names_the_origin(arguments: dict[str, Any], origin: str) -> None:
    """An error names the source of the faulty value."""
    with pytest.raises(InvalidConfiguration) as caught:
        load(**arguments)
    assert str(caught.value).startswith(f"service_name (from {origin}) has an unknown placeholder {{x}}.")


def test_error_names_the_file(tmp_path: Path) -> None:
    """An error in a file names the file."""
    (tmp_path / "bus.toml").write_text("[network]\nrpc_port = 'x'\n")
    with pytest.raises(InvalidConfiguration) as caught:
        load(tmp_path / "bus.toml")
    expected = f"network.rpc_port (from the file {tmp_path}/bus.toml) must be a whole number, not 'x'."
    assert str(caught.value) == expected


def test_key_is_in_no_traceback() -> None:
    """A bus key that is refused appears neither in the error nor in the traceback printed with it."""
    environ = {"LIGHTBUS_BUS_KEY": "sesame"}
    with pytest.raises(InvalidConfiguration) as caught:
        load(environ=environ)
    assert str(caught.value).startswith("security.bus_key (from LIGHTBUS_BUS_KEY in the environment) is not a bus key")
    assert "sesame" not in "".join(traceback.format_exception(caught.value))


# --- the key ----------------------------------------------------------------------------------------

KEY, OTHER = BusKey.generate(), BusKey.generate()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Return the key file of a user whose settings are in `tmp_path`."""
    path = tmp_path / "lightbus" / "bus.key"
    write_key_file(path, [KEY], replace=False)
    return path


def test_key_file_of_the_user_is_found(key_file: Path, tmp_path: Path) -> None:
    """A key file at the default path opens the LAN, and the bus is named after the key."""
    config = load(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert (config.security.mode, config.security.keys, config.bus_name) == ("bus_key", (KEY,), KEY.fingerprint)
    named = load(environ={"XDG_CONFIG_HOME": str(tmp_path), "LIGHTBUS_BUS": "main"})
    assert (named.bus_name, named.security.mode) == ("main", "bus_key")


def test_key_file_that_is_named(key_file: Path, tmp_path: Path) -> None:
    """The file may be elsewhere; one that is named and not there is an error."""
    assert load(environ={"LIGHTBUS_BUS_KEY_FILE": str(key_file)}).security.keys == (KEY,)
    assert load({"security": {"bus_key_file": str(key_file)}}, {}).security.keys == (KEY,)
    with pytest.raises(InvalidConfiguration, match=r"no key file /nowhere .*LIGHTBUS_BUS_KEY_FILE in the environment"):
        load(environ={"LIGHTBUS_BUS_KEY_FILE": "/nowhere"})


@pytest.mark.parametrize("mode", ["host", "insecure"])
def test_another_mode_needs_no_key_file(key_file: Path, tmp_path: Path, mode: str) -> None:
    """With another mode in the settings the file is not read."""
    key_file.chmod(0o644)
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "LIGHTBUS_SECURITY": mode, "LIGHTBUS_BUS": "main"}
    assert load(environ=environ).security == SecuritySettings(mode=mode)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration, match="open to others"):
        load(environ={"XDG_CONFIG_HOME": str(tmp_path)})


def test_a_key_that_is_written_counts_for_more_than_the_file(key_file: Path, tmp_path: Path) -> None:
    """The environment overrides the settings, and those override the key file."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    written = tmp_path / "bus.json"
    written.write_text(json.dumps({"security": {"bus_key": OTHER.text}}))
    written.chmod(0o600)
    assert load(written, environ).security.keys == (OTHER,)
    assert load(written, {**environ, "LIGHTBUS_BUS_KEY": KEY.text}).security.keys == (KEY,)


def test_several_keys_in_the_environment() -> None:
    """While a key is replaced there are two, and the first is used."""
    following = BusKey.generate(KEY.bus)
    keys = load(environ={"LIGHTBUS_BUS_KEY": f"{following.text},{KEY.text}"}).security.keys
    assert keys == (following, KEY)


def test_a_config_object_has_its_key(key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Config keeps its own key, and does not get the key of the present user."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_config(Config()).security.mode == "host"
    assert load_config(load_config()).security.keys == (KEY,)


def test_configuration_with_a_key_that_others_can_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is used, with a warning that has the command to close the file."""
    written = tmp_path / "bus.json"
    written.write_text(json.dumps({"security": {"bus_key": KEY.text}}))
    written.chmod(0o600)
    load(written)
    assert caplog.records == []
    written.chmod(0o640)
    assert load(written).security.keys == (KEY,)
    [record] = caplog.records
    assert f"others than its owner can read it: chmod 600 {written}" in record.getMessage()
    assert KEY.text not in record.getMessage()


def test_config_object_stands_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Config replaces file and environment; arguments still override it."""
    monkeypatch.setenv("LIGHTBUS_BUS", "environment")
    given = Config.model_validate({"service_name": "auth", "bus": {"name": "given"}, "apis": {"a": {"rpc_timeout": 1}}})
    assert load_config(given) == given
    changed = load_config(given, process_name="p", overrides={"apis": {"default": {"cast_values": False}}})
    assert (changed.bus.name, changed.service_name, changed.process_name) == ("given", "auth", "p")
    assert (changed.api("a").rpc_timeout, changed.api("a").cast_values) == (1.0, False)


@pytest.mark.parametrize("config", ["a.yaml", Config()])
def test_two_whole_configurations(config: Any) -> None:
    """Two files, or a file and a Config, are refused: which one holds would be a guess."""
    with pytest.raises(InvalidConfiguration, match=r"Two whole configurations were given: .*'b\.yaml'\. Give one\."):
        load(config, config_file="b.yaml")


def test_config_of_another_kind() -> None:
    """An object that is no mapping, Config or path is refused with its type."""
    with pytest.raises(InvalidConfiguration, match=r"config must be a mapping of settings, .* not int"):
        load(5)


@pytest.mark.parametrize(
    ("arguments", "default"),
    [
        ({"module_file": "/srv/auth/bus.py"}, ServiceName(name="auth", says_something=True)),
        ({"module_file": "/srv/app/bus.py"}, ServiceName(name="app", says_something=False)),
        ({}, ServiceName(name="unnamed", says_something=False)),
        ({"module_file": "/srv/app/bus.py", "service_name": "chosen"}, None),
    ],
)
def test_default_service_name_is_marked(arguments: dict[str, Any], default: ServiceName | None) -> None:
    """Without a configured service name the calling module's directory gives one, marked as a default."""
    config = load(**arguments)
    assert config.default_name == default
    assert config.service_name == (default.name if default else "chosen")


def test_default_name_of_a_config_object() -> None:
    """A Config with a default name keeps it, or takes that of the module that calls create()."""
    given = load(module_file="/srv/auth/bus.py")
    assert load_config(given).default_name == ServiceName(name="auth", says_something=True)
    assert load_config(given, module_file="/srv/shop/bus.py").service_name == "shop"
    assert load_config(given, service_name="chosen").default_name is None


def test_file_for_the_redis_backed_lightbus(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file written for upstream loads, with one warning that names the file and the keys."""
    (tmp_path / "bus.yaml").write_text(
        "bus: {schema: {transport: {redis: {url: 'redis://x'}}}}\n"
        "apis:\n  default:\n    rpc_timeout: 3\n    rpc_transport: {redis: {url: 'redis://x'}}\n"
        "plugins: {internal_metrics: {enabled: true}}\n"
    )
    assert load(tmp_path / "bus.yaml").api("auth").rpc_timeout == 3
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{tmp_path}/bus.yaml: apis.default.rpc_transport, bus.schema.transport" in record.getMessage()


GOOD_FILE = {
    "service_name": "auth",
    "features": ["rpcs"],
    "peers": ["10.0.0.7:5570"],
    "bus": {"name": "main", "schema": {"human_readable": False}},
    "apis": {"default": {"validate": False}, "auth": {"validate": {"incoming": True}, "rpc_timeout": 0.5}},
    "plugins": {"state": {"enabled": True, "interval": 60}},
    "network": {"interfaces": "eth0", "max_message_size": 1024},
}


@pytest.mark.parametrize("settings", [{}, GOOD_FILE, {"network": {"rpc_port": 65535}, "discovery": {"wait": 0}}])
def test_schema_admits_what_loads(settings: dict[str, Any]) -> None:
    """What the schema of the file admits is what can be loaded."""
    assert jsonschema_rs.validator_for(config_schema()).is_valid(settings)
    load(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"netwrk": {}},
        {"network": {"rpc_port": 65536}},
        {"apis": {"auth": {"rpc_timeout": 0}}},
        {"worker": {"rpc_concurrency": 0}},
        {"security": {"mode": "keys"}},
        {"bus": {"log_level": "loud"}},
        {"features": ["x"]},
        {"plugins": {"state": {"enabled": []}}},
    ],
)
def test_schema_refuses_what_does_not_load(settings: dict[str, Any]) -> None:
    """The schema refuses what loading refuses, so an editor sees the fault first."""
    assert not jsonschema_rs.validator_for(config_schema()).is_valid(settings)
    with pytest.raises(InvalidConfiguration):
        load(settings)


@pytest.mark.parametrize(
    "environ", [{"LIGHTBUS_CONFIG": "~/bus.yaml"}, {"LIGHTBUS_BUS_KEY_FILE": "~/k"}, {"LIGHTBUS_DATA_DIR": "~/d"}]
)
def test_paths_in_the_home_of_a_user_without_one(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    """They are refused as any other setting that cannot be used."""
    monkeypatch.setattr("lightbus.config.surroundings.home_directory", lambda: NO_HOME)
    with pytest.raises(InvalidConfiguration, match="this user has no home directory"):
        load(environ=environ)
