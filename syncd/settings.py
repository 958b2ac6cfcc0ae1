"""The settings of the house, each with its default and its limits."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from email.errors import HeaderParseError
from email.headerregistry import Address
from fractions import Fraction
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from syncd import cron
from syncd.budgets import Budget
from syncd.connector import Connector, Source
from syncd.detectors import Kind, is_region
from syncd.edits import DeleteGuard, Edits, OnChange, OnDelete
from syncd.errors import ConfigError
from syncd.fields import Duration, Settings, TimeZone, WebAddress, is_loopback, is_open_to_all, lasting
from syncd.mapping import NAMES, Mapping
from syncd.redaction import Redaction

_INSTANT = timedelta(milliseconds=10)
_HOUR = timedelta(hours=1)
_YEAR = timedelta(days=365)
_CENTURY = timedelta(days=36_500)
_SHORTEST_TOKEN = 16


def _api_key(secret: SecretStr | None) -> SecretStr | None:
    """A key without stray blanks around it, which travels in a header: printable ASCII."""
    if secret is None:
        return None
    key = secret.get_secret_value().strip()
    if not key:
        raise ValueError("is empty; make a key in Zentrik under Settings > API keys")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("holds a character that no key has; was it copied whole, and nothing beside it?")
    return SecretStr(key)


def _token(secret: SecretStr | None) -> SecretStr | None:
    """A token that travels in a header, and that nobody guesses."""
    if secret is None:
        return None
    token = secret.get_secret_value().strip()
    if not (token.isascii() and token.isprintable()) or " " in token or len(token) < _SHORTEST_TOKEN:
        raise ValueError(
            f"must be {_SHORTEST_TOKEN} or more letters, digits and signs without spaces; "
            "`openssl rand -hex 32` makes one"
        )
    return SecretStr(token)


def _secret_address(secret: SecretStr | None) -> SecretStr | None:
    """An address that whoever knows may use. It stays out of the message."""
    if secret is None:
        return None
    address = secret.get_secret_value().strip()
    try:
        parts = urlsplit(address)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not (is_usable and address.isascii() and address.isprintable()) or " " in address:
        raise ValueError("must be a whole address, like https://hooks.example.com/services/T0/B0/x")
    if is_open_to_all(address):
        raise ValueError("must begin with https: whoever reads this address on the way can use it")
    return SecretStr(address)


def _mail_address(text: str) -> str:
    try:
        is_usable = text.isascii() and bool(Address(addr_spec=text).domain)
    except (ValueError, HeaderParseError, IndexError):
        is_usable = False
    if not is_usable:
        raise ValueError("is no e-mail address; write for example ops@example.com, without a name before it")
    return text


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _cron(text: str | None) -> str | None:
    if text is not None:
        cron.parse(text)
    return text


def _share(text: str) -> str:
    """A percentage from 0% to 100%."""
    found = re.fullmatch(r"([0-9]{1,3})\s*%", text.strip(), re.ASCII)
    if not found or int(found[1]) > 100:
        raise ValueError("is no share; write it in whole percent, like 5%")
    return f"{int(found[1])}%"


def _namespace(text: str | None) -> str | None:
    if text is not None and (not text or not text.isprintable() or any(letter.isspace() for letter in text)):
        raise ValueError("must be letters, digits and signs without spaces, like nps-2026 or zendesk:acme")
    return text


def _since(value: object) -> object:
    """A date (its midnight) or a date and time, in ISO 8601; UTC unless it carries a zone."""
    try:
        match value:
            case str():
                moment = datetime.fromisoformat(value.strip())
            case datetime():
                moment = value
            case date():
                moment = datetime.combine(value, time())
            case None:
                return None
            case _:
                raise ValueError
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is no date; write for example 2026-01-31 or 2026-01-31T09:00:00Z") from None


OPEN_TO_ALL = (
    "over http the key and every record can be read by anybody on the way; write https, or, where the network is "
    "trusted all the way, allow_http: true beside it"
)
"""What is said of an address that only `allow_http` permits."""

Namespace = Annotated[str, AfterValidator(_namespace)]


class NackSettings(Settings):
    """When Zentrik refuses a connector's records too often to go on: `refused` of the last `of`."""

    refused: Annotated[int, Field(ge=1, le=1000)] = 30
    of: Annotated[int, Field(ge=1, le=1000)] = 40

    @model_validator(mode="after")
    def _reachable(self) -> NackSettings:
        if self.refused > self.of:
            raise ValueError(f"{self.refused} of the last {self.of} can never be refused; write a smaller `refused`")
        return self


