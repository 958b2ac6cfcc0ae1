"""Whom a record speaks of: the e-mail addresses and accounts by which somebody's request finds it again.

A subject is `address:bob@example.com` or `account:acme-1`. What the ledger keeps of one is a keyed digest, never this.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise

from syncd.records import Json, RawRecord, Record

MOST = 50
"""So many subjects of one record are taken; those it names itself (its people, its accounts) before those in texts."""

_LONGEST_LOCAL = 64
_LONGEST_DOMAIN = 253
_LOCAL = re.compile(rf"[\w.+%'&=~-]{{1,{_LONGEST_LOCAL}}}\Z")
_DOMAIN = re.compile(r"[\w-]+(?:\.[\w-]+)+")
_FOREIGN = re.compile(r"[\s<>@,;]")
_ACCOUNTS = ("accountId", "accountIds", "accountExternalId")


def of_address(text: str) -> str | None:
    """The subject that is an e-mail address, however it is written: case and the two spellings of a domain do not
    matter. None when the text is no address."""
    local, at, domain = unicodedata.normalize("NFC", text.strip()).lower().rpartition("@")
    host = _as_dns(domain.rstrip("."))
    is_one = at and 0 < len(local) <= _LONGEST_LOCAL and "." in host and len(host) <= _LONGEST_DOMAIN
    return f"address:{local}@{host}" if is_one and not _FOREIGN.search(local + host) else None


def of_account(id_: str) -> str:
    """The subject that is an account, by the accountId or accountExternalId a body carries."""
    return f"account:{id_.strip()}"


def subjects_of(record: Record | RawRecord) -> tuple[str, ...]:
    """Whom a record speaks of: its people, its accounts, and the addresses that stand in its texts; `MOST` at most."""
    match record:
        case Record():
            accounts: Iterable[str | None] = [record.account_id, *record.account_ids, record.account_external_id]
            texts: Iterable[str | None] = chain((record.title, record.text, record.context), _texts(record.attributes))
            people = [person.email for person in record.people if person.email]
        case RawRecord():
            accounts = [text for name in _ACCOUNTS for text in _texts(record.body.get(name))]
            texts, people = _texts(record.body), []
    named = chain((of_account(each) for each in accounts if each), filter(None, map(of_address, people)))
    written = (address for text in texts if text and "@" in text for address in _addresses(text))
    found: dict[str, None] = {}  # in order, each once: an address that a text repeats hides no other
    for subject in chain(named, written):
        found[subject] = None
        if len(found) == MOST:
            break
    return tuple(found)


def _addresses(text: str) -> Iterator[str]:
    """The addresses in a text, in one pass along its @ signs: a long transcript costs no more than that."""
    for before, after in pairwise(text.split("@")):
        local = _LOCAL.search(before[-_LONGEST_LOCAL:])
        domain = _DOMAIN.match(after[:_LONGEST_DOMAIN])
        if local and domain and (subject := of_address(f"{local[0].lstrip(_QUOTES)}@{domain[0].rstrip('-_')}")):
            yield subject


_QUOTES = "'.&=~-"
"""What may stand before an address in a text and is rarely its beginning."""


def _texts(value: Json) -> Iterator[str]:
    """Every text in a JSON value, however deep it lies."""
    left: list[Json] = [value]
    while left:
        match left.pop():
            case str() as text:
                yield text
            case Mapping() as fields:
                left += fields.values()
            case Sequence() as items:
                left += items


def _as_dns(domain: str) -> str:
    """A domain as the DNS spells it; one that it cannot spell stays as it is."""
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain
