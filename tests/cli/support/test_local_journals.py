"""Commands use this host's journals without a worker, except those in use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from helpers.journals import event, group
from lightbus.adapters.sqlite.journal import Journal
from lightbus.cli.support.connection import Connection
from lightbus.cli.support.local_journals import directories, forget_here, groups_here, journal_directory, place
from lightbus.config import load_config


def bus() -> Connection:
    """Return a bus whose journals are in the test's own data directory."""
    config = load_config(service_name="cli", overrides={"bus": {"name": "shop"}})
    client = SimpleNamespace(config=config, engine=SimpleNamespace(identity=SimpleNamespace(host="here")))
    return cast(Connection, SimpleNamespace(name="shop", client=client))


def journal(connection: Connection, service: str, *names: str) -> Journal:
    """Return an open journal of a service that knows these groups of `auth`."""
    path = place(connection) / service
    made = journal_directory(connection, path).open_own()
    made.append([event()])
    for name in names:
        made.groups.save(group(name))
    return made


def test_groups_are_found_in_all_journals() -> None:
    """Of any service, in use or not; of one API if asked for."""
    connection = bus()
    assert (directories(connection), groups_here(connection)) == ([], [])
    (place(connection) / "empty").mkdir(parents=True)
    free, used = journal(connection, "one", "mail"), journal(connection, "two", "audit")
    free.close()
    assert [each.path.name for each in directories(connection)] == ["one", "two"]
    assert [each.name for each in groups_here(connection, "auth")] == ["mail", "audit"]
    assert groups_here(connection, "shop") == []
    used.close()


def test_a_group_is_removed_from_unused_journals() -> None:
    """Other groups stay; journals in use are not changed, and named."""
    connection = bus()
    used = journal(connection, "two", "mail")
    for service in ("one", "three"):
        journal(connection, service, "mail", "audit").close()
    assert forget_here(connection, "mail", {"auth"}) == ({"auth": 2}, [used.path])
    assert sorted(each.name for each in groups_here(connection)) == ["audit", "audit", "mail"]
    assert forget_here(connection, "audit", {"other"}) == ({}, [])
    used.close()
    assert forget_here(connection, "mail", {"auth"}) == ({"auth": 1}, [])
