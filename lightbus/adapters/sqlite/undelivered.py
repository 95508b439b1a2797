"""The events of a journal that groups have not handled yet, as the file shows them to any process of this host."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import NamedTuple

from .journal_directory import read_only
from .journal_errors import DAMAGED, journal_error
from .noted_events import still_noted
from .topic import Topic

__all__ = ["Behind", "groups_behind"]

_QUERY = """
    SELECT groups.name, groups.events, topics.id, topics.event, topics.partition, coalesce(cursors.sequence, 0),
        EXISTS (SELECT 1 FROM events WHERE topic = topics.id AND sequence > coalesce(cursors.sequence, 0))
    FROM groups
    JOIN topics ON topics.api = groups.api
    LEFT JOIN cursors ON cursors.grp = groups.name AND cursors.topic = topics.id
    WHERE groups.api = ?
"""


class Behind(NamedTuple):
    """A group that has events of a topic left to handle, and the sequence up to which it has handled them."""

    group: str
    event: str
    partition: int
    position: int


def groups_behind(file: Path, api: str) -> frozenset[Behind]:
    """
    Return which groups have events of an API left to handle in a journal, whoever holds it. Changes nothing.

    None of a file that is gone, or is no journal. Raises JournalError if it cannot be read now.
    """
    try:
        if not file.exists():
            return frozenset()
        with contextlib.closing(read_only(file)) as connection:
            # First: they are put into the tables at any moment.
            noted = {each.number: each.sequence for each in still_noted(file, connection)}
            rows = connection.execute(_QUERY, (api,)).fetchall()
            return frozenset(
                Behind(group, event, partition, position)
                for group, events, number, event, partition, position, is_behind in rows
                if (is_behind or noted.get(number, 0) > position)
                and _gets(group, json.loads(events), Topic(api, event, partition))
            )
    except (sqlite3.OperationalError, OSError) as error:  # locked, or no descriptor is left, for example
        raise journal_error(file, "cannot be read", error) from error
    except DAMAGED:
        return frozenset()


def _gets(group: str, events: list[str], topic: Topic) -> bool:
    return topic.only_group in ("", group) and ("*" in events or topic.declared_event in events)
