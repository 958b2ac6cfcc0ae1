"""What is posted for a record, and which records cannot be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd import logs
from syncd.connector import Checkpoint, Connector, Page, Source, Window
from syncd.errors import RecordError
from syncd.records import KINDS, Json, Link, RawRecord, Record
from syncd.signals import LONGEST_ID, Signal, compose, content_of, named


class Reviews(Connector):
    """A connector that reads nothing."""

    provider = "g2"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        yield Page()

    async def check(self, http: httpx.AsyncClient) -> str:
        return "read nothing"


SOURCE = Source("reviews", "g2", "g2:example-app", Reviews())
PLAIN = Record(id="1", kind="review", text="Great.")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=10,
)


def body(signal: Signal) -> dict[str, Any]:
    """What Zentrik reads."""
    read = json.loads(signal.body)
    assert isinstance(read, dict)
    return read


def test_every_field_has_its_place() -> None:
    """Nothing a connector found out is lost on the way to Zentrik."""
    record = Record(
        id="review-row-1",
        kind="review",
        title="G2 review",
        text="Exports are hard to find.",
        occurred_at=datetime(2025, 3, 11, 15, 30, tzinfo=timezone(timedelta(hours=1))),
        url="https://www.g2.com/reviews/1",
        links=(Link("http://example.com/thread", name="Thread", type="thread"),),
        context="Public review.",
        provider="g2_crowd",
        attributes={"rating": 3, "locale": "de"},
        product_ids=("product-uuid",),
        account_id="account-uuid",
        account_ids=("account-uuid", "other-uuid"),
        account_external_id="crm-1",
        place="page 2",
    )
    signal = compose(record, SOURCE)
    assert body(signal) == {
        "name": "G2 review",
        "text": "Exports are hard to find.",
        "signalType": "review",
        "providerType": "g2_crowd",
        "additionalContext": "Public review.",
        "occurredAt": "2025-03-11T14:30:00Z",
        "externalId": "g2:example-app:review-row-1",
        "productIds": ["product-uuid"],
        "accountId": "account-uuid",
        "accountIds": ["account-uuid", "other-uuid"],
        "accountExternalId": "crm-1",
        "sourceLinks": [
            {"url": "https://www.g2.com/reviews/1", "type": "review", "primary": True},
            {"name": "Thread", "url": "http://example.com/thread", "type": "thread"},
        ],
        "sourceExternalData": {"rating": 3, "locale": "de"},
    }
    assert signal == Signal(
        external_id="g2:example-app:review-row-1",
        body=signal.body,
        fingerprint=hashlib.sha256(signal.body).digest(),
        signal_type="review",
        name="G2 review",
        occurred_at=record.occurred_at,
        source_url="https://www.g2.com/reviews/1",
        place="page 2",
        account="crm-1",
        characters=sum(len(body(signal)[name]) for name in ("name", "text", "additionalContext")),
        content=content_of(signal.body),
        subjects=("account:account-uuid", "account:other-uuid", "account:crm-1"),
    )


def test_nothing_empty_is_sent() -> None:
    """Zentrik fills in what we do not know, and refuses nothing because it was blank."""
    record = replace(PLAIN, title=" ", context="", url="", account_id="", product_ids=("", " "), account_ids=("",))
    record = replace(record, links=(Link("https://a.example", name="", type=""),))
    assert body(compose(record, SOURCE)) == {
        "text": "Great.",
        "signalType": "review",
        "providerType": "g2",
        "externalId": "g2:example-app:1",
        "sourceLinks": [{"url": "https://a.example"}],
    }


def test_small_values_are_not_taken_for_empty() -> None:
    """A rating of 0 and an answer of «no» are evidence."""
    record = replace(PLAIN, attributes={"rating": 0, "recommends": False})
    assert body(compose(record, SOURCE))["sourceExternalData"] == {"rating": 0, "recommends": False}


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2025, 3, 11, 14, 30, tzinfo=UTC), "2025-03-11T14:30:00Z"),
        (datetime(2025, 3, 11, 14, 30, 1, 250_000, tzinfo=UTC), "2025-03-11T14:30:01.250Z"),
        (datetime(2025, 3, 11, 0, 30, tzinfo=timezone(timedelta(hours=2))), "2025-03-10T22:30:00Z"),
    ],
)
def test_times_are_sent_in_utc(moment: datetime, written: str) -> None:
    """A trend shows the day on which it happened."""
    assert body(compose(replace(PLAIN, occurred_at=moment), SOURCE))["occurredAt"] == written


@given(text=st.text(min_size=1).filter(str.strip), attributes=st.dictionaries(st.text(), json_values, max_size=4))
def test_the_same_record_makes_the_same_bytes(text: str, attributes: dict[str, Json]) -> None:
    """A record that is seen again is known, and not posted again; its words arrive unchanged."""
    record = replace(PLAIN, text=text, attributes=attributes)
    one, other = compose(record, SOURCE), compose(replace(record), SOURCE)
    assert one == other
    assert one.fingerprint == hashlib.sha256(one.body).digest()
    assert body(one)["text"] == text
    assert body(one).get("sourceExternalData", {}) == attributes


def test_the_bytes_stay_the_same_from_release_to_release() -> None:
    """An upgrade does not make every record look changed and post it once more."""
    record = replace(PLAIN, text="Größe «ok» 🙂\n", title="T", attributes={"b": 1, "a": 2})
    assert compose(record, SOURCE).body.decode() == (
        '{"name":"T","text":"Größe «ok» 🙂\\n","signalType":"review","providerType":"g2",'
        '"externalId":"g2:example-app:1","sourceExternalData":{"b":1,"a":2}}'
    )


def test_another_text_makes_another_fingerprint() -> None:
    """A record that was edited is noticed."""
    edited = compose(replace(PLAIN, text="Great!"), SOURCE)
    assert edited.fingerprint != compose(PLAIN, SOURCE).fingerprint
    assert edited.external_id == compose(PLAIN, SOURCE).external_id


@given(st.dictionaries(st.text(), json_values, max_size=5).filter(lambda body: "externalId" not in body))
def test_a_raw_body_is_posted_as_it_stands(raw: dict[str, Json]) -> None:
    """Whoever writes bodies themselves gets exactly those, with nothing added, dropped or reordered."""
    signal = compose(RawRecord(id="7", body=raw), SOURCE)
    assert signal.external_id == "g2:example-app:7"
    assert json.loads(signal.body, object_pairs_hook=list) == json.loads(json.dumps(raw), object_pairs_hook=list)


def test_a_raw_body_is_known_by_its_own_id() -> None:
    """A body that names itself is found again under that name, and people see what it is."""
    raw: dict[str, Json] = {
        "externalId": "crm-9",
        "name": "Call",
        "signalType": "transcript",
        "occurredAt": "2025-03-11T14:30:00Z",
    }
    signal = compose(RawRecord(id="7", body=raw, place="line 7"), SOURCE)
    assert signal.external_id == "crm-9"
    assert (signal.name, signal.signal_type, signal.place) == ("Call", "transcript", "line 7")
    assert signal.occurred_at == datetime(2025, 3, 11, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("own", "known_as"), [(9, "9"), (0, "0"), (None, "g2:example-app:7"), (" ", "g2:example-app:7")]
)
def test_ids_of_raw_bodies(own: Json, known_as: str) -> None:
    """A numeric id is as good as a text, and a blank one is none."""
    assert compose(RawRecord(id="7", body={"externalId": own}), SOURCE).external_id == known_as


def test_a_raw_body_may_declare_its_type_deeper_down() -> None:
    """Bodies in the advanced form are listed under their type too."""
    raw: dict[str, Json] = {"source": {"type": "zoom", "external_data": {"signalType": "transcript"}}}
    assert compose(RawRecord(id="7", body=raw), SOURCE).signal_type == "transcript"


@pytest.mark.parametrize("odd", [1, "", "soon", None, ["x"], {"a": 1}])
def test_odd_values_in_a_raw_body_are_zentriks_to_judge(odd: Json) -> None:
    """What we cannot read in somebody's own body does not keep it from being sent."""
    raw: dict[str, Json] = {"name": odd, "signalType": odd, "occurredAt": odd, "source": odd}
    assert body(compose(RawRecord(id="7", body=raw), SOURCE)) == raw


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(PLAIN, id=""), "it has no id"),
        (replace(PLAIN, id=" \t"), "it has no id"),
        (replace(PLAIN, text=""), "it has no text"),
        (replace(PLAIN, text=" \n"), "it has no text"),
        (replace(PLAIN, kind="tweet"), f"its type 'tweet' is none of {', '.join(KINDS)}"),
        (replace(PLAIN, occurred_at=datetime(2025, 3, 11)), "its time has no zone"),  # noqa: DTZ001 - the point
        (
            replace(PLAIN, occurred_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
            "lies outside the calendar",
        ),
        (replace(PLAIN, id="x" * LONGEST_ID), "has 527 characters, more than 512"),
        (replace(PLAIN, id="a\x00b"), "holds a control character"),
        (replace(PLAIN, id="a\nb"), "holds a control character"),
        (replace(PLAIN, id="a\ud800"), "half a character"),
        (replace(PLAIN, text="a\ud800"), "surrogates not allowed"),
        (replace(PLAIN, url="https://a.example/\ud800"), "surrogates not allowed"),
        (replace(PLAIN, attributes={"score": float("nan")}), "cannot be written as JSON"),
        (replace(PLAIN, attributes={"when": b"bytes"}), "a bytes is no JSON value"),
        (RawRecord(id="1", body={"text": "a\udfff"}), "surrogates not allowed"),
        (RawRecord(id="1", body={"externalId": "a\x00"}), "holds a control character"),
        (RawRecord(id="1", body={"externalId": "x" * 513}), "has 513 characters"),
        (RawRecord(id="1", body={"externalId": ["a"]}), "its externalId is a list, not a text"),
        (RawRecord(id="1", body={"externalId": True}), "its externalId is True, not a text"),
        (RawRecord(id="a\ud800", body={}), "half a character"),
    ],
)
def test_what_cannot_become_a_signal_says_why(record: Record | RawRecord, reason: str) -> None:
    """One bad record is set aside with its reason, and the page goes on."""
    with pytest.raises(RecordError, match=reason):
        compose(record, SOURCE)


