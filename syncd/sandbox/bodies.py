"""What may be posted: the typed and the raw body of «Create a signal», and the body of «Update a signal».

Each is checked against the reference and turned into a `Draft`, which knows no difference between the two.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from syncd.records import KINDS

SignalType = Literal["transcript", "support_ticket", "review", "feedback_record", "discovery_report"]
Profile = Literal["default_transcript", "support_ticket", "survey_response", "discovery_report"]
JsonObject = dict[str, Any]

MANUAL = "manual-text"
"""The processor route, and the source type, of every typed signal."""

_PROFILES = {
    "transcript": "default_transcript",
    "support_ticket": "support_ticket",
    "review": "survey_response",
    "feedback_record": "survey_response",
    "discovery_report": "discovery_report",
}
_ACCOUNTS = uuid.UUID("6f1f0a52-7c0e-4e1b-9a35-2f1c3f0f5a11")  # an account's uuid follows from its external id


class Invalid(ValueError):
    """A body the Signals API would not take, field by field in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A signal as its sender described it, with everything filled in that follows from that alone."""

    name: str | None
    text: str
    signal_type: str | None
    processor_type: str
    provider_type: str
    evidence_kind: str
    analysis_profile: str
    links: tuple[JsonObject, ...]
    source: JsonObject
    data: JsonObject | None
    stores_text: bool
    external_id: str | None
    occurred_at: datetime | None
    context: str | None = None
    insight_ids: tuple[str, ...] = ()
    account_ids: tuple[str, ...] = ()
    account_external_id: str | None = None


def _iso_date(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("should be an ISO 8601 date such as 2025-03-11T14:30:00Z") from error


IsoDate = Annotated[datetime, PlainValidator(_iso_date)]
Filled = Annotated[str, StringConstraints(pattern=r"\S")]


class Body(BaseModel):
    """A JSON object as the API spells it. Fields it does not know are accepted and forgotten."""

    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel)


class SourceLink(Body):
    """Where a person finds the original."""

    url: AnyHttpUrl
    name: str | None = None
    type: str | None = None
    primary: bool | None = None


class SourceDescriptor(Body):
    """Where a raw signal comes from, in the words of its processor."""

    model_config = ConfigDict(extra="allow")

    type: Filled
    external_data: JsonObject | None = Field(default=None, alias="external_data")


class _Creation(Body):
    """What both ways of creating a signal have in common."""

    name: str | None = None
    provider_type: str | None = None
    evidence_kind: str | None = None
    analysis_profile: Profile | None = None
    occurred_at: IsoDate | None = None
    external_id: str | None = None
    source_links: list[SourceLink] | None = None


class TypedBody(_Creation):
    """A text and what kind of text it is: the recommended way."""

    text: Filled
    signal_type: SignalType
    additional_context: str | None = None
    product_ids: list[str] | None = None
    account_id: str | None = None
    account_ids: list[str] | None = None
    account_external_id: str | None = None
    source_external_data: JsonObject | None = None

    def draft(self) -> Draft:
        """The signal it describes."""
        provider = self.provider_type or "external_api"
        evidence = self.evidence_kind or self.signal_type
        accounts = dict.fromkeys([self.account_id, *(self.account_ids or ())])
        account_ids = tuple(account for account in accounts if account)
        if self.account_external_id and not account_ids:
            account_ids = (str(uuid.uuid5(_ACCOUNTS, self.account_external_id)),)
        links = _normalised(self.source_links, provider, evidence)
        metadata = {
            "productIds": self.product_ids,
            "accountId": account_ids[0] if account_ids else None,
            "accountExternalId": self.account_external_id,
            "additionalContext": self.additional_context,
        }
        return Draft(
            name=self.name,
            text=self.text,
            signal_type=self.signal_type,
            processor_type=MANUAL,
            provider_type=provider,
            evidence_kind=evidence,
            analysis_profile=self.analysis_profile or _PROFILES[self.signal_type],
            links=links,
            source=_source(MANUAL, self.source_external_data, links),
            data={key: value for key, value in metadata.items() if value},
            stores_text=True,
            external_id=self.external_id or None,
            occurred_at=self.occurred_at,
            account_ids=account_ids,
            account_external_id=self.account_external_id,
        )


class RawBody(_Creation):
    """A source descriptor and a payload for its processor: the lower-level way."""

    source: SourceDescriptor
    data: JsonObject | None = None
    processor_type: str | None = None
    integration_id: str | None = None
    context: str | None = None
    insight_ids: list[str] | None = None

    def draft(self) -> Draft:
        """The signal it describes; what it leaves out is looked for in source.external_data."""
        declared = self.source.external_data or {}
        manual = self.source.type == MANUAL
        kind = declared.get("signalType")
        signal_type = kind if manual and kind in KINDS else None
        provider = self.provider_type or _text(declared.get("provider")) or self.source.type
        evidence = self.evidence_kind or _text(kind) or "transcript"
        profile = self.analysis_profile or _text(declared.get("analysisProfile"))
        links = _normalised(self.source_links, provider, evidence)
        payload = self.data or {}
        return Draft(
            name=self.name,
            text=_text(payload.get("transcriptText")) or _text(payload.get("text")) or "",
            signal_type=signal_type,
            processor_type=self.processor_type or self.source.type,
            provider_type=provider,
            evidence_kind=evidence,
            analysis_profile=profile or _PROFILES.get(evidence, "default_transcript"),
            links=links,
            source={**(self.source.model_extra or {}), **_source(self.source.type, declared, links)},
            data=self.data,
            stores_text=False,
            external_id=self.external_id or None,
            occurred_at=self.occurred_at,
            context=self.context,
            insight_ids=tuple(self.insight_ids or ()),
        )


class PatchBody(Body):
    """The fields of a signal that can be changed; the ones not sent stay as they are."""

    source: SourceDescriptor | None = None
    data: JsonObject | None = None
    insight_ids: list[str] | None = None
    external_id: str | None = None
    status: Literal["pending", "processed"] | None = None
    context: str | None = None


def creation(body: object) -> Draft:
    """What a posted JSON value asks to be created. A body with `source` and neither text nor type is raw.

    Raises `Invalid`.
    """
    raw = isinstance(body, Mapping) and "source" in body and not {"text", "signalType"} & body.keys()
    return _read(RawBody, body).draft() if raw else _read(TypedBody, body).draft()


def patch(body: object) -> PatchBody:
    """What a posted JSON value asks to be changed. Raises `Invalid`."""
    return _read(PatchBody, body)


_Kind = TypeVar("_Kind", bound=Body)


def _read(model: type[_Kind], body: object) -> _Kind:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        complaints = (
            f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}"
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise Invalid("; ".join(complaints)) from error


def _normalised(links: list[SourceLink] | None, provider: str, evidence: str) -> tuple[JsonObject, ...]:
    shown = []
    for link in links or ():
        one: JsonObject = {
            "name": link.name or f"Open {provider} {evidence}".replace("_", " "),
            "url": str(link.url),
            "type": link.type or evidence,
        }
        if link.primary is not None:
            one["primary"] = link.primary
        shown.append(one)
    return tuple(shown)


def _source(kind: str, external_data: JsonObject | None, links: tuple[JsonObject, ...]) -> JsonObject:
    """Links stand in source.external_data as well, as the API answers them."""
    data = {**(external_data or {}), **({"links": list(links)} if links else {})}
    return {"type": kind, "external_data": data}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
