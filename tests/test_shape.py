"""Records in the operator's words: filtered, reworded, and with what their account and products are to be found by."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.connector import Organisation, Page, Person, RawRecord, Record, RecordError
from syncd.mapping import Mapping
from syncd.shape import AccountFileUnreadable, Ask, Shaped, shape
from syncd.signals import compose
from tests.conftest import record, source


def shaped(one: Record | RawRecord, **mapping: Any) -> tuple[Page, list[Shaped]]:
    return shape(replace(source(), mapping=Mapping(**mapping)), Page(records=[one]))


def body(one: Record, **mapping: Any) -> dict[str, Any]:
    """The body that is posted of a record."""
    page, _ = shaped(one, **mapping)
    [mapped] = page.records
    made: dict[str, Any] = json.loads(compose(mapped, source()).body)
    return made


def test_a_record_is_reworded() -> None:
    """Each setting takes the place of what the connector gave, and sees what it gave, not what another made of it."""
    made = body(
        record(1, title="Old", attributes={"rating": 3}),
        title="New: {{ record.title }}",
        text="{{ record.title }}: {{ record.text }}",
        context="From {{ record.kind }}",
        signal_type="feedback_record",
        attributes={"team": "{{ record.title }}", "blank": "{{ record.context }}"},
    )
    assert made["name"] == "New: Old"
    assert made["text"] == "Old: The export takes too long."
    assert (made["additionalContext"], made["signalType"]) == ("From review", "feedback_record")
    assert made["sourceExternalData"] == {"rating": 3, "team": "Old"}


def test_what_is_not_wanted_is_counted_and_what_fails_is_set_aside() -> None:
    """Every record of a page is accounted for: passed on, filtered, or set aside with its place and the setting."""
    page = Page(records=[record(1, title="a"), record(2), record(3, title="b", place="line 3", attributes={"n": 1})])
    mapping = Mapping(where="record.title", context="{{ 1 // (1 - record.attributes.n | default(0)) }}")
    after, kept = shape(replace(source(), mapping=mapping), page)
    assert [one.record.id for one in kept] == ["r-1"] == [one.id for one in after.records]
    assert after.filtered == 1
    [aside] = after.set_aside
    assert aside.place == "line 3"
    assert aside.reason.startswith("context: ")


def test_a_text_that_comes_out_empty_is_no_signal() -> None:
    """A template that leaves nothing to read sets the record aside; it posts no blank."""
    with pytest.raises(RecordError, match="no text"):
        body(record(1), text="{{ record.context }}")


def test_a_record_that_is_ready_to_post_is_left_alone() -> None:
    """What an operator wrote as a body goes out as it is written."""
    raw = RawRecord(id="1", body={"text": "x", "signalType": "review"})
    page, _ = shaped(raw, text="other", where="false")
    assert list(page.records) == [raw]


def test_a_raw_signal_has_the_fields_that_are_written_down() -> None:
    """Routing of one's own: the body is raw, still found again by its externalId, with what was not said filled in."""
    one = record(1, title="T", url="https://g2.test/1", attributes={"rating": 3})
    made = body(
        one, raw_signal={"processorType": "g2", "data": {"text": "{{ record.text }}", "list": ["{{ record.id }}"]}}
    )
    assert made["data"] == {"text": "The export takes too long.", "list": ["r-1"]}
    assert (made["processorType"], made["evidenceKind"], made["name"]) == ("g2", "review", "T")
    assert made["source"] == {"type": "external_api", "external_data": {"rating": 3, "signalType": "review"}}
    assert made["externalId"] == "listed:reviews:r-1"
    assert made["sourceLinks"][0]["url"] == "https://g2.test/1"
    assert "text" not in made
    assert "signalType" not in made
    assert body(one, raw_signal=True)["data"] == {"text": "The export takes too long."}


ACME = Organisation(name="Acme  Ltd", domain="www.Acme.test", id="org-5")


@pytest.mark.parametrize(
    ("more", "ways", "asks"),
    [
        ({"organisation": ACME}, {"domain": True}, [Ask("domain", "acme.test")]),
        ({"people": (Person(email="bo@us.test", role="agent"), Person(email="A@Acme.test", role="customer"))},
         {"domain": True}, [Ask("domain", "acme.test")]),
        ({"people": (Person(email="a@gmail.com", role="customer"),)}, {"domain": True}, []),
        ({}, {"domain": True}, []),
        ({"url": "https://acme.test:8080/x"}, {"domain": "{{ record.url }}"}, [Ask("domain", "acme.test")]),
        ({"organisation": ACME}, {"domain": "{{ record.organisation.name }}"}, []),
        ({"organisation": ACME}, {"external_id": "crm-{{ record.organisation.id }}"}, [Ask("externalId", "crm-org-5")]),
        ({}, {"external_id": "{{ record.organisation.id }}"}, []),
        ({"organisation": ACME}, {"name": "{{ record.organisation.name }}"}, [Ask("name", "Acme  Ltd")]),
        ({"organisation": Organisation(name="a\0b")}, {"name": "{{ record.organisation.name }}"}, []),
        ({"organisation": Organisation(name="x" * 301)}, {"name": "{{ record.organisation.name }}"}, []),
        ({"organisation": ACME, "account_id": "z"}, {"domain": True}, []),
    ],
)  # fmt: skip
def test_what_an_account_is_looked_for_by(more: dict[str, Any], ways: dict[str, Any], asks: list[Ask]) -> None:
    """The company is asked for as the operator says, never by a public mailbox, nor by what none is called."""
    _, [one] = shaped(record(1, **more), account=ways)
    assert list(one.account) == asks


