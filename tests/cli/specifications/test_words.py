"""What documents say alike."""

from __future__ import annotations

from lightbus.cli.specifications.words import split_doc


def test_a_docstring_is_taken_apart() -> None:
    """The first paragraph is the summary, on one line; the whole text is the description, if it is longer."""
    summary, description = "Do this and that.", "Do this\nand that.\n\nTwice."
    assert split_doc({"type": "object", "description": description}) == (
        {"summary": summary, "description": description},
        {"type": "object"},
    )
    assert split_doc({"description": summary}) == ({"summary": summary}, {})
    assert split_doc({"description": 3}) == ({}, {"description": 3})
    assert split_doc(False) == ({}, False)
