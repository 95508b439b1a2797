"""Attributes of clients in Lightbus 1.x; the forms that programs use are in tests/compat/forms.py."""

from __future__ import annotations

import pytest

from lightbus import create
from lightbus.client.old_client_names import GONE


@pytest.mark.parametrize("name", GONE)
def test_removed_attributes_name_their_replacement(name: str) -> None:
    """The error names the replacement; `hasattr` returns False."""
    client = create(service_name="old").client
    with pytest.raises(AttributeError, match=f"no '{name}' any more. .+"):
        getattr(client, name)
    assert not hasattr(client, name)
