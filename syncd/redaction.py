"""Redaction: what gives people and accesses away is taken out of a body, and counted. Pure: the same in, the same out.

`detectors` find it. In its place stands what it was, `[email]`, or with a key a pseudonym, `[email k3v7q2m4xa]`, the
same for the same address wherever it turns up. Redacting what is redacted changes nothing.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b32encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from urllib.parse import quote, unquote, urlsplit

from syncd.detectors import (
    Found,
    Kind,
    Names,
    cards,
    domain_of,
    emails,
    ibans,
    identity,
    is_card,
    is_kept,
    keys,
    phones,
)
from syncd.errors import RecordError
from syncd.records import Json, Person

__all__ = ["Kind", "Redaction", "Redactor", "summary"]

_CALLED = {kind: str(kind) for kind in Kind} | {Kind.PARTICIPANT: "person"}
_STAND_IN = re.compile(rf"\[(?:{'|'.join(_CALLED.values())})(?: [a-z2-7]{{10}})?\]")

_CERTAIN = frozenset({Kind.EMAIL, Kind.CARD, Kind.IBAN})
"""What the last gate looks for: what a checksum or its form leaves no doubt of."""

_ROUNDS = 10
"""What was taken out may leave something beside it that looks like something only now. Twice is rare."""

_IDS = ("externalId", "accountId", "accountIds", "accountExternalId", "productIds")
_AS_THEY_ARE = frozenset({*_IDS, "signalType", "providerType", "occurredAt"})

_IN_WORDS = {
    Kind.EMAIL: ("e-mail address", "e-mail addresses"),
    Kind.PHONE: ("phone number", "phone numbers"),
    Kind.CARD: ("card number", "card numbers"),
    Kind.IBAN: ("IBAN", "IBANs"),
    Kind.KEY: ("key", "keys"),
    Kind.PARTICIPANT: ("name", "names"),
}


def summary(counts: Mapping[str, int]) -> str:
    """How much was taken out, in words: `2 e-mail addresses, 1 phone number taken out`."""
    told = (f"{counts[kind]:,} {_IN_WORDS[kind][counts[kind] != 1]}" for kind in Kind if counts.get(kind))
    return f"{', '.join(told)} taken out"


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is taken out, and what stands in its place: a mask, or, with a `pseudonym_key`, a pseudonym.

    E-mail addresses of the domains to `keep`, and participants who have one, are left alone. `region` (GB) finds phone
    numbers also as they are dialled there.
    """

    kinds: frozenset[Kind] = frozenset(Kind)
    keep: frozenset[str] = frozenset()
    region: str | None = None
    pseudonym_key: bytes | None = field(default=None, repr=False)

    @property
    def digest(self) -> str:
        """Another one as soon as anything is taken out otherwise. It does not give the key away."""
        said = repr((sorted(self.kinds), sorted(self.keep), self.region, self.pseudonym_key is None))
        return hmac.new(self.pseudonym_key or b"", said.encode(), sha256).hexdigest()[:16]

    def redacted(
        self, body: Mapping[str, Json], people: Iterable[Person] = ()
    ) -> tuple[dict[str, Json], dict[str, int]]:
        """The body with all of it taken out, and how much that was, by kind.

        Raises `RecordError` when something stands in an id, which has to stay as it is.
        """
        redactor = Redactor(self, people)
        redacted = redactor.body(body)
        return redacted, {str(kind): number for kind in Kind if (number := redactor.counts[kind])}

    def gate(self, encoded: bytes) -> None:
        """Look once more, at what is about to be posted. Raises `RecordError` when something certain is left in it."""
        again = Redactor(replace(self, kinds=self.kinds & _CERTAIN), ())
        again.body(json.loads(encoded))
        if again.counts:
            raise RecordError(
                f"redaction left {_one(min(again.counts))} in it, so it is not posted; please report it with the "
                "settings of `redact`"
            )


