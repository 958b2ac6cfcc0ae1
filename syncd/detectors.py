"""What gives people and accesses away in running text, and where it stands. No state, no I/O.

Time is bounded by the length of a text: every pattern begins at an anchor and looks a fixed distance from there.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from stdnum import iban, luhn


class Kind(StrEnum):
    """What is found."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    KEY = "key"
    PARTICIPANT = "participant"


class Found(NamedTuple):
    """From where to where something stands, and what it is; `value` is the same however it was written."""

    start: int
    end: int
    kind: Kind
    value: str


def domain_of(address: str) -> str:
    """What stands behind the @ of an e-mail address, in lower case."""
    return address.rpartition("@")[2].casefold()


def is_kept(domain: str, keep: Collection[str]) -> bool:
    """Whether a domain is one of these, or a part of one (`mail.acme.com` of `acme.com`)."""
    return domain in keep or any(domain.endswith(f".{kept}") for kept in keep)


# E-mail addresses

_AT = re.compile(r"[@＠]|%40")
_LOCAL_BACKWARDS = re.compile(r"[\w.+%'’\u0300-\u036f-]{1,64}")
_DOMAIN = re.compile(r"[\w.\u0300-\u036f-]{3,255}")
_LABEL = re.compile(r"[^\W_](?:[\w\u0300-\u036f-]{0,61}[\w\u0300-\u036f])?")
_TOP = re.compile(r"[^\W\d_]{2,63}|xn--[a-z0-9-]{2,59}", re.IGNORECASE)


def emails(text: str, keep: Collection[str] = ()) -> Iterator[Found]:
    """E-mail addresses as they are commonly written, but those of the domains to `keep`."""
    for at in _AT.finditer(text):
        before = _LOCAL_BACKWARDS.match(text[max(0, at.start() - 64) : at.start()][::-1])
        after = _DOMAIN.match(text, at.end())
        if before is None or after is None:
            continue
        local, domain = before[0][::-1].lstrip(".+%'’-"), _domain(after[0])
        if local and domain and not is_kept(domain.casefold(), keep):
            start, end = at.start() - len(local), at.end() + len(domain)
            yield Found(start, end, Kind.EMAIL, f"{local}@{domain}".casefold())


def _domain(text: str) -> str | None:
    """The longest beginning of the text that is a domain with a name and a top level."""
    labels: list[str] = []
    for label in text.split("."):
        if not _LABEL.fullmatch(label):
            whole = _LABEL.match(label)  # «acme.com-» at the end of a phrase
            labels += [whole[0]] if whole else []
            break
        labels.append(label)
    while labels and not _TOP.fullmatch(labels[-1]):
        labels.pop()
    return ".".join(labels) if len(labels) > 1 else None


# Numbers of cards and accounts, certain by their checksums