def test_bottomless_attributes_are_set_aside() -> None:
    """A hostile vendor's nesting ends one record, not the run."""
    bottomless: Json = []
    for _ in range(100_000):
        bottomless = [bottomless]
    with pytest.raises(RecordError, match="cannot be written as JSON"):
        compose(replace(PLAIN, attributes={"deep": bottomless}), SOURCE)


def test_the_longest_id_is_accepted() -> None:
    """Long ids that real vendors have are no reason to lose a record."""
    longest = "x" * (LONGEST_ID - len("g2:example-app:"))
    assert len(compose(replace(PLAIN, id=longest), SOURCE).external_id) == LONGEST_ID


@pytest.mark.parametrize(
    "url",
    [
        "ftp://files.example/1",
        "javascript:alert(1)",
        "mailto:a@b.example",
        "/relative",
        "www.example.com",
        "http://",
        "http://:80/",
        "http://[::1",
        "https://x.example:port/",
        "https://two words/",
        "file:///etc/passwd",
    ],
)
def test_links_zentrik_would_refuse_are_left_out(url: str) -> None:
    """A record does not lose its place because of a link nobody could follow."""
    signal = compose(replace(PLAIN, url=url, links=(Link(url), Link("https://good.example/a b"))), SOURCE)
    assert body(signal)["sourceLinks"] == [{"url": "https://good.example/a b"}]
    assert signal.source_url == "https://good.example/a b"


