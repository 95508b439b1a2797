"""`lightbus keys`: make the key of a bus, show it, and replace it without an interruption."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import click

from ...config.keys import PROMOTED, BusKey, read_key_file, write_key_file
from ...config.loading import key_origin
from ...config.surroundings import expand_home
from ...exceptions import InvalidConfiguration, UnsupportedUse

__all__ = ["keys"]

FILE = click.option(
    "--file",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The key file. [default: LIGHTBUS_BUS_KEY_FILE, else bus.key where this user's settings are]",
)

PHASES = {
    "add": (
        "Every holder accepts the new key from now on, and still uses the old one.",
        "lightbus keys rotate promote",
    ),
    "promote": (
        "The new key is used from now on; the old one is still accepted.",
        "lightbus keys rotate remove",
    ),
    "remove": ("The old key opens nothing any more.", ""),
}
"""What each phase of a rotation does, and the command of the next one."""


@click.group()
def keys() -> None:
    """Make, show and replace the key of a bus.

    Without a key a bus stays on its host. With one, the same on each host, it spans the LAN, encrypted, for holders
    of the key and nobody else.
    """


@keys.command()
@FILE
def init(file: Path | None) -> None:
    """Make a key for this user, in a file that only this user can read.

    An existing file is not changed: to replace its key, use rotate.
    """
    path = _path(file)
    key = BusKey.generate()
    try:
        write_key_file(path, [key], replace=False)
    except FileExistsError:
        raise UnsupportedUse(
            f"There is a key file already, and it is left as it is: {path}. See it with `lightbus keys show`; replace "
            "its key with `lightbus keys rotate add`; for a bus of its own name another file with --file."
        ) from None
    click.echo(f"Wrote the key {key.fingerprint} to {path}, which only this user can read.")
    click.echo(_copy_instructions(path))
    if _key_file_in_use() == path:
        click.echo(
            "Whatever starts here from now on is on the bus of this key, and seen by its holders only. "
            "What runs already has to be started again."
        )
    else:
        click.echo(f"It is used by processes with LIGHTBUS_BUS_KEY_FILE={shlex.quote(str(path))}.")
    _warn_of_environment()


@keys.command()
@FILE
@click.option("--config", "config_file", metavar="FILE", help="Configuration: a path or an https URL.")
@click.option("--reveal", is_flag=True, help="Print the key itself, and nothing else: as LIGHTBUS_BUS_KEY takes it.")
@click.option("--json", "as_json", is_flag=True, help="Show JSON, one object a line (docs/cli.md).")
def show(file: Path | None, config_file: str | None, reveal: bool, as_json: bool) -> None:
    """Show the fingerprint of the key that a bus would use here, and where it is from.

    Two hosts with the same fingerprint have the same key. The key itself is printed with --reveal only.
    """
    if reveal and as_json:
        raise click.UsageError("--reveal prints the key alone, and --json never does: leave one of them out.")
    held = _read(file) if file is not None else _keys_in_use(config_file)
    origin, path = (f"the file {file}", file) if file is not None else key_origin(config_file)
    if reveal:
        click.echo(",".join(key.text for key in held))
        return
    if as_json:
        for key in held:
            fields = {"fingerprint": key.fingerprint, "bus": key.bus, "spoken": key is held[0], "origin": origin}
            click.echo(json.dumps(fields))
        return
    spoken, *others = held
    click.echo(f"key {spoken.fingerprint}, of the bus {spoken.bus}, from {origin}")
    for key in others:
        click.echo(f"key {key.fingerprint} is accepted, too, while a key is replaced: lightbus keys rotate")
    if path is not None:
        click.echo(_copy_instructions(expand_home(path).absolute()))


@keys.command()
@click.argument("phase", type=click.Choice([*PHASES]))
@FILE
def rotate(phase: str, file: Path | None) -> None:
    """Replace the key in three phases: add, promote, remove.

    After each phase copy the file to every host, and restart the processes there one after the other: processes with
    the file of a phase can talk to those with the file of the phase before.
    """
    path = _path(file)
    held = _read(path)
    changed = _rotated(phase, held, is_promoted=PROMOTED in path.read_text().splitlines())
    write_key_file(path, changed, replace=True, note=PROMOTED if phase == "promote" else "")
    what, following = PHASES[phase]
    for key in changed:
        click.echo(f"key {key.fingerprint}: {'used' if key is changed[0] else 'accepted'}")
    click.echo(what)
    click.echo(_copy_instructions(path))
    click.echo(
        "Then start the services again, one after the other, on every host"
        + (f"; when all have been, continue with: {following}" if following else ".")
    )
    _warn_of_environment()


def _rotated(phase: str, held: tuple[BusKey, ...], *, is_promoted: bool) -> tuple[BusKey, ...]:
    """Return the keys after a phase. Raises UnsupportedUse if another phase must come first."""
    stands = "has not begun" if len(held) < 2 else "is at its second phase" if is_promoted else "is at its first phase"
    match phase, len(held) > 1, is_promoted:
        case "add", False, _:
            return (*held, BusKey.generate(held[0].bus))
        case "promote", True, False:
            return (held[-1], *held[:-1])
        case "remove", True, True:
            return held[:1]
    following = "add" if len(held) < 2 else "remove" if is_promoted else "promote"
    raise UnsupportedUse(f"It is not the turn of '{phase}': the rotation {stands}. What comes next is '{following}'.")


def _path(file: Path | None) -> Path:
    """Return the key file to work on."""
    if file is not None:
        return expand_home(file).absolute()
    environ = {name: value for name, value in os.environ.items() if name != "LIGHTBUS_BUS_KEY"}
    origin, path = key_origin(None, environ)
    if path is None and not origin:
        raise InvalidConfiguration("This user has no home (HOME is not set), so name the key file: --file.")
    if path is None:
        raise UnsupportedUse(f"The key is written in {origin}, and not in a file. To work on a file, name it: --file.")
    return expand_home(path).absolute()


def _key_file_in_use() -> Path | None:
    """Return the key file that a process here would use, or None."""
    _, path = key_origin()
    return None if path is None else expand_home(path).absolute()


def _read(path: Path) -> tuple[BusKey, ...]:
    held = read_key_file(path)
    if held is None:
        raise InvalidConfiguration(
            f"There is no key file {path}. Make one with `lightbus keys init`, or name it: --file."
        )
    return held


def _keys_in_use(config_file: str | None) -> tuple[BusKey, ...]:
    """Return the keys that a bus with these settings would use."""
    from ...config import load_config

    security = load_config(config_file=config_file).security
    if not security.keys:
        raise InvalidConfiguration(
            f"No bus key is in force here, the mode is {security.mode}. Unless another mode is written out, a key is "
            f"taken from LIGHTBUS_BUS_KEY, the settings, or {_path(None)}. Make one with `lightbus keys init`."
        )
    return security.keys


def _copy_instructions(path: Path) -> str:
    quoted = shlex.quote(str(path))
    return (
        "To bring it to another host, either copy the file, which stays readable by its owner only:\n"
        f"    ssh HOST mkdir -p -m 700 {shlex.quote(str(path.parent))} && scp -p {quoted} HOST:{quoted}\n"
        "or set LIGHTBUS_BUS_KEY there (a secret of the container, say) to what this prints:\n"
        f"    lightbus keys show --reveal{'' if path == _key_file_in_use() else f' --file {quoted}'}"
    )


def _warn_of_environment() -> None:
    if os.environ.get("LIGHTBUS_BUS_KEY", "").strip():
        click.echo("Note that LIGHTBUS_BUS_KEY is set here, and counts for more than the file.", err=True)
