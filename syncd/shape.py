"""A record as the operator wants it: filtered, reworded, and with the account and the products to look up for it.

`record` in a setting is always what the source gave: no setting sees what another one made of it.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from syncd.connector import Source
from syncd.errors import RecordError, SourceError
from syncd.expressions import View, condition, template, view, worked_out
from syncd.kit.people import company_domain
from syncd.logs import holds_secret
from syncd.mapping import NOTHING, AccountRule
from syncd.records import Json, Page, RawRecord, Record, SetAside

By: TypeAlias = Literal["externalId", "domain", "name"]

LONGEST_ASKED = 300
"""What is longer is no name of an account."""


class AccountFileUnreadable(SourceError):
    """The file that says which records belong to which account cannot be used."""

    code = "account_file"


@dataclass(frozen=True, slots=True)
class Ask:
    """What an account or a product is to be found by."""

    by: By
    value: str


@dataclass(frozen=True, slots=True)
class Shaped:
    """A record in the operator's words; the accounts to look for, the first that is there being the one; the products,
    by externalId or name; and how the company is called, should its account have to be created."""

    record: Record | RawRecord
    account: tuple[Ask, ...] = ()
    products: tuple[str, ...] = ()
    company: str | None = None


def shape(source: Source, page: Page) -> tuple[Page, list[Shaped]]:
    """A page without the records that are not wanted (they count as filtered) or cannot be worked out (they are set
    aside), and the others as they are wanted.

    A record that came ready to post is left as it is. Raises `AccountFileUnreadable`.
    """
    if source.mapping == NOTHING:
        return page, [Shaped(record) for record in page.records]
    shaped: list[Shaped] = []
    aside = list(page.set_aside)
    filtered = page.filtered
    for record in page.records:
        try:
            one = _shaped(source, record) if isinstance(record, Record) else Shaped(record)
        except RecordError as error:
            aside.append(SetAside(record.place or record.id or "a record without id", str(error)))
            continue
        if one is None:
            filtered += 1
        else:
            shaped.append(one)
    return replace(page, records=[one.record for one in shaped], set_aside=aside, filtered=filtered), shaped


def _shaped(source: Source, record: Record) -> Shaped | None:
    """Raises `RecordError` when a setting cannot be worked out for it."""
    mapping = source.mapping
    seen = view(record)
    if mapping.where is not None and not worked_out("where", condition(mapping.where), seen):
        return None

    def text(setting: str, written: str | None, otherwise: str | None) -> str | None:
        if written is None:
            return otherwise
        value: str = worked_out(setting, template(written), seen)
        return value or None

    added = {
        name: value
        for name, written in mapping.attributes.items()
        if (value := text(f"attributes.{name}", written, None))
    }
    reworded = replace(
        record,
        title=text("title", mapping.title, record.title),
        text=text("text", mapping.text, record.text) or "",
        context=text("context", mapping.context, record.context),
        kind=text("signal_type", mapping.signal_type, record.kind) or "",
        attributes={**record.attributes, **added} if added else record.attributes,
    )
    if mapping.raw_signal:
        return Shaped(replace(reworded, raw=_raw(source, reworded, seen)))
    named = record.account_id or record.account_ids or record.account_external_id
    asks = () if named else tuple(dict.fromkeys(ask for rule in mapping.account if (ask := _ask(rule, record, seen))))
    company = record.organisation.name if record.organisation else None
    return Shaped(reworded, asks, tuple(_products(source, seen)), company if company and _is_askable(company) else None)


def _raw(source: Source, record: Record, seen: View) -> dict[str, Json]:
    """The fields of a raw body: those of every raw signal, and over them the ones that are written down."""
    provider = record.provider or source.connector.provider
    data = {"text": record.text, "additionalContext": record.context}
    raw: dict[str, Json] = {
        "evidenceKind": record.kind,
        "source": {"type": provider, "external_data": {**record.attributes, "signalType": record.kind}},
        "data": {name: value for name, value in data.items() if value},
    }
    match source.mapping.raw_signal:
        case dict() as written:
            return {**raw, **{name: _worked_out(value, f"raw_signal.{name}", seen) for name, value in written.items()}}
        case _:
            return raw


def _worked_out(value: Json, setting: str, seen: View) -> Json:
    match value:
        case str():
            worked: str = worked_out(setting, template(value), seen)
            return worked
        case Mapping():
            return {name: _worked_out(inner, f"{setting}.{name}", seen) for name, inner in value.items()}
        case list() | tuple():
            return [_worked_out(inner, setting, seen) for inner in value]
        case _:
            return value


def _products(source: Source, seen: View) -> Iterator[str]:
    for number, rule in enumerate(source.mapping.products):
        if rule.when is None or worked_out(f"products.{number}.when", condition(rule.when), seen):
            product: str = worked_out(f"products.{number}.product", template(rule.product), seen)
            if _is_askable(product):
                yield product


def _ask(rule: AccountRule, record: Record, seen: View) -> Ask | None:
    """What a rule has an account looked for by; None where this record does not say it."""

    def asked(by: By, written: str) -> Ask | None:
        setting = {"externalId": "external_id"}.get(by, by)
        value: str | None = worked_out(f"account.{setting}", template(written), seen)
        if by == "domain":
            value = company_domain(value)
        return Ask(by, value) if value and _is_askable(value) else None

    match rule:
        case AccountRule(external_id=str(written)):
            return asked("externalId", written)
        case AccountRule(name=str(written)):
            return asked("name", written)
        case AccountRule(domain=str(written)):
            return asked("domain", written)
        case AccountRule(file=Path() as path):
            found = account_file(path)
            external_id = next((found[key] for key in _keys(record) if key in found), None)
            return Ask("externalId", external_id) if external_id else None
        case _:
            domain = _domain(record)
            return Ask("domain", domain) if domain else None


def _domain(record: Record) -> str | None:
    """The domain of the company a record comes from."""
    if record.organisation and (domain := company_domain(record.organisation.domain)):
        return domain
    addresses = (person.email for person in record.people if person.role == "customer" and person.email)
    return company_domain(next(addresses, None))


def _keys(record: Record) -> Iterator[str]:
    """What a mapping file may know the company by, the surest first."""
    organisation = record.organisation
    named = (organisation.id, _domain(record), organisation.name) if organisation else (_domain(record),)
    return (_key(each) for each in named if each)


def _key(text: str) -> str:
    return " ".join(text.split()).casefold()


def _is_askable(value: str) -> bool:
    """Whether Zentrik can be asked for it, and the ledger keep that it was."""
    return 0 < len(value) <= LONGEST_ASKED and value.isprintable() and not holds_secret(value)


def account_file(path: Path) -> Mapping[str, str]:
    """What a mapping file says: an account's externalId by what is matched. Raises `AccountFileUnreadable`."""
    try:
        found = path.stat()
        return _read(path, found.st_mtime_ns, found.st_size)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise AccountFileUnreadable(f"account.file: cannot read {path}: {why}") from error


@functools.lru_cache(maxsize=64)
def _read(path: Path, _changed_at: int, _size: int) -> Mapping[str, str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        lacking = [name for name in ("match", "externalId") if name not in (rows.fieldnames or ())]
        if lacking:
            raise AccountFileUnreadable(
                f"account.file: {path} has no column {' and no column '.join(lacking)}; its first line is "
                "match,externalId"
            )
        pairs = ((_key(row["match"] or ""), (row["externalId"] or "").strip()) for row in rows)
        return {match: external_id for match, external_id in pairs if match and _is_askable(external_id)}
