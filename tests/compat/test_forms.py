"""Each form of Lightbus 1.x in the table of docs/migrating.md does what the table says, and the table is that."""

from __future__ import annotations

from pathlib import Path

import pytest
from compat.forms import FORMS, Form, table

import lightbus
from lightbus import Api, Event, create

DOCUMENT = Path(__file__).parents[2] / "docs" / "migrating.md"


class AuthApi(Api):
    seen = Event()

    class Meta:
        name = "auth"

    def check(self) -> bool:
        return True


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.old[:40])
def test_a_form_does_what_the_table_says(form: Form) -> None:
    """Whatever the row claims holds."""
    bus = create(service_name="old")
    bus.client.register_api(AuthApi())
    names = {"__name__": "a_row_of_the_table", "lightbus": lightbus, "bus": bus, "pytest": pytest}
    try:
        exec(compile(form.check, form.old, "exec"), names)
    finally:
        bus.client.close()


def test_the_document_has_the_table() -> None:
    """docs/migrating.md says the rows, all of them, in this order."""
    assert table() in DOCUMENT.read_text(encoding="utf-8")