_GROUPS = re.compile(r"(?<!\w)(?<!\w-)\d{3,19}(?:[ \u00a0\u2009\u202f-]\d{3,19})*(?!\w)")
_GROUP = re.compile(r"\d+")
_ISSUERS = (
    (re.compile(r"4"), (13, 16, 19)),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),  # Mastercard
    (re.compile(r"3[47]"), (15,)),  # American Express
    (re.compile(r"3(?:0[0-5]|[689])"), (14, 16, 19)),  # Diners Club
    (re.compile(r"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),  # JCB
    (re.compile(r"6(?:011|4[4-9]|5|2|0|22)"), (16, 17, 18, 19)),  # Discover, UnionPay, RuPay
    (re.compile(r"5[06-8]|6[37]"), (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (re.compile(r"220[0-4]"), (16, 17, 18, 19)),  # Mir
)
_LONGEST_CARD = 19


def cards(text: str, *, bare: bool = True) -> Iterator[Found]:
    """Card numbers: of a known issuer, of its length, and right by Luhn's checksum. Written in one run of digits (if
    `bare`), or in groups of three and more with a blank or a dash between."""
    for run in _GROUPS.finditer(text):
        groups = [(run.start() + each.start(), run.start() + each.end()) for each in _GROUP.finditer(run[0])]
        first = 0
        while first < len(groups):
            window = _card(text, groups, first, bare=bare)
            if window is None:
                first += 1
                continue
            last, digits = window
            yield Found(groups[first][0], groups[last][1], Kind.CARD, digits)
            first = last + 1


def _card(text: str, groups: Sequence[tuple[int, int]], first: int, *, bare: bool) -> tuple[int, str] | None:
    """The last group of the longest card number that begins with the `first`, and its digits."""
    digits, found = "", None
    for last in range(first, len(groups)):
        start, end = groups[last]
        digits += "".join(str(int(digit)) for digit in text[start:end])
        if len(digits) > _LONGEST_CARD:
            break
        if (bare or last > first) and is_card(digits):
            found = last, digits
    return found


def is_card(digits: str) -> bool:
    """Whether these ASCII digits are the number of a card."""
    issued = any(len(digits) in lengths and issuer.match(digits) for issuer, lengths in _ISSUERS)
    return issued and luhn.is_valid(digits)


_IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}(?=[ \u00a0\u202f-]?[A-Za-z0-9])")
_IBAN_REST = re.compile(r"[A-Za-z0-9]+(?:[ \u00a0\u202f-][A-Za-z0-9]+){0,16}", re.ASCII)
_SPACES = re.compile(r"[ \u00a0\u202f-]")
_SHORTEST_IBAN, _LONGEST_IBAN = 15, 34


def ibans(text: str) -> Iterator[Found]:
    """International bank account numbers, right by their checksum and by the structure of their country."""
    for begin in _IBAN.finditer(text):
        rest = _IBAN_REST.match(text, begin.start(), begin.start() + _LONGEST_IBAN + 17)
        if rest is None:
            continue
        ends = [gap.start() for gap in _SPACES.finditer(text, rest.start(), rest.end())] + [rest.end()]
        for end in reversed(ends):
            number = _SPACES.sub("", text[begin.start() : end]).upper()
            if text[end : end + 1].isalnum() or not _SHORTEST_IBAN <= len(number) <= _LONGEST_IBAN:
                continue
            if _is_sound(number) and iban.is_valid(number):
                yield Found(begin.start(), end, Kind.IBAN, number)
                break


def _is_sound(number: str) -> bool:
    """Whether its checksum is right: a hundred times quicker than to ask for all of an IBAN's rules."""
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


# Keys

_TOKENS = {
    "sk_": r"sk_(?:live|test)_[A-Za-z0-9]{10,200}",  # Stripe
    "rk_": r"rk_(?:live|test)_[A-Za-z0-9]{10,200}",
    "whsec_": r"whsec_[A-Za-z0-9+/=]{16,100}",
    "sk-": r"sk-[A-Za-z0-9_-]{20,200}",
    "gh": r"gh[pousr]_[A-Za-z0-9]{30,255}",  # GitHub
    "github_pat_": r"github_pat_[A-Za-z0-9_]{22,255}",
    "glpat-": r"glpat-[A-Za-z0-9_-]{20,100}",  # GitLab
    "AKIA": r"AKIA[A-Z0-9]{16}",  # Amazon
    "ASIA": r"ASIA[A-Z0-9]{16}",
    "xox": r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",  # Slack
    "xapp-": r"xapp-[A-Za-z0-9-]{10,250}",
    "hooks.slack.com": r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20,200}",
    "AIza": r"AIza[A-Za-z0-9_-]{35}",  # Google
    "ya29.": r"ya29\.[A-Za-z0-9_-]{20,1000}",
    "SG.": r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}",  # SendGrid
    "npm_": r"npm_[A-Za-z0-9]{36}",
    "shp": r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",  # Shopify
    "eyJ": r"eyJ[A-Za-z0-9_-]{5,4000}\.[A-Za-z0-9_-]{5,8000}\.[A-Za-z0-9_-]{5,4000}",  # JSON Web Tokens
}
_TOKEN = {
    beginning: re.compile(rf"(?<![A-Za-z0-9_-]){pattern}(?![A-Za-z0-9_-])") for beginning, pattern in _TOKENS.items()
}
_PEM_NAME = r"(?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----"
_BREAK = r"(?:\s|\\[rn])"
_PEM = re.compile(
    rf"-----BEGIN {_PEM_NAME}"
    rf"(?:{_BREAK}{{1,4}}[A-Za-z-]{{4,20}}: [^\n]{{1,100}})*+"
    rf"(?:{_BREAK}{{1,4}}[A-Za-z0-9+/=]{{16,}})*+"
    rf"(?:(?:{_BREAK}{{1,4}}[A-Za-z0-9+/=]{{1,15}})?{_BREAK}{{0,4}}-----END {_PEM_NAME})?"
)
_BEARER = re.compile(r"\b(?:bearer|basic)[ \t]{1,4}([A-Za-z0-9._~+/-]{16,4000}={0,2})", re.IGNORECASE)
_NAMED = re.compile(
    r"(?:key|token|secret)[\"'’”]?(?:[ \t]{0,4}[:=>]{1,2}[ \t]{0,4}|[ \t]{1,4}(?:is[ \t]{1,4})?)[\"'‘“\x60]?"
    r"([A-Za-z0-9._~+/=-]{16,4000})",
    re.IGNORECASE,
)
_PASSWORD = re.compile(
    r"(?:password|passwd|passphrase|pwd)[\"'’”]?(?:[ \t]{0,4}[:=]{1,2}|[ \t]{1,4}is)[ \t]{0,4}[\"'‘“\x60]?"
    r"([^\s\"'’”\x60,;<>\[\]()]{6,200})",
    re.IGNORECASE,
)
_LEAST_ENTROPY = 3.0
"""Bits a character: what is repeated or counted up has less, what was drawn by lot has more."""

