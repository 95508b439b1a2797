"""`lightbus completion`, and what is completed of the names on the bus."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..conftest import Commands

FILES = {
    "bash": ".local/share/bash-completion/completions/lightbus",
    "zsh": ".local/share/lightbus/zsh/_lightbus",
    "fish": ".config/fish/completions/lightbus.fish",
}


@pytest.mark.parametrize("shell", FILES)
def test_install(commands: Commands, tmp_path: Path, shell: str) -> None:
    """One command installs it for the shell that SHELL says; for zsh it is mentioned in .zshrc, and only once."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".zshrc").write_bytes(b"# mine \xe9\n")  # and not UTF-8
    environment = {"HOME": str(home), "SHELL": f"/bin/{shell}", "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    for _ in range(2):
        process = commands.run("completion", env=environment)
    file = home / FILES[shell]
    assert str(file) in process.stdout
    assert "_LIGHTBUS_COMPLETE" in file.read_text()
    assert (home / ".zshrc").read_bytes().count(bytes(file.parent)) == (1 if shell == "zsh" else 0)


def test_show_and_unknown_shell(commands: Commands) -> None:
    """`--show` installs nothing; a shell that nobody knows is refused."""
    assert "_LIGHTBUS_COMPLETE=bash_complete" in commands.run("completion", "bash", "--show").stdout
    assert "Name one of bash, zsh, fish" in commands.run("completion", code=2, env={"SHELL": "/bin/tcsh"}).stderr


def test_names_on_the_bus(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Procedures, events, APIs and peers are completed, each where they can stand; nobody there is no error."""
    monkeypatch.setattr("lightbus.cli.support.completing.PATIENCE", 20.0)
    commands.services()
    expected = {
        ("call", "auth."): {"auth.check_password", "auth.echo", "auth.fail"},
        ("fire", ""): {"auth.user_registered"},
        ("describe", "shop"): {"shop.orders", "shop.orders.place"},
        ("ping", "a"): {"auth"},
        ("lag", "shop-"): {"shop-greeter"},
    }
    for (command, begun), names in expected.items():
        assert completed(command, begun) >= names
    assert "shop.orders.place" not in completed("call", "auth.")
    assert completed("call", "", "auth.check_password", "username=ada") == {"password="}
    assert completed("fire", "age=", "auth.user_registered") == {"age=0"}
    assert completed("call", "", "auth.user_registered") == completed("call", "", "nothing") == set()


def test_bash_leaves_no_space_behind_an_equals_sign(commands: Commands, tmp_path: Path) -> None:
    """The value follows at once; behind a whole word there is a space as ever."""
    script = commands.run("completion", "bash", "--show").stdout
    lightbus = tmp_path / "lightbus"
    lightbus.write_text("#!/bin/sh\necho plain,username=\n")
    lightbus.chmod(0o755)
    asks = f"""{script}
compopt() {{ echo compopt "$@"; }}
COMP_WORDS=(lightbus call auth.check_password "") COMP_CWORD=3
_lightbus_completion {lightbus}
echo "${{COMPREPLY[@]}}"
"""
    told = subprocess.run(["bash", "-c", asks], capture_output=True, text=True, check=False)
    assert told.stdout == "compopt -o nospace\nusername=\n", told.stderr
    lightbus.write_text("#!/bin/sh\necho plain,auth\n")
    assert subprocess.run(["bash", "-c", asks], capture_output=True, text=True, check=False).stdout == "auth\n"


def test_scripts_are_changed_where_they_have_to_be(commands: Commands) -> None:
    """What click writes for zsh still has the line that is changed for that."""
    assert "suffix=(-S '')" in commands.run("completion", "zsh", "--show").stdout


def completed(command: str, begun: str, *before: str) -> set[str]:
    """Return what is offered behind `lightbus COMMAND BEFORE BEGUN`."""
    from click.shell_completion import ShellComplete

    from lightbus.cli import _group

    class Shell(ShellComplete):
        name = "test"
        source_template = ""

    return {item.value for item in Shell(_group, {}, "lightbus", "_X").get_completions([command, *before], begun)}
