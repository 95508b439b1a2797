"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from lightbus import creation
from lightbus.cli.support.options import (
    ENVIRONMENT,
    ClientOptions,
    apply_options,
    bus_options,
    client_options,
    client_options_beside_out,
)


@click.command()
@client_options
@click.argument("name")
def client(options: ClientOptions, name: str) -> None:
    """Show the arguments."""
    click.echo(f"{name} {options}")


@click.command()
@bus_options
def serve(**given: Any) -> None:
    """Show the arguments."""
    click.echo(sorted(given.items()))


def run(command: click.Command, *args: str) -> str:
    """Return the output of a command."""
    result = CliRunner().invoke(command, args)
    return result.output


def test_client_options_come_as_one() -> None:
    """A command has its own arguments besides."""
    assert run(client, "n") == f"n {ClientOptions()}\n"
    given = run(client, "n", "--json", "--wait", "7", "--bus-name", "b", "--config", "c.yaml", "--log-level", "DEBUG")
    expected = ClientOptions(as_json=True, wait=7.0, bus_name="b", config_file="c.yaml", log_level="debug")
    assert given == f"n {expected}\n"


def test_output_for_programs() -> None:
    """`-o` names a form, and means that programs read; a command with its own `-o` has the long name."""
    assert run(client, "n", "-o", "csv") == f"n {ClientOptions(as_json=True, output_form='csv')}\n"
    assert "Invalid value" in run(client, "n", "-o", "xml")
    beside = click.command()(client_options_beside_out(lambda options: click.echo(options)))
    assert run(beside, "--output", "yaml") == f"{ClientOptions(as_json=True, output_form='yaml')}\n"
    assert "No such option" in run(beside, "-o", "yaml")


@pytest.mark.parametrize("args", [["--wait", "-1"], ["--wait", "soon"], ["--wait", "3601"], ["--log-level", "loud"]])
def test_senseless_options_are_refused(args: list[str]) -> None:
    """The error lists the valid ones."""
    assert "Invalid value" in run(client, "n", *args)


def test_options_before_the_subcommand() -> None:
    """They apply unless they are given again after it."""
    group = ClientOptions(wait=9.0, bus_name="before", as_json=True)
    assert ClientOptions().over(group) == group
    assert ClientOptions(wait=1.0).over(group) == ClientOptions(wait=1.0, bus_name="before", as_json=True)
    assert ClientOptions(bus_name="behind").over(ClientOptions()) == ClientOptions(bus_name="behind")


def test_bus_options_left_out_are_none() -> None:
    """Short forms work; an option that is not given is None."""
    shown = run(serve, "-b", "shop", "-s", "service", "-p", "one")
    assert "('module', 'shop')" in shown
    assert "('service_name', 'service')" in shown
    assert "('process_name', 'one')" in shown
    assert "('config_file', None)" in shown


@pytest.mark.parametrize("option", ["--bus", "--config", "--service-name", "--process-name", "--log-level", "--only"])
def test_each_option_has_a_variable(option: str) -> None:
    """The help shows which."""
    assert option in ENVIRONMENT


@pytest.fixture
def overriding() -> Iterator[None]:
    """Restore the overrides after the test."""
    yield
    creation.overriding_file.clear()
    creation.overrides.clear()


@pytest.mark.usefixtures("overriding")
def test_options_override_the_module() -> None:
    """They apply to the next `create()`."""
    apply_options(service_name="s", process_name=None, config_file="c.yaml", log_level="debug")
    assert creation.overriding_file[-1] == "c.yaml"
    assert creation.overrides == {"service_name": "s", "process_name": None, "bus": {"log_level": "debug"}}