class ZentrikSettings(Settings):
    """The destination, and how it is spoken to.

    `concurrency` is how many requests are under way at once; `timeout` how long one may take. `ready_timeout` is how
    long to wait for Zentrik to call itself ready. A record that Zentrik did not take in (408, 425) `max_attempts` times
    in a row is rejected. `poll_interval` is the wait before the first look for an outcome. `allow_http` permits an
    `api_base` with plain http on another machine.

    A signal whose answer was lost counts as absent when a whole look through Zentrik, begun `absent_after` its post or
    later, does not show it. One that Zentrik could not process is processed up to `process_attempts` times in all. One
    that is still being processed after `overdue_after` is told of, and asked about less often. A connector is halted
    once Zentrik refused `nack_window.refused` of its last `nack_window.of` records.
    """

    api_base: WebAddress = "https://zentrik.ai/api"
    api_key: Annotated[SecretStr | None, AfterValidator(_api_key)] = None
    allow_http: bool = False
    concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    timeout: Annotated[Duration, lasting(_INSTANT, _HOUR)] = timedelta(seconds=60)
    ready_timeout: Annotated[Duration, lasting(timedelta(0), _HOUR)] = timedelta(seconds=30)
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 8
    poll_interval: Annotated[Duration, lasting(_INSTANT, _HOUR)] = timedelta(seconds=2)
    absent_after: Annotated[Duration, lasting(timedelta(0), _HOUR)] = timedelta(seconds=10)
    process_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    overdue_after: Annotated[Duration, lasting(_INSTANT, _YEAR)] = timedelta(hours=1)
    nack_window: NackSettings = NackSettings()

    @model_validator(mode="after")
    def _encrypted(self) -> ZentrikSettings:
        if is_open_to_all(self.api_base) and not self.allow_http:
            raise ValueError(f"api_base: {OPEN_TO_ALL}")
        return self

    def require_key(self) -> SecretStr:
        """The key. Raises `ConfigError` when none was given."""
        if self.api_key is None:
            raise ConfigError(
                "there is no key for Zentrik; set the variable ZENTRIK_API_KEY, or write zentrik.api_key or "
                "zentrik.api_key_file in the configuration (keys are made in Zentrik under Settings > API keys)"
            )
        return self.api_key


