"""`lightbus completion`: let the shell complete commands, options and the names on the bus."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from ...config.surroundings import NO_HOME, home_directory
from ...exceptions import UnsupportedUse

__all__ = ["completion"]

SHELLS = ("bash", "zsh", "fish")

PROGRAM = "lightbus"
VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"
"""The environment variable by which the shell asks click for completions."""

ZSHRC = """
# lightbus completion
fpath=({directory} $fpath)
autoload -Uz compinit && compinit
"""
"""zsh has no directory for completions of a user, so this line adds one."""

NO_SPACE = {
    "bash": (
        "            COMPREPLY+=($value)\n",
        "            COMPREPLY+=($value)\n            [[ $value == *= ]] && compopt -o nospace\n",
    ),
    "zsh": (
        "        compadd -U -V unsorted -a completions\n",
        "        local -a suffix\n"
        """        [[ "$completions[1]" == *= ]] && suffix=(-S '')\n"""
        "        compadd -U -V unsorted $suffix[@] -a completions\n",
    ),
}
"""Replacements in click's scripts: no blank after a completed `name=`, where the value follows. fish needs none."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--show", is_flag=True, help="Write the script to standard output, and install nothing.")
def completion(shell: str | None, show: bool) -> None:
    """Install completion for bash, zsh or fish; by default for the shell in SHELL.

    It takes effect in the next shell. Names on the bus are completed, too: peers, APIs, procedures and events,
    and the arguments of these.
    """
    from .. import _group

    shell = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise click.UsageError(f"SHELL says '{shell}'. Name one of {', '.join(SHELLS)}.")
    script = kind(_group, {}, PROGRAM, VARIABLE).source().replace(*NO_SPACE.get(shell, ("", "")))
    if show:
        click.echo(script)
        return
    try:
        file = _install(shell, script)
    except OSError as error:
        wanted = "" if home_directory() != NO_HOME else " This user has no home directory: set HOME, or XDG_DATA_HOME."
        raise UnsupportedUse(
            f"The completion for {shell} was not installed: {error}.{wanted} Use --show instead."
        ) from error
    click.echo(f"Completion for {shell} is in {file}, and works from the next shell on.")


def _install(shell: str, script: str) -> Path:
    home = home_directory()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    file = {
        "bash": data / "bash-completion" / "completions" / "lightbus",
        "zsh": data / "lightbus" / "zsh" / "_lightbus",
        "fish": config / "fish" / "completions" / "lightbus.fish",
    }[shell]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script, "utf-8")
    if shell == "zsh":
        _add_to_fpath(file.parent, Path(os.environ.get("ZDOTDIR") or home) / ".zshrc")
    return file


def _add_to_fpath(directory: Path, zshrc: Path) -> None:
    """Add the directory to zsh's path for functions, once."""
    before = zshrc.read_text("utf-8", "replace") if zshrc.exists() else ""
    if str(directory) not in before:
        with zshrc.open("a", encoding="utf-8") as file:
            file.write(ZSHRC.format(directory=directory))