def test_what_is_kept_for_people_can_be_stored_anywhere() -> None:
    """A NUL or half a character in a title does not stop a page at the database."""
    record = replace(PLAIN, title="a\x00b", url="https://x.example/\x00", place="nps\ud800.csv\x00 line 1")
    signal = compose(record, SOURCE)
    assert (signal.name, signal.source_url, signal.place) == ("ab", "https://x.example/", "nps?.csv line 1")
    assert body(signal)["name"] == "a\x00b"
    raw = compose(RawRecord(id="1", body={"name": "\x00", "signalType": "x\x00"}), SOURCE)
    assert (raw.name, raw.signal_type) == (None, "x")


@given(
    record=st.builds(
        Record,
        id=st.text(st.characters()),
        kind=st.sampled_from(KINDS),
        text=st.text(st.characters()),
        title=st.none() | st.text(st.characters()),
        url=st.none() | st.text(st.characters()) | st.text(st.characters()).map("http://".__add__),
        place=st.none() | st.text(st.characters()),
        occurred_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    )
)
def test_any_record_is_a_signal_or_set_aside(record: Record) -> None:
    """Whatever a vendor sends, a page never ends in a crash, and what is stored fits every database."""
    try:
        signal = compose(record, SOURCE)
    except RecordError:
        return
    for text in (signal.external_id, signal.name, signal.source_url, signal.place):
        assert text is None or ("\x00" not in text and text.encode().decode() == text)


def test_a_read_only_body_is_written_too() -> None:
    """A connector may hand over any mapping, as the type says."""
    raw = RawRecord(id="1", body=MappingProxyType({"text": "a", "deep": MappingProxyType({"b": (1, 2)})}))
    assert body(compose(raw, SOURCE)) == {"text": "a", "deep": {"b": [1, 2]}}


