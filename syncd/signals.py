"""From a record to the body that is posted, and the externalId it is known by. The mapping, separate and explicit.

Field names and meanings: Zentrik External REST API, «Create a signal».
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeAlias
from urllib.parse import urlsplit

from syncd.connector import Source
from syncd.dates import UnreadableDate, instant
from syncd.errors import RecordError
from syncd.logs import holds_secret, redact_json
from syncd.records import KINDS, Json, Link, Person, RawRecord, Record
from syncd.redaction import Redaction
from syncd.subjects import subjects_of

JSON_TYPE = "application/json"
OF_ALL_SIGNALS = ("name", "providerType", "occurredAt", "externalId", "sourceLinks")
"""The fields of a text's body that a raw signal has as well."""

LONGEST_ID = 512
"""An externalId of more characters is refused: ids of that length are a mistake in the mapping."""

EVIDENCE = ("name", "text", "signalType", "additionalContext", "occurredAt", "data")
"""What Zentrik draws insights from. Whatever else stands in a body (links, counters, accounts) may change with the day.
`data` holds the words of a raw body."""

_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""A control character, or half a character."""


Asks: TypeAlias = tuple[tuple[str, str], ...]
"""What an account is asked by, in turn: fields and values."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What the ledger keeps of a record: its name at Zentrik, the bytes to post, and a few words for people.

    `body` is UTF-8 JSON, encoded once; `fingerprint` is its sha256. Both stay the same for the same record for ever,
    so a record that is seen again is known by them. `account` is the one the body names, `characters` the length of its
    name, text and context: what Zentrik has to read. `redacted` counts what was taken out, by kind. `content` is a
    digest of what is evidence in it (`EVIDENCE`): only where that differs has the record changed. `subjects` are those
    the record speaks of (see `subjects`); the ledger keeps a digest of each. `held` is what its account is asked by,
    where it waits until Zentrik has that.
    """

    external_id: str
    body: bytes
    fingerprint: bytes
    signal_type: str | None = None
    name: str | None = None
    occurred_at: datetime | None = None
    source_url: str | None = None
    place: str | None = None
    version: str | None = None
    account: str | None = None
    characters: int = 0
    redacted: Mapping[str, int] = field(default_factory=dict, hash=False)
    content: bytes = b""
    subjects: tuple[str, ...] = ()
    held: Asks = ()


def compose(record: Record | RawRecord, source: Source) -> Signal:
    """The signal a record becomes.

    A secret of the configuration that stands in the record, such as the key in a link, is taken out; so is what the
    source's `redaction` finds.

    Raises `RecordError` when it cannot become one: no id or one nobody could look up again, no text, a kind Zentrik
    does not know, a time without a zone, a secret in its id, or something there that redaction takes out.
    """
    match record:
        case Record():
            signal = replace(_typed(record, source), held=record.held)
        case RawRecord():
            signal = _raw(record, source)
    return replace(signal, subjects=subjects_of(record))


def _typed(record: Record, source: Source) -> Signal:
    if not record.id.strip():
        raise RecordError("it has no id")
    if not record.text.strip():
        raise RecordError("it has no text")
    if record.kind not in KINDS:
        raise RecordError(f"its type {record.kind!r} is none of {', '.join(KINDS)}")
    if record.occurred_at is not None and record.occurred_at.tzinfo is None:
        raise RecordError("its time has no zone")
    links = _links(record)
    external_id = f"{source.namespace}:{record.id}"
    body: dict[str, Json] = {
        "name": record.title,
        "text": record.text,
        "signalType": record.kind,
        "providerType": record.provider or source.connector.provider,
        "additionalContext": record.context,
        "occurredAt": _iso(record.occurred_at),
        "externalId": external_id,
        "productIds": [each for each in record.product_ids if each.strip()],
        "accountId": record.account_id,
        "accountIds": [each for each in record.account_ids if each.strip()],
        "accountExternalId": record.account_external_id,
        "sourceLinks": links,
        "sourceExternalData": dict(record.attributes),
    }
    if record.raw is not None:
        body = {name: body[name] for name in OF_ALL_SIGNALS} | {**record.raw, "externalId": external_id}
    return _sealed(
        external_id,
        {key: value for key, value in body.items() if value is not None and not _is_empty(value)},
        source.redaction,
        record.people,
        signal_type=record.kind,
        name=record.title,
        occurred_at=record.occurred_at,
        source_url=str(links[0]["url"]) if links else None,
        place=record.place,
        version=record.version,
    )


def _raw(record: RawRecord, source: Source) -> Signal:
    return _sealed(
        _own_id(record.body.get("externalId")) or f"{source.namespace}:{record.id}",
        record.body,
        source.redaction,
        signal_type=_text(record.body.get("signalType")) or _declared_type(record.body),
        name=_text(record.body.get("name")),
        occurred_at=_instant_or_none(record.body.get("occurredAt")),
        place=record.place,
    )


def _sealed(
    external_id: str,
    body: Mapping[str, Json],
    redaction: Redaction | None,
    people: Sequence[Person] = (),
    *,
    signal_type: str | None,
    name: str | None,
    occurred_at: datetime | None,
    source_url: str | None = None,
    place: str | None = None,
    version: str | None = None,
) -> Signal:
    if len(external_id) > LONGEST_ID:
        raise RecordError(f"its externalId has {len(external_id)} characters, more than {LONGEST_ID}")
    if not external_id.isprintable() and _UNSPEAKABLE.search(external_id):
        raise RecordError(f"its externalId {external_id!r} holds a control character or half a character")
    if holds_secret(external_id):
        raise RecordError("its id holds a secret of the configuration, and cannot be posted without it: map another id")
    redacted: Mapping[str, int] = {}
    try:
        if redaction is not None:
            body, redacted = redaction.redacted(body, people)
            name, source_url = _text(body.get("name")), _first_url(body) if source_url else None
        written = _JSON.encode(body)
        if holds_secret(written):
            body = redact_json(json.loads(written))
            written = _JSON.encode(body)
        encoded = written.encode()
        if redaction is not None:
            redaction.gate(encoded)
        content = _content(body)
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordError(f"it cannot be written as JSON: {error}") from error
    return Signal(
        external_id=external_id,
        body=encoded,
        fingerprint=hashlib.sha256(encoded).digest(),
        signal_type=_for_people(signal_type),
        name=_for_people(name),
        occurred_at=occurred_at,
        source_url=_for_people(source_url),
        place=_for_people(place),
        version=_for_people(version),
        account=_for_people(_text(body.get("accountExternalId")) or _text(body.get("accountId"))),
        characters=_characters(body),
        redacted=redacted,
        content=content,
    )


def _characters(body: Mapping[str, Json]) -> int:
    return sum(len(_text(body.get(name)) or "") for name in ("name", "text", "additionalContext"))


def redact_anew(external_id: str, body: bytes, redaction: Redaction) -> Signal | None:
    """What a body that was composed without that redaction becomes with it: the parts of the signal that change. None
    when it may leave as it is. Who took part in the record is not known any more.

    Raises `RecordError` when something stands in an id, which has to stay as it is.
    """
    redacted, counts = redaction.redacted(json.loads(body))
    if not counts:
        return None
    encoded = _JSON.encode(redacted).encode()
    redaction.gate(encoded)
    return Signal(
        external_id,
        encoded,
        hashlib.sha256(encoded).digest(),
        name=_for_people(_text(redacted.get("name"))),
        source_url=_for_people(_first_url(redacted)),
        characters=_characters(redacted),
        redacted=counts,
        content=_content(redacted),
    )


def named(body: bytes, external_id: str) -> bytes:
    """The body under another externalId, the rest as it is."""
    return _JSON.encode({**json.loads(body), "externalId": external_id}).encode()


def with_account(body: bytes, field: str, id_: str, redaction: Redaction | None) -> bytes:
    """The body with the account it is of, byte for byte as it is composed where that is known from the start.

    Raises `RecordError` when the id holds what redaction takes out.
    """
    if redaction is not None:
        redaction.redacted({field: id_})
    said: dict[str, Json] = json.loads(body)
    behind = {name: said.pop(name) for name in _BEHIND_ACCOUNT if name in said}
    return _JSON.encode({**said, field: id_, **behind}).encode()


_BEHIND_ACCOUNT = ("sourceLinks", "sourceExternalData")


def content_of(body: bytes) -> bytes:
    """The digest of the evidence in a body."""
    return _content(json.loads(body))


def _content(body: Mapping[str, Json]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for key in EVIDENCE:
        value = body.get(key)
        if value is not None:
            told = value if isinstance(value, str) else _JSON.encode(value)
            digest.update(f"{key} {len(told)} ".encode())
            digest.update(told.encode())
    return digest.digest()


def _as_dict(value: object) -> dict[str, Json]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is no JSON value")


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_as_dict)


def _for_people(text: str | None) -> str | None:
    """The text as every database can keep it (none keeps half a character, PostgreSQL no NUL), without secrets; None
    if blank."""
    if text is None:
        return None
    if text.isprintable() and not holds_secret(text):  # then there is nothing to take out
        storable = str(text)
    else:
        storable = str(redact_json(text)).replace("\0", "").encode("utf-8", "replace").decode()
    return storable if storable.strip() else None


def _is_empty(value: Json) -> bool:
    return not value.strip() if isinstance(value, str) else value in (None, [], {})


def _own_id(value: Json) -> str | None:
    """The externalId a raw body carries; one that is neither a text nor a whole number is refused."""
    match value:
        case None:
            return None
        case str() if not value.strip():
            return None
        case bool():
            raise RecordError(f"its externalId is {value}, not a text")
        case str() | int():
            return str(value)
        case _:
            raise RecordError(f"its externalId is a {type(value).__name__}, not a text")


def _links(record: Record) -> list[dict[str, Json]]:
    given = list(record.links)
    if record.url:
        given.insert(0, Link(record.url, type=record.kind, primary=True))
    links: list[dict[str, Json]] = []
    for link in given:
        if not _is_web_address(link.url):
            continue
        shown: dict[str, Json] = {
            "name": link.name,
            "url": link.url,
            "type": link.type,
            "primary": link.primary,
        }
        links.append({key: value for key, value in shown.items() if value and not _is_empty(value)})
    return links


def _first_url(body: Mapping[str, Json]) -> str | None:
    """The address of the first link that redaction left."""
    match body.get("sourceLinks"):
        case [{"url": str(url)}, *_]:
            return url
        case _:
            return None


def _is_web_address(url: str) -> bool:
    """The API takes http and https links; anything else would cost the whole record its place."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port  # the port is read because a bad one raises
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and not any(map(str.isspace, parts.netloc))


def _iso(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    try:
        utc = moment.astimezone(UTC)
    except OverflowError as error:
        raise RecordError(f"its time {moment.isoformat()} lies outside the calendar in UTC") from error
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(".000Z", "Z")


def _declared_type(body: Mapping[str, Json]) -> str | None:
    """The signalType a raw body declares for itself under source.external_data."""
    source = body.get("source")
    data = source.get("external_data") if isinstance(source, Mapping) else None
    return _text(data.get("signalType")) if isinstance(data, Mapping) else None


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def _instant_or_none(value: Json) -> datetime | None:
    try:
        return instant(value) if isinstance(value, str) else None
    except UnreadableDate:
        return None