def test_ways_to_an_account_keep_their_order() -> None:
    """The first way that finds an account is the one that counts, so the order is the operator's."""
    ways = [{"external_id": "{{ record.organisation.id }}"}, {"domain": True}]
    _, [one] = shaped(record(1, organisation=ACME), account=ways)
    assert [ask.by for ask in one.account] == ["externalId", "domain"]


@pytest.mark.parametrize("match", ["ORG-5", "acme.TEST", "acme ltd"])
def test_a_file_says_which_account(tmp_path: Path, match: str) -> None:
    """A list the operator keeps names the account by id, domain or name, however it is spaced or capitalised."""
    file = tmp_path / "accounts.csv"
    file.write_text(f"match,externalId,note\nother,crm-1,\n{match},crm-2,x\n", encoding="utf-8-sig")
    _, [one] = shaped(record(1, organisation=ACME), account={"file": file})
    assert one.account == (Ask("externalId", "crm-2"),)
    file.write_text(f"match,externalId\n{match},crm-300\n", encoding="utf-8")
    _, [again] = shaped(record(1, organisation=ACME), account={"file": file})
    assert again.account == (Ask("externalId", "crm-300"),), "it is read again when it has changed"


@pytest.mark.parametrize("content", [None, b"who,externalId\na,b\n", b"", b"match,externalId\n\xff\xfe,1\n"])
def test_a_file_that_cannot_be_read_stops_the_reading(tmp_path: Path, content: bytes | None) -> None:
    """Records do not go out without their accounts because a file is away; it is named."""
    file = tmp_path / "accounts.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(AccountFileUnreadable, match=r"accounts\.csv"):
        shaped(record(1), account={"file": file})


def test_products_by_rule() -> None:
    """A product is named for the records its rule is about."""
    rules = ["app", {"when": "'web' in record.attributes.tags", "product": "{{ record.kind }}-web"}]
    _, [one] = shaped(record(1, attributes={"tags": ["web"]}), products=rules)
    _, [other] = shaped(record(1, attributes={"tags": []}), products=rules)
    assert (one.products, other.products) == (("app", "review-web"), ("app",))


TEXTS = st.text(max_size=30) | st.none()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.builds(
    Record,
    id=st.text(min_size=1, max_size=20),
    kind=st.sampled_from(["review", "poem"]),
    text=st.text(max_size=200),
    title=TEXTS,
    context=TEXTS,
    people=st.lists(st.builds(Person, TEXTS, TEXTS, st.sampled_from(["customer", "agent", None])), max_size=3).map(
        tuple
    ),
    organisation=st.none() | st.builds(Organisation, TEXTS, TEXTS, TEXTS),
    attributes=st.dictionaries(st.sampled_from(["tags", "n", "items", "x"]), VALUES, max_size=4),
)
PIECES = st.sampled_from(
    [
        "{{ record.title }}", "{{ record.attributes.n + 1 }}", "{{ record.attributes.tags[0] }}", "{{ record }}",
        "{{ record.attributes | tojson }}", "{{ record.people | map(attribute='email') | join(',') }}",
        "{{ record.attributes.x.items.y }}", "{% for t in record.attributes.tags %}{{ t }}{% endfor %}", "text ",
        "{{ record.attributes.n * 7 }}", "{{ record.text | replace(record.title, record.context) }}",
        "{{ '%s' % record.attributes.x }}", "{{ record.text.split()[0] }}", "{{ record.attributes.n ** 9999 }}",
        "{{ record.text | wordcount }}", "{{ record.organisation.name | upper }}", "{{ record.attributes.x | sort }}",
    ]
)  # fmt: skip
TEMPLATES = st.lists(PIECES, min_size=1, max_size=3).map("".join)


@settings(max_examples=150, deadline=None)
@given(one=RECORDS, written=st.lists(TEMPLATES, min_size=6, max_size=6), raw=st.booleans())
def test_any_record_through_any_template_is_a_signal_or_set_aside(one: Record, written: list[str], raw: bool) -> None:
    """Nothing a source can say makes a mapping fail in any other way than for that one record, with words."""
    title, text, context, name, added, product = written
    asked: dict[str, Any] = {"raw_signal": {"data": {"x": [name]}}} if raw else {
        "account": [{"name": name}, {"domain": name}, {"domain": True}], "products": [product],
    }  # fmt: skip
    page, found = shaped(one, title=title, text=text, context=context, attributes={"added": added}, **asked)
    assert len(page.records) + len(page.set_aside) == 1
    for each in found:
        with suppress(RecordError):
            assert json.loads(compose(each.record, source()).body)["externalId"]
    for item in page.set_aside:
        assert item.reason