class TestSecrets:
    """A secret of the configuration that stands in a record."""

    SECRET = "sk-live-4711-abc"

    @pytest.fixture(autouse=True)
    def planted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logs, "_concealed", logs._Concealed())
        logs.conceal([self.SECRET, "postgres"])

    def test_it_is_taken_out_wherever_it_stands(self) -> None:
        """A vendor that writes our key into a link publishes it neither at Zentrik nor in the ledger."""
        record = replace(
            PLAIN,
            text=f"See {self.SECRET}.",
            title=f"Key {self.SECRET}",
            url=f"https://vendor.example/1?api_key={self.SECRET}",
            attributes={"deep": [{self.SECRET: self.SECRET, "rating": 3}]},
            place=f"page {self.SECRET}",
        )
        signal = compose(record, SOURCE)
        assert self.SECRET.encode() not in signal.body
        assert body(signal)["text"] == "See ***."
        assert body(signal)["sourceExternalData"] == {"deep": [{"***": "***", "rating": 3}]}
        assert (signal.name, signal.place) == ("Key ***", "page ***")
        assert signal.source_url == "https://vendor.example/1?api_key=***"
        assert signal.fingerprint == hashlib.sha256(signal.body).digest()

    def test_raw_bodies_are_no_exception(self) -> None:
        """A body posted as it stands is posted as it stands, but for that."""
        raw = compose(RawRecord(id="1", body={"text": f"a {self.SECRET}", "externalId": "x"}), SOURCE)
        assert body(raw) == {"text": "a ***", "externalId": "x"}

    @pytest.mark.parametrize(
        "record",
        [replace(PLAIN, id=SECRET), RawRecord(id=SECRET, body={}), RawRecord(id="1", body={"externalId": SECRET})],
    )
    def test_an_id_that_holds_it_is_refused(self, record: Record | RawRecord) -> None:
        """An id is never made up: two records could become one. The operator reads what to do."""
        with pytest.raises(RecordError, match="its id holds a secret of the configuration") as caught:
            compose(record, SOURCE)
        assert self.SECRET not in str(caught.value)

    def test_a_word_is_no_secret_in_a_customers_mouth(self) -> None:
        """The database's password `postgres` tears no hole into a ticket about PostgreSQL."""
        assert body(compose(replace(PLAIN, text="postgres is slow"), SOURCE))["text"] == "postgres is slow"

    def test_it_changes_no_other_body(self) -> None:
        """Knowing secrets makes no record look changed."""
        record = replace(PLAIN, text="Größe «ok» 🙂\n", attributes={"b": 1.0, "a": [True, None]})
        before = compose(record, SOURCE)
        logs.conceal(["another-secret-1"])
        assert compose(record, SOURCE) == before


class TestContent:
    """The digest of what is evidence in a body."""

    @pytest.mark.parametrize(
        "other",
        [
            {"attributes": {"votes": 2}},
            {"url": "https://e.example/1"},
            {"account_id": "a-1"},
            {"product_ids": ("p-1",)},
            {"version": "2"},
            {"place": "line 3"},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_what_changes_with_the_day_does_not_count(self, other: dict[str, Any]) -> None:
        """A counter, a link or an account that changed is no change of the record."""
        assert compose(replace(PLAIN, **other), SOURCE).content == compose(PLAIN, SOURCE).content

    @pytest.mark.parametrize(
        "other",
        [
            {"text": "Other words."},
            {"title": "Another title"},
            {"context": "Another context"},
            {"kind": "transcript"},
            {"occurred_at": datetime(2020, 1, 1, tzinfo=UTC)},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_what_zentrik_reads_does(self, other: dict[str, Any]) -> None:
        """Whatever insights are drawn from is seen to change."""
        assert compose(replace(PLAIN, **other), SOURCE).content != compose(PLAIN, SOURCE).content

    def test_words_do_not_run_into_one_another(self) -> None:
        """A word that moves from the title into the text is a change."""
        one, other = replace(PLAIN, title="ab", text="c"), replace(PLAIN, title="a", text="bc")
        assert compose(one, SOURCE).content != compose(other, SOURCE).content

    def test_it_can_be_read_off_the_body(self) -> None:
        """A body that was kept tells its content, typed or raw, and is itself but for a new name."""
        raw = RawRecord(id="1", body={"data": {"subject": "Hello"}, "status": "open", "externalId": "x"})
        for signal in (compose(PLAIN, SOURCE), compose(raw, SOURCE)):
            assert content_of(signal.body) == signal.content
            assert json.loads(named(signal.body, "x#2")) == json.loads(signal.body) | {"externalId": "x#2"}
            assert content_of(named(signal.body, "x#2")) == signal.content