class Redactor:
    """One record's redaction, which knows who takes part. `counts` says how much it has taken out, by kind."""

    def __init__(self, redaction: Redaction, people: Iterable[Person]) -> None:
        self.counts: Counter[Kind] = Counter()
        self._by = redaction
        self._names = Names(())
        self._whose: dict[str, str] = {}
        if Kind.PARTICIPANT in redaction.kinds:
            others = [each for each in people if not is_kept(domain_of(each.email or ""), redaction.keep)]
            self._names = Names(each.name for each in others if each.name)
            self._whose = {
                _plain(each.email): identity(each.name or _plain(each.email)) for each in others if each.email
            }

    def body(self, body: Mapping[str, Json]) -> dict[str, Json]:
        """A body in the words of the Signals API: all that people wrote in it. Its ids, types and dates stay.

        Raises `RecordError` when an id holds something.
        """
        for name in _IDS:
            for id_ in _texts(body.get(name)):
                if found := min((each.kind for each in self._find(id_, is_id=True)), default=None):
                    raise RecordError(
                        f"its {name} holds {_one(found)}, which `redact` takes out and an id cannot do without: map "
                        "another id"
                    )
        redacted: dict[str, Json] = {}
        for name, value in body.items():
            if name in _AS_THEY_ARE:
                redacted[name] = value
            elif name == "sourceLinks" and isinstance(value, list | tuple):
                links = [link for each in value if (link := self._link(each)) is not None]
                if links or not value:
                    redacted[name] = links
            else:
                redacted[name] = self.json(value)
        return redacted

    def json(self, value: Json) -> Json:
        """A JSON value: its texts, the names in it, and whole numbers that are those of cards."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                redacted: dict[str, Json] = {}
                for name, each in value.items():
                    redacted[_free(self.text(name), redacted)] = self.json(each)
                return redacted
            case list() | tuple():
                return [self.json(each) for each in value]
            case int() if 10**12 <= value < 10**19 and Kind.CARD in self._by.kinds and is_card(str(value)):
                return self._instead(Found(0, 0, Kind.CARD, str(value)))
            case _:
                return value

    def text(self, text: str, *, is_id: bool = False) -> str:
        """A text. All of it that gives nothing away stays, to the letter."""
        for _ in range(_ROUNDS):
            pieces = list(self._pieces(text, is_id=is_id))
            if len(pieces) == 1:
                return text
            text = "".join(pieces)
        raise RecordError(f"after {_ROUNDS} rounds of redaction there was still something to take out of it")

    def url(self, url: str) -> str | None:
        """An address. None when its host, or what stands before that, gives something away."""
        try:
            host = urlsplit(url).netloc
        except ValueError:
            host = ""
        if not host:
            return url if self.text(url) == url else None
        if "@" in host or any(True for _ in self._find(host, is_id=True)):
            return None
        before, _, rest = url.partition(host)
        return before + host + "".join(map(self._step, _DELIMITER.split(rest)))

    def _step(self, step: str) -> str:
        """What stands between two delimiters of an address. A bare number there is an id."""
        plain = unquote(step)
        redacted = self.text(plain, is_id=True)
        return step if redacted == plain else quote(redacted, safe="")

    def _link(self, link: Json) -> Json:
        """A link without what gives somebody away; None when it would lead nowhere then."""
        if not isinstance(link, Mapping):
            return self.json(link)
        redacted: dict[str, Json] = {}
        for name, value in link.items():
            if name == "url" and isinstance(value, str):
                redacted[name] = self.url(value)
            else:
                redacted[name] = value if name == "type" else self.json(value)
        return None if redacted.get("url", "") is None else redacted

    def _pieces(self, text: str, *, is_id: bool = False) -> Iterator[str]:
        """The text in pieces, those that give something away exchanged: one piece where there is nothing."""
        done = 0
        for found in self._merged(text, is_id=is_id):
            yield text[done : found.start]
            yield self._instead(found)
            done = found.end
        yield text[done:]

    def _merged(self, text: str, *, is_id: bool) -> Iterator[Found]:
        """What was found, in order. What overlaps goes together, under what the longest of it is."""
        found = sorted(self._find(text, is_id=is_id), key=lambda each: (each.start, -each.end, each.kind))
        if not found:
            return
        longest, start, end = found[0], found[0].start, found[0].end
        for each in found[1:]:
            if each.start >= end:
                yield longest._replace(start=start, end=end)
                longest, start, end = each, each.start, each.end
            elif each.end - each.start > longest.end - longest.start:
                longest = each
            end = max(end, each.end)
        yield longest._replace(start=start, end=end)

    def _find(self, text: str, *, is_id: bool = False) -> Iterator[Found]:
        """What stands in a text, between the stand-ins that are in it already."""
        done = 0
        for each in _STAND_IN.finditer(text) if "[" in text else ():
            yield from self._found_in(text, done, each.start(), is_id=is_id)
            done = each.end()
        yield from self._found_in(text, done, len(text), is_id=is_id)

    def _found_in(self, text: str, start: int, end: int, *, is_id: bool) -> Iterator[Found]:
        stretch = text if (start, end) == (0, len(text)) else text[start:end]
        for each in self._look(stretch, is_id=is_id):
            yield each if not start else each._replace(start=each.start + start, end=each.end + start)

    def _look(self, text: str, *, is_id: bool) -> Iterator[Found]:
        """What stands in a text. In an id a bare number is no card, a phone number begins with its +, and one word of
        a name says nothing."""
        kinds = self._by.kinds
        if Kind.EMAIL in kinds:
            yield from emails(text, self._by.keep)
        elif self._whose:
            for each in emails(text):
                if whose := self._whose.get(each.value):
                    yield each._replace(kind=Kind.PARTICIPANT, value=whose)
        if Kind.CARD in kinds:
            yield from cards(text, bare=not is_id)
        if Kind.IBAN in kinds:
            yield from ibans(text)
        if Kind.KEY in kinds:
            yield from keys(text)
        if Kind.PHONE in kinds:
            yield from phones(text, None if is_id else self._by.region)
        if self._names:
            yield from self._names.find(text, parts=not is_id)

    def _instead(self, found: Found) -> str:
        """What stands in its place; counts it."""
        self.counts[found.kind] += 1
        called = _CALLED[found.kind]
        if self._by.pseudonym_key is None:
            return f"[{called}]"
        meant = f"{found.kind}\0{found.value}".encode(errors="surrogatepass")
        digest = hmac.digest(self._by.pseudonym_key, meant, "sha256")
        return f"[{called} {b32encode(digest)[:10].decode().lower()}]"


_DELIMITER = re.compile(r"([/?&=#;])")


def _one(kind: Kind) -> str:
    noun = _IN_WORDS[kind][0]
    return f"{'an' if noun[0] in 'eI' else 'a'} {noun}"


def _plain(address: str) -> str:
    return address.strip().casefold()


def _texts(value: Json) -> Sequence[str]:
    match value:
        case str():
            return [value]
        case list() | tuple():
            return [each for each in value if isinstance(each, str)]
        case _:
            return []


def _free(name: str, taken: Mapping[str, Json]) -> str:
    """The name, or where two have become the same one, the name with a number: neither's value is lost."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name} {number}"
    return free
