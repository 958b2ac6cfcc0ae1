"""Files in the shape of the Signals import template are posted exactly as that template would post them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.connector import RawRecord
from tests.connectors.conftest import Inbox

TYPED = {
    "kind": "external_text",
    "externalId": "client-demo:typed-note-1",
    "name": "Customer call",
    "signalType": "transcript",
    "text": "Customer asked for dark mode.",
}
RAW = {
    "kind": "raw_signal",
    "externalId": "client-demo:support-ticket-1",
    "name": "SSO provisioning timeout",
    "source": {"type": "manual-text", "external_data": {"signalType": "support_ticket"}},
    "data": {"transcriptText": "SCIM group sync times out.", "additionalContext": None},
}


def template_body(spec: dict[str, Any]) -> dict[str, Any]:
    """The body the published template makes of an item."""
    kind = str(spec.get("kind") or "").strip()
    if kind == "external_text":
        body: dict[str, Any] = {"text": spec["text"], "signalType": spec["signalType"]}
        optional = "name additionalContext productId productIds accountId occurredAt externalId"
    else:
        body = {"source": spec["source"]}
        optional = "name data externalId occurredAt integrationId context insightIds"
    return body | {key: spec[key] for key in optional.split() if spec.get(key) is not None}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
async def test_the_template_s_own_example_is_posted_as_the_template_posts_it(
    inbox: Inbox, name: str, encoding: str
) -> None:
    """A file made for the template can be dropped as it is."""
    items: list[dict[str, Any]] = [TYPED, RAW, TYPED | {"name": None, "unknown": 1, "text": "é", "externalId": "x"}]
    content = json.dumps(items, ensure_ascii=False) if name == "a.json" else "\n".join(json.dumps(i) for i in items)
    inbox.drop(name, content.encode(encoding))
    look = await inbox.look(text="{{ row.no_such_column }}", where="row.nothing")
    assert look.error is None
    assert look.bodies == [template_body(item) for item in items]
    assert [list(body) for body in look.bodies] == [list(template_body(item)) for item in items]
    assert "name" not in look.bodies[2]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(
        st.fixed_dictionaries(
            {"kind": st.just("raw_signal"), "source": VALUES.filter(lambda value: value is not None)},
            optional={"data": VALUES, "context": VALUES, "externalId": VALUES, "other": VALUES},
        ),
        min_size=1,
        max_size=5,
    ),
    name=st.sampled_from(["a.json", "a.jsonl"]),
)
def test_every_value_comes_through_as_it_was_written(items: list[dict[str, Any]], name: str) -> None:
    """A number of twenty digits, a fraction or a deep structure is what the source said it was."""
    content = json.dumps(items) if name == "a.json" else "\n".join(map(json.dumps, items))
    with tempfile.TemporaryDirectory() as folder:
        inbox = Inbox(Path(folder))
        inbox.drop(name, content)
        look = asyncio.run(inbox.look())
    wanted = [template_body(item) for item in items]
    assert look.bodies == wanted
    assert json.dumps(look.bodies) == json.dumps(wanted)  # 1 is not 1.0, and true is not 1


async def test_an_item_without_an_external_id_is_known_by_its_content(inbox: Inbox) -> None:
    """The same item in a later file is the same signal; one that says something else is another."""
    item = {"kind": "external_text", "text": "a", "signalType": "review"}
    inbox.drop("a.json", json.dumps([item, TYPED]))
    inbox.drop("b.json", json.dumps([TYPED, dict(reversed(item.items())), item | {"text": "b"}]))
    look = await inbox.look()
    a, typed, again, same, other = (record.id for page in look.pages for record in page.records)
    assert typed == again == TYPED["externalId"]
    assert a == same != other


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
async def test_an_item_that_is_none_is_set_aside_with_its_place(inbox: Inbox, name: str) -> None:
    """One bad item does not stop the file, and is told by its index or its line."""
    items: list[Any] = [
        TYPED,
        3,
        {"kind": "other"},
        {"kind": "external_text", "text": "x"},
        {"kind": "raw_signal", "source": None},
        {"kind": ["external_text"], "text": "x", "signalType": "review"},
        RAW,
    ]
    inbox.drop(name, json.dumps(items) if name == "a.json" else "\n".join(map(json.dumps, items)))
    look = await inbox.look()
    assert len(look.bodies) == 2
    first = "a.json[1]" if name == "a.json" else "a.jsonl:2"
    assert [item.reason for item in look.set_aside] == [
        "it is not an object",
        "its kind 'other' is neither external_text nor raw_signal",
        "it has no signalType",
        "it has no source",
        "its kind \"['external_text']\" is neither external_text nor raw_signal",
    ]
    assert look.places[0] == first
    places = [record.place for page in look.pages for record in page.records if isinstance(record, RawRecord)]
    assert places == (["a.json[0]", "a.json[6]"] if name == "a.json" else ["a.jsonl:1", "a.jsonl:7"])


async def test_json_that_breaks_off_midway_keeps_what_came_before_and_is_read_again(inbox: Inbox) -> None:
    """A truncated upload is one clear error; the whole file is imported once it is complete."""
    whole = json.dumps([TYPED, RAW])
    inbox.drop("a.json", whole[:-30])
    first = await inbox.look()
    assert first.bodies == [template_body(TYPED)]
    assert "a.json: it is not valid JSON after its first 1 items" in str(first.error)
    assert inbox.checkpoint == {}
    inbox.drop("a.json", whole, age=30)
    second = await inbox.look()
    assert second.error is None
    assert len(second.bodies) == 2


@pytest.mark.parametrize(
    "content",
    ['{"item": [1]}', "nonsense", "  ", '"item"', "[1] [2]", "[,]", "[1e9999999999999999999]", '[{"a": "\\udc'],
)
async def test_what_is_no_array_is_an_error_and_not_a_crash(inbox: Inbox, content: str) -> None:
    """Any other JSON, or none, is told apart from an empty import."""
    inbox.drop("a.json", content)
    inbox.drop("b.json", json.dumps([TYPED]))
    look = await inbox.look()
    assert look.bodies == [template_body(TYPED)]
    assert "a.json: it is not " in str(look.error)


@pytest.mark.parametrize("before", [0, 65_000])
async def test_a_number_beyond_all_bounds_is_an_error_and_not_the_end_of_the_process(inbox: Inbox, before: int) -> None:
    """One absurd number in a dropped file does not take the daemon down, wherever the parser's buffer cuts it."""
    filler = TYPED | {"text": "x" * before}
    inbox.drop("a.json", json.dumps([filler])[:-1] + f", {'9' * 5000}]")
    inbox.drop("b.json", json.dumps([RAW]))
    look = await inbox.look()
    assert template_body(RAW) in look.bodies
    assert "a.json: it has a number of more than 600 digits" in str(look.error)


async def test_an_array_nested_without_end_is_an_error(inbox: Inbox) -> None:
    """A file made to exhaust the machine is given up after its first few hundred bytes."""
    inbox.drop("a.json", "[" + json.dumps(TYPED) + "," + "[" * 1_000_000)
    look = await inbox.look()
    assert look.bodies == [template_body(TYPED)]
    assert "nested more than 200 deep" in str(look.error)


async def test_a_line_that_is_no_json_is_set_aside(inbox: Inbox) -> None:
    """A garbled, endless or bottomless line of a log costs that line."""
    deep = json.dumps(RAW).replace("null", "[" * 300 + "]" * 300)
    lines: list[str | bytes] = [
        json.dumps(TYPED),
        "nope",
        "",
        "[" * 100_000,
        b'{"kind": "\xff"}',
        deep,
        json.dumps(RAW),
    ]
    inbox.drop("a.jsonl", b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    look = await inbox.look(encoding="utf-8")
    assert len(look.bodies) == 2
    assert look.places == ["a.jsonl:2", "a.jsonl:4", "a.jsonl:5", "a.jsonl:6"]


async def test_a_line_beyond_all_bounds_is_set_aside(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runaway line does not take the memory with it, nor the line after it."""
    monkeypatch.setattr("connectors._dropfolder.lines.LONGEST", 10_000)
    inbox.drop("a.jsonl", json.dumps(RAW) + "\n" + "x" * 50_000 + "\n" + json.dumps(TYPED) + "\n")
    look = await inbox.look()
    assert look.bodies == [template_body(RAW), template_body(TYPED)]
    assert look.places == ["a.jsonl:2"]


async def test_json_lines_grow_like_rows(inbox: Inbox) -> None:
    """A log of signals gives each line once; a changed array is read again and the ledger skips what it knows."""
    inbox.drop("a.jsonl", json.dumps(TYPED) + "\n")
    inbox.drop("b.json", json.dumps([TYPED]))
    await inbox.look()
    assert (await inbox.look()).pages == []
    inbox.append("a.jsonl", json.dumps(RAW) + "\n")
    assert (await inbox.look()).bodies == [template_body(RAW)]
    inbox.drop("b.json", json.dumps([TYPED, RAW]), age=10)
    assert len((await inbox.look()).bodies) == 2
    inbox.touch("b.json", age=5)
    (inbox.folder / "a.jsonl").rename(inbox.folder / "c.jsonl")
    assert (await inbox.look()).is_empty


async def test_a_large_array_is_given_in_pages_and_read_again_after_a_kill(inbox: Inbox) -> None:
    """Half an array in the ledger is not taken for the whole of it."""
    items = [TYPED | {"externalId": f"x:{n}"} for n in range(250)]
    inbox.drop("a.json", json.dumps(items))
    first = await inbox.look(pages=2)
    assert [len(page.records) for page in first.pages] == [100, 100]
    second = await inbox.look(after="archive")
    assert [len(page.records) for page in second.pages] == [100, 100, 50]
    assert (inbox.folder / ".archive" / "a.json").exists()