_RUN = re.compile(r"[A-Za-z0-9]{8,}")


def keys(text: str) -> Iterator[Found]:
    """Keys, tokens and passwords: by the beginnings that their makers gave them; else only where a word beside them
    says what they are, and they look drawn by lot (a password: as soon as it has a letter and a digit)."""
    for beginning, pattern in _TOKEN.items():
        if beginning in text:
            yield from (Found(*each.span(), Kind.KEY, each[0]) for each in pattern.finditer(text))
    if "PRIVATE KEY" in text:
        yield from (Found(*each.span(), Kind.KEY, each[0]) for each in _PEM.finditer(text))
    lower = text.lower()
    if "bearer" in lower or "basic" in lower:
        yield from (_named(each) for each in _BEARER.finditer(text) if _is_drawn(each[1]))
    if "key" in lower or "token" in lower or "secret" in lower:
        yield from (_named(each) for each in _NAMED.finditer(text) if _is_drawn(each[1]))
    if "pass" in lower or "pwd" in lower:
        yield from (_named(each) for each in _PASSWORD.finditer(text) if _is_mixed(each[1]))


def _named(match: re.Match[str]) -> Found:
    value = match[1].rstrip(".")
    return Found(match.start(1), match.start(1) + len(value), Kind.KEY, value)


def _is_mixed(value: str) -> bool:
    return any(sign.isdigit() for sign in value) and any(sign.isalpha() for sign in value)


def _is_drawn(value: str) -> bool:
    """Whether it looks drawn by lot: letters and digits mixed in one run, and much entropy (Shannon's)."""
    if not any(map(_is_mixed, _RUN.findall(value))):
        return False
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
    return entropy >= _LEAST_ENTROPY


# Phone numbers

_DIGIT = re.compile(r"\d")


def phones(text: str, region: str | None = None) -> Iterator[Found]:
    """Phone numbers with their country's code (`+44 ...`); with a `region`, such as GB, also those that are valid as
    they are dialled there."""
    if not _DIGIT.search(text) or (region is None and "+" not in text and "＋" not in text):
        return
    from phonenumbers import Leniency, PhoneNumberFormat, PhoneNumberMatcher, format_number  # it takes a while

    asked = [(None, Leniency.POSSIBLE)] + ([(region, Leniency.VALID)] if region else [])
    for where, leniency in asked:
        for match in PhoneNumberMatcher(text, where, leniency):
            yield Found(match.start, match.end, Kind.PHONE, format_number(match.number, PhoneNumberFormat.E164))


def is_region(name: str) -> bool:
    """Whether phone numbers of such a region (GB, DE) are known."""
    from phonenumbers import SUPPORTED_REGIONS

    return name in SUPPORTED_REGIONS


# Names

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Scripts in which a name is not set off from the words around it."""

_LETTERS = rf"[^\W_{_UNSPACED}]"
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTERS}+(?:[\u0300-\u036f]+{_LETTERS}*)*")
_BETWEEN = re.compile(r"\s{0,3}|[._+'’·-]|%20|,\s{0,2}|(?<=\b\w)\.\s{1,2}")
_LONGEST_NAME = 8
"""Of a name of more words these many are looked for."""

_SHORTEST_PART = 3
_NOBODY = frozenset(
    {"a google user", "admin", "agent", "anonymous", "anonymous user", "author", "bot", "client", "customer", "deleted"}
    | {"deleted user", "former user", "guest", "host", "moderator", "n/a", "none", "participant", "reviewer", "speaker"}
    | {"support", "system", "team", "unknown", "unknown caller", "unknown speaker", "user", "visitor"}
)
"""What stands in the place of a name where there is none."""

_NUMBERED = re.compile(r"(?:customer|guest|participant|speaker|user)[ _-]?[a-z\d]{0,4}")


def _folded(word: str) -> str:
    """A word without its accents and capitals."""
    if word.isascii():
        return word.lower()
    apart = unicodedata.normalize("NFKD", word)
    return "".join(sign for sign in apart if not unicodedata.combining(sign)).casefold()


def identity(name: str) -> str:
    """What a name is known by, however it is written."""
    return " ".join(map(_folded, _WORD.findall(name)[:_LONGEST_NAME]))


class _Step:
    """A word of a name: those that may follow it, and whose name ends with it."""

    __slots__ = ("after", "whose")

    def __init__(self) -> None:
        self.after: dict[str, _Step] = {}
        self.whose: str | None = None


class Names:
    """The names of some people, to be found in texts.

    A whole name is found however it is capitalised, accented and joined («jane doe», «Jane-Doe», «Doe, Jane»). A word
    of it alone counts with three letters and more, and only with a capital or a digit in it: «will» is no Will. In
    scripts without blanks only whole names count.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._first = _Step()
        self._parts: dict[str, str] = {}
        for name in names:
            plain = " ".join(name.split()).casefold()
            if "@" in name or plain in _NOBODY or _NUMBERED.fullmatch(plain):
                continue
            words = _WORD.findall(name)[:_LONGEST_NAME]
            whose = identity(name)
            if len(words) > 1 and len(whose) > _SHORTEST_PART - 1:
                self._enter(words, whose)
                self._enter([words[-1], *words[:-1]], whose)
            for word in words:
                is_particle = len(words) > 1 and word.islower()
                if len(word) >= _SHORTEST_PART and not is_particle and not word.isdigit():
                    self._parts.setdefault(_folded(word), whose)

    def __bool__(self) -> bool:
        return bool(self._parts or self._first.after)

    def _enter(self, words: Sequence[str], whose: str) -> None:
        step = self._first
        for word in words:
            step = step.after.setdefault(_folded(word), _Step())
        step.whose = step.whose or whose

    def find(self, text: str, *, parts: bool = True) -> Iterator[Found]:
        """Where they stand; words of a name alone only with `parts`."""
        words = [(each.start(), each.end(), each[0], _folded(each[0])) for each in _WORD.finditer(text)]
        at = 0
        while at < len(words):
            start, end, word, plain = words[at]
            last = self._longest(text, words, at)
            if last is not None:
                until, whose = last
                yield Found(start, words[until][1], Kind.PARTICIPANT, whose)
                at = until + 1
                continue
            whole = self._parts.get(plain) if parts else None
            if whole is not None and (not word[0].islower() or _DIGIT.search(word)):
                yield Found(start, end, Kind.PARTICIPANT, whole)
            at += 1

    def _longest(self, text: str, words: Sequence[tuple[int, int, str, str]], at: int) -> tuple[int, str] | None:
        """The place of the last word of the longest name that begins there, and whose it is."""
        found, step = None, self._first.after.get(words[at][3])
        while step is not None:
            if step.whose is not None:
                found = at, step.whose
            at += 1
            gap = at < len(words) and _BETWEEN.fullmatch(text, words[at - 1][1], words[at][0])
            step = step.after.get(words[at][3]) if gap else None
        return found
