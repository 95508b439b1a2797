"""`lightbus keys`: making, showing and replacing the key of a bus."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from helpers import Processes
from helpers.surroundings import Surroundings
from lightbus.cli.commands.keys import keys
from lightbus.config.keys import BusKey, read_key_file, write_key_file
from lightbus.exceptions import InvalidConfiguration, UnsupportedUse

if TYPE_CHECKING:
    from ..conftest import Commands


def run(*arguments: str) -> Result:
    """Run `lightbus keys` with these arguments; a LightbusException is raised."""
    return CliRunner().invoke(keys, arguments, catch_exceptions=False, standalone_mode=False)


@pytest.fixture
def file(surroundings: Surroundings) -> Path:
    """Return the path of this test's key file, which need not exist."""
    return surroundings.settings / "lightbus" / "bus.key"


def held(file: Path) -> tuple[BusKey, ...]:
    """Return the keys in a file."""
    found = read_key_file(file)
    assert found is not None
    return found


# --- init -------------------------------------------------------------------------------------------


def test_init_makes_a_key(file: Path) -> None:
    """It writes a key that only this user can read, and prints the two ways to another host, and not the key."""
    output = run("init").output
    [key] = held(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"Wrote the key {key.fingerprint} to {file}" in output
    assert f"scp -p {file} HOST:{file}" in output
    assert "set LIGHTBUS_BUS_KEY there" in output
    assert "lightbus keys show --reveal" in output
    assert key.text not in output


def test_init_overwrites_nothing(file: Path) -> None:
    """An existing key is not changed; the error says how to see and how to replace it."""
    run("init")
    before = file.read_bytes()
    with pytest.raises(UnsupportedUse, match=f"left as it is: {file}.*keys show.*keys rotate add"):
        run("init")
    assert file.read_bytes() == before


def test_key_file_may_be_named_by_option_or_environment(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may be anywhere, named by the option or by the environment."""
    assert run("init", "--file", str(tmp_path / "a.key")).output.startswith("Wrote the key ")
    monkeypatch.setenv("LIGHTBUS_BUS_KEY_FILE", str(tmp_path / "b.key"))
    run("init")
    assert held(tmp_path / "a.key") != held(tmp_path / "b.key")
    assert not file.exists()


def test_init_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home must name a file."""
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(InvalidConfiguration, match="--file"):
        run("init")


def test_init_beside_a_key_in_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note says that the key in the environment overrides the file."""
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", BusKey.generate().text)
    assert "LIGHTBUS_BUS_KEY is set here, and counts for more than the file" in run("init").stderr


# --- show -------------------------------------------------------------------------------------------


def test_show_does_not_show_the_key(file: Path) -> None:
    """It shows the fingerprint, with which hosts are compared, the bus, the file, and how to copy it."""
    run("init")
    [key] = held(file)
    output = run("show").output
    assert output.startswith(f"key {key.fingerprint}, of the bus {key.bus}, from the file {file}\n")
    assert f"scp -p {file} HOST:{file}" in output
    assert key.text not in output


def test_show_reveals_the_key_when_asked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --reveal it prints what LIGHTBUS_BUS_KEY takes, and nothing else."""
    run("init")
    run("rotate", "add")
    text = run("show", "--reveal").output.strip()
    assert text == ",".join(key.text for key in held(file))
    monkeypatch.setenv("LIGHTBUS_BUS_KEY", text)
    file.unlink()
    output = run("show").output
    assert output.startswith(f"key {BusKey.parse(text.partition(',')[0]).fingerprint}, ")
    assert "from LIGHTBUS_BUS_KEY in the environment" in output


def test_show_for_programs(file: Path, commands: Commands) -> None:
    """With --json there is an object for each key, the one in use first, and the key itself is in none."""
    run("init")
    run("rotate", "add")
    told = commands.json("keys", "show", "--file", str(file))
    assert [(each["fingerprint"], each["spoken"]) for each in told] == [
        (key.fingerprint, first) for key, first in zip(held(file), (True, False), strict=True)
    ]
    assert all(each["bus"] == held(file)[0].bus and each["origin"] == f"the file {file}" for each in told)
    with pytest.raises(click.UsageError, match="--reveal prints the key alone"):
        run("show", "--json", "--reveal")


def test_show_says_which_key_is_in_force(tmp_path: Path) -> None:
    """It shows the key that a bus with the same settings would use, from wherever it is."""
    key = BusKey.generate()
    config = tmp_path / "bus.yaml"
    config.write_text(f"security: {{bus_key: {key.text}}}")
    config.chmod(0o600)
    assert run("show", "--config", str(config)).output.startswith(f"key {key.fingerprint}, ")
    write_key_file(tmp_path / "a.key", [other := BusKey.generate()], replace=False)
    assert f"key {other.fingerprint}, " in run("show", "--file", str(tmp_path / "a.key")).output


def test_show_without_a_key(file: Path) -> None:
    """The error says where it looked, and how to make a key."""
    with pytest.raises(InvalidConfiguration, match=f"No bus key is in force here, the mode is host.*{file}.*keys init"):
        run("show")
    with pytest.raises(InvalidConfiguration, match="There is no key file /nowhere"):
        run("show", "--file", "/nowhere")


# --- rotate -----------------------------------------------------------------------------------------


def test_rotate_in_three_phases(file: Path) -> None:
    """Add, promote, remove: the new key is accepted, then used first, then alone; each phase names the next one."""
    run("init")
    [old] = held(file)
    output = run("rotate", "add").output
    _, new = held(file)
    assert held(file) == (old, new)
    assert f"key {old.fingerprint}: used\nkey {new.fingerprint}: accepted\n" in output
    assert "continue with: lightbus keys rotate promote" in output
    output = run("rotate", "promote").output
    assert held(file) == (new, old)
    assert "continue with: lightbus keys rotate remove" in output
    assert "scp -p" in output
    output = run("rotate", "remove").output
    assert held(file) == (new,)
    assert "The old key opens nothing any more." in output
    assert new.bus == old.bus
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert new.text not in output
    run("rotate", "add")  # and the next time
    run("rotate", "promote")


@pytest.mark.parametrize(
    ("done", "phase", "following"),
    [
        ([], "promote", "add"),
        ([], "remove", "add"),
        (["add"], "add", "promote"),
        (["add"], "remove", "promote"),
        (["add", "promote"], "promote", "remove"),
        (["add", "promote"], "add", "remove"),
        (["add", "promote", "remove"], "remove", "add"),
    ],
)
def test_rotate_out_of_turn(file: Path, done: list[str], phase: str, following: str) -> None:
    """A phase whose turn it is not changes nothing, and names the one that is next."""
    run("init")
    for each in done:
        run("rotate", each)
    before = file.read_bytes()
    with pytest.raises(UnsupportedUse, match=f"not the turn of '{phase}'.*next is '{following}'"):
        run("rotate", phase)
    assert file.read_bytes() == before


def test_rotate_without_a_key() -> None:
    """Without a file there is nothing to replace."""
    with pytest.raises(InvalidConfiguration, match=r"There is no key file .*keys init"):
        run("rotate", "add")


# --- as a command -----------------------------------------------------------------------------------


def test_command_from_start_to_end(processes: Processes, file: Path) -> None:
    """As a process it reports an error in one line, with an exit code."""
    made = processes.lightbus("keys", "init")
    assert made.wait() == 0
    again = processes.lightbus("keys", "init")
    assert again.wait() == 2
    assert re.fullmatch(r"Error: There is a key file already, .*\n", again.stderr)
    file.chmod(0o644)
    shown = processes.lightbus("keys", "show")
    assert shown.wait() == 2
    assert f"chmod 600 {file}" in shown.stderr


@pytest.mark.parametrize("arguments", [["run", "--bus-key", "{key}"], ["keys", "init", "{key}"], ["{key}"]])
def test_key_on_the_command_line_is_refused(processes: Processes, arguments: list[str]) -> None:
    """A key in the arguments counts as disclosed; no command accepts it, or repeats it."""
    key = BusKey.generate().text
    process = processes.lightbus(*(each.format(key=key) for each in arguments))
    assert process.wait() == 2
    assert "A bus key was given on the command line" in process.stderr
    assert key not in process.output


def test_another_file_is_shown_and_copied_as_such(tmp_path: Path, file: Path) -> None:
    """A key in a file that is not in force is revealed by naming it, and does not count as that of this host."""
    run("init")
    other = tmp_path / "other.key"
    output = run("init", "--file", str(other)).output
    assert f"lightbus keys show --reveal --file {other}\n" in output
    assert f"LIGHTBUS_BUS_KEY_FILE={other}" in output
    assert "Whatever starts here" not in output
    assert f"show --reveal --file {other}\n" in run("rotate", "add", "--file", str(other)).output


def test_the_configuration_names_the_file(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands use the file that a bus with these settings uses."""
    run("init")
    other = tmp_path / "other.key"
    config = tmp_path / "bus.yaml"
    config.write_text(f"security: {{bus_key_file: {other}}}")
    monkeypatch.setenv("LIGHTBUS_CONFIG", str(config))
    assert "Whatever starts here" in run("init").output
    assert f"from the file {other}\n" in run("show").output
    run("rotate", "add")
    assert (len(held(file)), len(held(other))) == (1, 2)
    config.write_text(f"security: {{bus_key: {held(file)[0].text}}}")
    config.chmod(0o600)
    output = run("show").output
    assert f"from the file {config}" in output or str(config) in output
    assert "scp" not in output
    with pytest.raises(UnsupportedUse, match="and not in a file"):
        run("rotate", "add")


def test_rotate_follows_a_link(tmp_path: Path, file: Path) -> None:
    """The target of a symbolic link is replaced, so that all its users get the new key."""
    run("init", "--file", str(tmp_path / "real.key"))
    (tmp_path / "link.key").symlink_to(tmp_path / "real.key")
    run("rotate", "add", "--file", str(tmp_path / "link.key"))
    assert (tmp_path / "link.key").is_symlink()
    assert len(held(tmp_path / "real.key")) == 2
