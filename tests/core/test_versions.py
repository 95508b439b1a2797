"""An API that is served in several versions at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.calling import A, B, peer
from lightbus.core.peers import Peer
from lightbus.core.versions import fitting, is_mixed, of_the_same_version
from lightbus.exceptions import UnknownApi
from lightbus.wire.announcement import ApiInfo

C = "c" * 16


def serving(instance: str, *procedures: str, version: int = 1, digest: str = "one") -> Peer:
    """Return a peer that serves auth with these procedures."""
    info = ApiInfo(name="auth", procedures=procedures, version=version, digest=digest)
    it = peer(instance)
    return replace(it, announcement=replace(it.announcement, apis=(info,), api_names=None))


OLD, NEW, SAME = serving(A, "check"), serving(B, "check", "reset", version=2, digest="two"), serving(C, "check")


def test_what_is_mixed() -> None:
    """Peers of another version, or of another schema under the same one, do not serve the same."""
    assert not is_mixed("auth", [OLD, SAME])
    assert is_mixed("auth", [OLD, NEW])
    assert is_mixed("auth", [OLD, serving(B, "check", digest="two")])
    assert of_the_same_version([OLD, NEW, SAME], "auth", OLD) == {A, C}


def test_who_has_a_procedure() -> None:
    """A procedure that only some have is asked of those; one that none has, or a peer that has not told, of all."""
    assert fitting([OLD, NEW, SAME], "auth", "reset", None) == (NEW,)
    assert fitting([OLD, NEW], "auth", "check", None) == (OLD, NEW)
    assert fitting([OLD, NEW], "auth", "rest", None) == (OLD, NEW)
    assert fitting([OLD, peer(B)], "auth", "reset", None) == (peer(B),)


def test_a_version_that_is_asked_for() -> None:
    """It is that one, or an error that says which there are."""
    assert fitting([OLD, NEW, SAME], "auth", "check", 2) == (NEW,)
    with pytest.raises(UnknownApi, match=r"No peer serves version 3 of the API 'auth'\. Served: 1, 2\."):
        fitting([OLD, NEW], "auth", "check", 3)
