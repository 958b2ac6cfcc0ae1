"""The Atlassian Document Format as plain text."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syncd.kit.adf import written


def test_every_part_of_a_document_that_says_something_is_read() -> None:
    """Lists, tables, mentions, line breaks, cards, and nodes that nobody has heard of keep their words."""
    words = {"type": "text", "text": "words"}
    line = {"type": "paragraph", "content": [words]}
    mention = {"type": "mention", "attrs": {"id": "712020:kim", "text": "@Kim"}}
    nodes = [
        {"type": "heading", "attrs": {"level": 2}, "content": [words, {"type": "text", "text": " and more"}]},
        {"type": "paragraph", "content": [mention, {"type": "hardBreak"}, words]},
        {"type": "bulletList", "content": [{"type": "listItem", "content": [line]}] * 2},
        {"type": "table", "content": [{"type": "tableRow", "content": [{"type": "tableCell", "content": [line]}] * 2}]},
        {"type": "codeBlock", "attrs": {"language": "sql"}, "content": [{"type": "text", "text": "SELECT 1"}]},
        {"type": "blockCard", "attrs": {"url": "https://acme.test/report"}},
        {"type": "holographicPanel", "content": [line]},
        {"type": "rule"},
        {"type": "mediaSingle", "content": [{"type": "media", "attrs": {"id": "1", "type": "file"}}]},
        line,
    ]
    assert written({"type": "doc", "version": 1, "content": nodes}) == (
        "words and more\n\n@Kim\nwords\n\n* words\n* words\n\nwords | words\n\nSELECT 1\n\n"
        "https://acme.test/report\n\nwords\n\nwords"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "text", "attrs", "content"]), inner),
)


@given(JSON)
def test_no_document_is_too_strange_to_be_read(node: Any) -> None:
    """Whatever stands in place of a document gives some text, or none."""
    assert isinstance(written(node), str)
