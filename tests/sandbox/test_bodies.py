"""What may be posted, and what may not."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.sandbox.bodies import Invalid, creation, patch


@pytest.mark.parametrize(
    ("changes", "blamed"),
    [
        ({"text": None}, "text"),
        ({"text": 7}, "text"),
        ({"text": " \n"}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"signalType": None}, "signalType"),
        ({"signalType": "tweet"}, "signalType"),
        ({"name": 1}, "name"),
        ({"providerType": ["g2"]}, "providerType"),
        ({"evidenceKind": {}}, "evidenceKind"),
        ({"analysisProfile": "review"}, "analysisProfile"),
        ({"additionalContext": 1}, "additionalContext"),
        ({"occurredAt": "last Tuesday"}, "occurredAt"),
        ({"occurredAt": 1741703400}, "occurredAt"),
        ({"occurredAt": "0001-01-01T00:00:00+14:00"}, "occurredAt"),
        ({"productIds": "product-uuid-1"}, "productIds"),
        ({"productIds": [1]}, "productIds.0"),
        ({"accountId": 1}, "accountId"),
        ({"accountIds": [None]}, "accountIds.0"),
        ({"accountExternalId": 1}, "accountExternalId"),
        ({"externalId": 1}, "externalId"),
        ({"sourceLinks": {"url": "https://example.com"}}, "sourceLinks"),
        ({"sourceLinks": [{"name": "no url"}]}, "sourceLinks.0.url"),
        ({"sourceLinks": [{"url": "ftp://example.com/a"}]}, "sourceLinks.0.url"),
        ({"sourceLinks": [{"url": "https://example.com/a", "primary": "yes"}]}, "sourceLinks.0.primary"),
        ({"sourceExternalData": "rating 3"}, "sourceExternalData"),
    ],
)
def test_a_wrong_field_is_named(review: dict[str, Any], changes: dict[str, Any], blamed: str) -> None:
    """A connector that sends a field wrongly learns which, here and not first from Zentrik."""
    with pytest.raises(Invalid, match=blamed):
        creation({**review, **changes})


@pytest.mark.parametrize("missing", ["text", "signalType"])
def test_what_is_required_is_missed(review: dict[str, Any], missing: str) -> None:
    """A body without its text or its type is not accepted by mistake."""
    del review[missing]
    with pytest.raises(Invalid, match=missing):
        creation(review)


@pytest.mark.parametrize("body", [None, [], "text", 1, {}])
def test_only_an_object_creates(body: object) -> None:
    """Valid JSON of any other shape is refused in words, not with a crash."""
    with pytest.raises(Invalid):
        creation(body)


def test_unknown_fields_and_nulls_pass(review: dict[str, Any]) -> None:
    """A client that sends a field of a newer reference, or null for «nothing», is not turned away."""
    draft = creation({**review, "productId": "p", "brandNew": [1], "name": None, "accountIds": None})
    assert draft.external_id == "g2-review:review-row-1"


@pytest.mark.parametrize(
    ("kind", "profile"),
    [
        ("transcript", "default_transcript"),
        ("support_ticket", "support_ticket"),
        ("review", "survey_response"),
        ("feedback_record", "survey_response"),
        ("discovery_report", "discovery_report"),
    ],
)
def test_the_profile_follows_from_the_type(kind: str, profile: str) -> None:
    """The documented profile mapping is what a developer sees."""
    draft = creation({"text": "Hello", "signalType": kind})
    assert (draft.analysis_profile, draft.evidence_kind, draft.provider_type) == (profile, kind, "external_api")


def test_overrides_are_kept(review: dict[str, Any]) -> None:
    """Who sends an evidence kind or a profile of their own gets it back."""
    draft = creation({**review, "evidenceKind": "email_thread", "analysisProfile": "discovery_report"})
    assert (draft.evidence_kind, draft.analysis_profile) == ("email_thread", "discovery_report")


def test_a_raw_body_needs_a_source_with_a_type(ticket: dict[str, Any]) -> None:
    """A raw signal nobody could route is refused."""
    for source in ({}, {"type": ""}, {"type": 1}, "zendesk", None):
        with pytest.raises(Invalid, match="source"):
            creation({**ticket, "source": source})


def test_a_raw_body_speaks_through_its_source(ticket: dict[str, Any]) -> None:
    """What a raw body declares under source.external_data becomes its provenance."""
    draft = creation(ticket)
    assert draft.signal_type == "support_ticket"
    assert draft.provider_type == "client_helpdesk_export"
    assert draft.analysis_profile == "support_ticket"
    assert draft.source == ticket["source"]
    assert draft.data == ticket["data"]
    assert draft.text == "SCIM group sync times out."


def test_a_vendor_s_raw_body_has_no_signal_type() -> None:
    """A raw signal of a native processor answers signalType null, as the reference shows."""
    draft = creation({"source": {"type": "zendesk", "site": "acme"}, "evidenceKind": "support_ticket"})
    assert draft.signal_type is None
    assert (draft.processor_type, draft.provider_type) == ("zendesk", "zendesk")
    assert draft.analysis_profile == "support_ticket"
    assert draft.source["site"] == "acme"


def test_links_are_normalised_and_named(review: dict[str, Any]) -> None:
    """A link sent as a bare url comes back with all the fields the Signal object promises."""
    draft = creation({**review, "sourceLinks": [{"url": "HTTPS://Example.com"}]})
    assert draft.links == ({"name": "Open g2 review", "url": "https://example.com/", "type": "review"},)


def test_accounts_are_gathered(review: dict[str, Any]) -> None:
    """accountId stands first, is not repeated, and an external account id alone always means the same account."""
    both = creation({**review, "accountId": "a", "accountIds": ["b", "a"]})
    alone, again = creation(review), creation(review)
    assert both.account_ids == ("a", "b")
    assert alone.account_ids == again.account_ids
    assert len(alone.account_ids) == 1


@pytest.mark.parametrize(
    ("body", "blamed"),
    [
        ([], "body"),
        ({"status": "failed"}, "status"),
        ({"source": {"external_data": {}}}, "source.type"),
        ({"data": "x"}, "data"),
        ({"insightIds": "x"}, "insightIds"),
        ({"externalId": 1}, "externalId"),
        ({"context": 1}, "context"),
    ],
)
def test_a_wrong_change_is_named(body: object, blamed: str) -> None:
    """An update the API would refuse is refused with the field's name."""
    with pytest.raises(Invalid, match=blamed):
        patch(body)