class WebSettings(Settings):
    """Where the status page listens; port 0 takes any free one. `token` lets people and machines in, and is required
    where others than this machine can reach it."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8787
    token: Annotated[SecretStr | None, AfterValidator(_token)] = None

    @model_validator(mode="after")
    def _guarded(self) -> WebSettings:
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"host: {self.host} can be reached from other machines, so the page wants a token; set web.token or "
                "web.token_file (`openssl rand -hex 32` makes one), or listen on 127.0.0.1"
            )
        return self


class Retention(Settings):
    """How long to keep what is no longer needed: `bodies` of delivered signals, and of those that have `settled` what
    only people read (null: for ever)."""

    bodies: Annotated[Duration, lasting(timedelta(0), _CENTURY)] = timedelta(days=30)
    settled: Annotated[Duration, lasting(timedelta(0), _CENTURY)] | None = None


MailAddress = Annotated[str, AfterValidator(_mail_address)]
SecretAddress = Annotated[SecretStr | None, AfterValidator(_secret_address)]


class EmailSettings(Settings):
    """How alerts are mailed, when there is somebody in `to`: by the server at `host`, which is spoken to in the open
    (`none`), from the greeting on encrypted (`starttls`), or encrypted throughout (`tls`)."""

    host: Annotated[str, Field(min_length=1)] = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    sender: MailAddress = "syncd@localhost"
    to: Annotated[tuple[MailAddress, ...], BeforeValidator(_one_or_more)] = ()

    @model_validator(mode="after")
    def _login_is_safe(self) -> EmailSettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together; give both or neither")
        if self.password is not None and self.tls == "none" and not is_loopback(self.host):
            raise ValueError("tls: without encryption the password could be read by anybody on the way")
        return self


class AlertSettings(Settings):
    """Who is told of trouble, and of what. `name` is what this syncd is called in the messages.

    A webhook gets each alert as JSON. `ping` is called every `ping_every`, as long as everything gets on: whoever
    watches for these calls hears of a syncd that cannot say anything any more. A connector that cannot be read, or a
    Zentrik that is not well, is told of after `stopped_after`; one whose oldest record waits for Zentrik for longer
    than `lag_over` (None: never).
    """

    name: Annotated[str, Field(min_length=1, max_length=100)] = "syncd"
    webhook: SecretAddress = None
    email: EmailSettings = EmailSettings()
    ping: SecretAddress = None
    ping_every: Annotated[Duration, lasting(timedelta(seconds=10), timedelta(days=1))] = timedelta(minutes=5)
    stopped_after: Annotated[Duration, lasting(timedelta(0), _YEAR)] = timedelta(minutes=15)
    lag_over: Annotated[Duration, lasting(timedelta(seconds=1), _YEAR)] | None = _HOUR


def _domain(text: str) -> str:
    domain = text.strip().casefold().removeprefix("@").removeprefix("*.")
    if "." not in domain or "@" in domain or not domain.isprintable() or " " in domain:
        raise ValueError("is no domain; write for example acme.com")
    return domain


def _region(text: str | None) -> str | None:
    if text is not None and not is_region(text.upper()):
        raise ValueError("is no region with phone numbers of its own; write its two letters, like GB or DE")
    return text and text.upper()


class RedactSettings(Settings):
    """What is taken out of records before they are kept: the `kinds`. `mode` is what stands in its place: `mask` says
    what it was, a `pseudonym` also which, as long as `pseudonym_key` stays the same.

    E-mail addresses of the domains to `keep`, and participants who have one, stay. With a `region` (GB) phone numbers
    are found also as they are dialled there.
    """

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = tuple(Kind)
    mode: Literal["mask", "pseudonym"] = "mask"
    keep: tuple[Annotated[str, AfterValidator(_domain)], ...] = ()
    region: Annotated[str | None, AfterValidator(_region)] = None
    pseudonym_key: Annotated[SecretStr | None, AfterValidator(_token)] = None

    @model_validator(mode="after")
    def _can_be_keyed(self) -> RedactSettings:
        if self.mode == "pseudonym" and self.pseudonym_key is None:
            raise ValueError(
                "mode: pseudonyms want pseudonym_key or pseudonym_key_file, so that nobody finds out by trying which "
                "address one stands for (`openssl rand -hex 32` makes a key)"
            )
        return self

    @property
    def redaction(self) -> Redaction:
        """The same as the rest of the house knows it."""
        key = self.pseudonym_key.get_secret_value().encode() if self.pseudonym_key else None
        key = key if self.mode == "pseudonym" else None
        return Redaction(frozenset(self.kinds), frozenset(self.keep), self.region, key)


def redact_in_full(given: Any) -> Any:
    """What stands under `redact`, the short forms (`mask`, `pseudonym`, true, off) written out."""
    match given:
        case False | "off":
            return None
        case True:
            return {}
        case str():
            return {"mode": given}
        case _:
            return given


Redact = Annotated[RedactSettings | None, BeforeValidator(redact_in_full)]


class BudgetSettings(Settings):
    """How many signals, and how many characters of their texts, are posted a day; either may be left out."""

    signals: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    characters: Annotated[int, Field(ge=1, le=1_000_000_000_000)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> BudgetSettings:
        if self.signals is None and self.characters is None:
            raise ValueError("limits nothing; write for example {signals: 500}, {characters: 2000000}, or both")
        return self


class DeleteGuardSettings(Settings):
    """How many deletions at a source are believed in 24 hours: a `share` of its records, and `most` in all."""

    share: Annotated[str, AfterValidator(_share)] = "5%"
    most: Annotated[int, Field(ge=0, le=1_000_000)] = 50

    @property
    def guard(self) -> DeleteGuard:
        """The same, to reckon with."""
        return DeleteGuard(Fraction(int(self.share.removesuffix("%")), 100), self.most)


class Entry(Mapping):
    """What the house itself reads of an entry under `connectors`; the rest are the settings of its type.

    Exactly one of `every` and `cron` is set; `timezone` is the one `cron` is read in, and the one whose midnight
    `budget` begins anew at. `since` is in UTC. `allow_http` permits plain http to other machines. `redact` stands
    instead of the one for all. `on_change`, `settle_changes`, `on_delete` and `delete_guard` say what is done about
    records that change or are deleted at the source.
    """

    type: str
    every: Annotated[Duration, lasting(timedelta(seconds=10), _YEAR)] | None = None
    cron: Annotated[str | None, AfterValidator(_cron)] = None
    timezone: TimeZone = "UTC"
    since: Annotated[datetime | None, BeforeValidator(_since)] = None
    namespace: Namespace | None = None
    enabled: bool = True
    allow_http: bool = False
    redact: Redact = None
    budget: BudgetSettings | None = None
    on_change: OnChange = "ignore"
    settle_changes: Annotated[Duration, lasting(timedelta(0), _YEAR)] = timedelta(minutes=15)
    on_delete: OnDelete = "keep"
    delete_guard: DeleteGuardSettings = DeleteGuardSettings()

    @model_validator(mode="before")
    @classmethod
    def _hourly_unless_told(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("every") is None and given.get("cron") is None:
            return {**given, "every": timedelta(hours=1)}
        return given

    @model_validator(mode="after")
    def _one_schedule(self) -> Entry:
        if self.every is not None and self.cron is not None:
            raise ValueError("both every and cron are given; keep one")
        return self


class ConnectorSettings(Entry):
    """An entry together with its name and the connector built from it; its namespace is settled."""

    name: str
    namespace: Namespace
    connector: Connector

    @property
    def edits(self) -> Edits:
        """What is done about records that change or are deleted at the source."""
        return Edits(self.on_change, self.settle_changes, self.on_delete, self.delete_guard.guard)

    @property
    def source(self) -> Source:
        """The entry as the rest of the house knows it."""
        redaction = self.redact.redaction if self.redact else None
        mapping = Mapping.model_construct(**{name: getattr(self, name) for name in NAMES})
        return Source(
            self.name,
            self.type,
            self.namespace,
            self.connector,
            self.since,
            self.allow_http,
            redaction,
            mapping,
            self.edits,
        )

    @property
    def daily(self) -> Budget | None:
        """How much of it may be posted in a day, if that is limited."""
        return Budget(self.budget.signals, self.budget.characters, self.timezone) if self.budget else None


def ledger_address(text: str) -> str:
    """Accept a ledger's address. The text itself stays out of the message: it may hold a password."""
    sqlite, postgresql = "sqlite:///syncd.db", "postgresql+psycopg://user@host/database"
    scheme, separator, rest = text.partition("://")
    family = scheme.partition("+")[0].lower() if separator else ""
    match family:
        case "sqlite" if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
            if ":memory:" in rest or rest.startswith("/?"):
                raise ValueError(f"a ledger in memory would forget everything; name a file, like {sqlite}")
        case "sqlite":
            raise ValueError(f"a SQLite ledger is written with three slashes before its path, like {sqlite}")
        case "postgresql" if scheme == "postgresql+psycopg":
            _names_database(text)
        case "postgresql" | "postgres":
            raise ValueError(f"instead of {family}:// write postgresql+psycopg://")
        case "":
            raise ValueError(f"is not the address of a ledger; write {sqlite} or {postgresql}")
        case _:
            raise ValueError(f"the ledger is kept in SQLite or PostgreSQL; write {sqlite} or {postgresql}")
    return text


def _names_database(text: str) -> None:
    try:
        parts = urlsplit(text)
        named = parts.port != 0 and len(parts.path) > 1
    except ValueError:
        named = False
    if not named:
        raise ValueError("names no database that can be reached; write postgresql+psycopg://user@host/database")


Ledger = Annotated[str, AfterValidator(ledger_address)]
ShutdownTimeout = Annotated[Duration, lasting(timedelta(0), _HOUR)]
PullLease = Annotated[Duration, lasting(timedelta(seconds=1), timedelta(days=1))]
