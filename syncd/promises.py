"""The promises of a source, tried on any connector with an imitation of its vendor.

Each promise is a coroutine function that takes a `Case` and fails by an AssertionError. A connector's test, on the
shelf or in a package of its own, is the case and a few lines that run `PROMISES` over it
(docs/writing-a-connector.md).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Coroutine, Iterator, Mapping, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import httpx
from pydantic import SecretStr

from syncd import http_client
from syncd.connector import Checkpoint, Connector, Page, Record, SetAside, Source, SourceError, Window
from syncd.errors import CredentialsRefused, CursorStuck, RateLimited, ShapeChanged
from syncd.fields import secret_fields
from syncd.records import Json
from syncd.signals import Signal, compose

SMALL = 4096
"""The most bytes of a checkpoint: it is written with every page."""

MOST = 1000
"""The most calls, and pages, of one reading: the accounts of a case are small."""

SHORTEST = 8
"""The fewest letters of what is taken for a credential, in whatever was sent."""

ELSEWHERE = "https://proxy.example"
"""A `base_url` that a connector is tried with."""

SCRIPTS = ("שלום", "مرحبا", "日本語", "🦆")
"""What a strange account's texts have to hold."""


class Vendor(ABC):
    """An imitation of a vendor's API: from request to response, as strict about parameters and credentials as it is."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Note the request, and answer it."""
        self.asked.append(request)
        return self.answer(request)

    @abstractmethod
    def answer(self, request: httpx.Request) -> httpx.Response:
        """The answer to one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A connector with its settings, and accounts of its vendor to try it on.

    Every function makes a new imitation. `full` has several pages, and gives the records `ids`. `strange` has names and
    texts in many scripts (see `SCRIPTS`), and null wherever the vendor may say null. In `broken` the record named
    second cannot be used, and others can. `circling` gives one cursor for ever; None where the vendor has no cursors.
    `required` names a field that no record can do without. `is_detail` tells the requests that are made for a single
    record; left out, they are those with the id of a record in their path. `forged` is the connector with credentials
    that the vendor refuses; None where it takes none. `later` has accounts as they are first and an hour later, each
    with the id of the record that is added, edited or ready by then. `now` is when all this happens.
    """

    connector: Connector
    full: Callable[[], Vendor]
    ids: frozenset[str]
    empty: Callable[[], Vendor]
    strange: Callable[[], Vendor]
    broken: tuple[Callable[[], Vendor], str]
    required: str
    circling: Callable[[], Vendor] | None
    forged: Connector | None
    later: Sequence[tuple[Callable[[], Vendor], Callable[[], Vendor], str]]
    is_detail: Callable[[httpx.Request], bool] | None = None
    now: datetime = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

    @property
    def source(self) -> Source:
        """The connector as an operator's entry."""
        return Source("case", "case", self.connector.default_namespace("case") or "case:case", self.connector)


@dataclass(slots=True)
class Read:
    """What one reading gave, and what it cost."""

    pages: list[Page] = field(default_factory=list)
    error: Exception | None = None
    waited: float = 0.0
    calls: list[tuple[datetime, httpx.Request]] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """All of them, in their order."""
        return [record for page in self.pages for record in page.records if isinstance(record, Record)]

    @property
    def ids(self) -> set[str]:
        """Their ids."""
        return {record.id for record in self.records}

    @property
    def checkpoint(self) -> Checkpoint:
        """The one to go on from, as the ledger would give it back."""
        return _kept(self.pages[-1].checkpoint) if self.pages else {}

    @property
    def unchanged(self) -> int:
        """How many were passed over because the ledger has them."""
        return sum(page.unchanged for page in self.pages)

    @property
    def set_aside(self) -> list[SetAside]:
        """What could not become a record."""
        return [item for page in self.pages for item in page.set_aside]


async def read(
    case: Case,
    vendor: Callable[[httpx.Request], httpx.Response],
    checkpoint: Checkpoint | None = None,
    *,
    connector: Connector | None = None,
    pages: int | None = None,
    known: Mapping[str, str | None] | None = None,
    now: datetime | None = None,
    since: datetime | None = None,
) -> Read:
    """Read the source once, as the house would, but with a clock that runs while it waits. `pages` stops it early;
    `known` are the records, with their versions, that the ledger has, and `since` is how far back it is to go.

    It is read by a copy of the connector, for what one remembers beside its checkpoint is gone after a restart; and it
    may not sleep, for waiting is the client's.
    """
    done = Read()
    begun = now or case.now
    has = known or {}

    async def sleep(seconds: float) -> None:
        done.waited += seconds

    async def no_sleep(seconds: float, *_: object) -> None:
        raise AssertionError(f"it sleeps {seconds} s: the client waits, by `limits`, `asks_to_wait` and Retry-After")

    def clock() -> datetime:
        return begun + timedelta(seconds=done.waited)

    def answer(request: httpx.Request) -> httpx.Response:
        done.calls.append((clock(), request))
        assert len(done.calls) <= MOST, f"it goes on asking after {MOST} calls; the last one was {request.url}"
        return vendor(request)

    async def ledger_has(versions: Mapping[str, str | None]) -> Container[str]:
        return {id_ for id_, version in versions.items() if id_ in has and version in (None, has[id_])}

    source = (connector or case.connector).model_copy(deep=True)
    lent = http_client.lend(source, clock=clock, sleep=sleep, draw=lambda: 0.5, transport=httpx.MockTransport(answer))
    async with lent as http:
        try:
            reading = source.fetch(http, _kept(checkpoint or {}), Window(begun, since, known=ledger_has))
            with patch("asyncio.sleep", no_sleep):
                async with aclosing(reading) as given:
                    async for page in given:
                        done.pages.append(page)
                        assert len(done.pages) <= MOST, f"it goes on giving pages after {MOST} of them"
                        if len(done.pages) == pages:
                            break
        except (SourceError, httpx.HTTPError) as error:
            done.error = error
    return done


async def gives_every_record(case: Case) -> None:
    """Nothing is lost: every record of the account comes, in one form, and can be posted."""
    given = await read(case, case.full())
    _is_well(given)
    _is_whole(case, given.ids, "in one reading")
    assert given.set_aside == [], f"these were set aside, though nothing is wrong with them: {given.set_aside}"
    bodies: dict[str, Signal] = {}
    for record in given.records:
        signal = compose(record, case.source)
        assert bodies.setdefault(record.id, signal) == signal, f"two different records have the id {record.id}"


async def says_the_same_each_time(case: Case) -> None:
    """Nothing is doubled: a record that did not change has the same externalId and the same body for ever."""
    first, second = [_signals(case, await read(case, case.full(), now=case.now + timedelta(hours=n))) for n in (0, 1)]
    common = first.keys() & second.keys()
    assert common, "an hour later nothing of the same account has the id it had"
    changed = sorted(id_ for id_ in common if first[id_] != second[id_])
    assert not changed, f"these differ an hour later, though nothing happened to them: {changed}"


async def resumes_after_every_page(case: Case) -> None:
    """A reading may break off after any page: from the checkpoint of that page on, nothing is lost."""
    whole = await read(case, case.full())
    for number in range(1, len(whole.pages) + 1):
        begun = await read(case, case.full(), pages=number)
        rest = await read(case, case.full(), begun.checkpoint)
        _is_well(rest)
        _is_whole(case, begun.ids | rest.ids, f"going on from the checkpoint of page {number}, {begun.checkpoint}")


async def ends_with_nothing_new(case: Case) -> None:
    """A second reading ends, and shows nothing that the first one did not."""
    first = await read(case, case.full())
    second = await read(case, case.full(), first.checkpoint)
    _is_well(second)
    new = second.ids - first.ids
    assert not new, f"these come in the second reading only: {sorted(new)}"


async def finds_what_comes_later(case: Case) -> None:
    """What is added, edited or ready only after a reading comes with the next one: no checkpoint leads past it."""
    assert case.later, "the case has no `later`: give it an account as it is first and an hour later"
    for before, after, id_ in case.later:
        first = await read(case, before())
        known = {record.id: record.version for record in first.records}
        second = await read(case, after(), first.checkpoint, known=known, now=case.now + timedelta(hours=1))
        _is_well(first)
        _is_well(second)
        assert id_ in second.ids, (
            f"{id_} was added, edited or ready after a reading that ended at {first.checkpoint}, and does not come"
        )


async def goes_back_to_a_date(case: Case) -> None:
    """Asked for what there is since some date, a first reading leaves out nothing that is of that date or later."""
    whole = await read(case, case.full())
    for since in sorted({record.occurred_at for record in whole.records if record.occurred_at}):
        wanted = {one.id for one in whole.records if one.occurred_at is None or one.occurred_at >= since}
        given = await read(case, case.full(), since=since)
        _is_well(given)
        assert wanted <= given.ids, f"lost with `since` at {since:%Y-%m-%d %H:%M:%S}: {sorted(wanted - given.ids)}"


async def asks_no_details_of_what_is_known(case: Case) -> None:
    """A record that the ledger has as it is costs no call of its own (quotas are for what is new), and is counted."""
    vendor = case.full()
    first = await read(case, vendor)
    known = {record.id: record.version for record in first.records}
    is_detail = case.is_detail or (lambda request: bool(case.ids & set(request.url.path.split("/"))))
    details = [request for _, request in first.calls if is_detail(request)]
    for checkpoint in ({}, first.checkpoint):
        again = await read(case, vendor, checkpoint, known=known)
        _is_well(again)
        asked = [str(request.url) for _, request in again.calls if is_detail(request)]
        assert asked == [], (
            f"of {len(details)} detail calls these are made again for records that `window.known` has (is it asked "
            f"with the value that is Record.version?): {asked}"
        )
        counted = len(again.ids) + again.unchanged
        assert checkpoint or counted >= len(case.ids), (
            f"of {len(case.ids)} records {len(again.ids)} came and {again.unchanged} are counted in `Page.unchanged`"
        )


async def keeps_a_small_checkpoint(case: Case) -> None:
    """A checkpoint is JSON, and stays small, for it is written with every page; and it holds no secret."""
    given = await read(case, case.full())
    for page in given.pages:
        written = json.dumps(page.checkpoint)
        assert json.loads(written) == page.checkpoint, f"a checkpoint comes back from JSON otherwise: {page.checkpoint}"
        assert len(written) <= SMALL, f"a checkpoint has {len(written)} bytes; {SMALL} are allowed"
        assert not _secrets_in(case.connector, written), "a checkpoint holds a secret"
        held = case.ids & set(_texts(page.checkpoint))
        assert not case.ids <= held, f"a checkpoint holds the id of every record, so it grows for ever: {written[:200]}"


async def stops_when_led_in_circles(case: Case) -> None:
    """A cursor that does not lead on ends the reading with an error: it would never end otherwise."""
    if case.circling is None:
        return
    given = await read(case, case.circling())
    assert isinstance(given.error, CursorStuck), (
        f"a cursor that came twice ended the reading with {given.error!r}; `kit.paging.Trail` tells it"
    )


async def waits_out_a_refusal(case: Case) -> None:
    """A 429 or a 500 in the middle of it costs some seconds, and no record."""
    calls = len((await read(case, case.full())).calls)
    for status in (429, 500):
        for number in range(1, calls + 1):
            given = await read(case, _Moody(case.full(), number, status, times=1))
            assert given.error is None, (
                f"a {status} in place of answer {number} ended the reading: {given.error} (a POST is asked again only "
                'with `extensions={"idempotent": True}`)'
            )
            _is_whole(case, given.ids, f"with a {status} in place of answer {number}")


async def keeps_what_was_read_before_an_outage(case: Case) -> None:
    """A vendor that is down from some call on ends the reading with an error; the next goes on from where it was."""
    calls = len((await read(case, case.full())).calls)
    for number in range(1, calls + 1):
        begun = await read(case, _Moody(case.full(), number, 503, times=10_000))
        assert isinstance(begun.error, SourceError), (
            f"the vendor was down from call {number} on, and the reading ended with {begun.error!r}: let errors through"
        )
        rest = await read(case, case.full(), begun.checkpoint)
        _is_well(rest)
        _is_whole(case, begun.ids | rest.ids, f"going on after the vendor was down from call {number} on")


async def heeds_its_limits(case: Case) -> None:
    """The rate limits that the vendor documents are kept without being told."""
    given = await read(case, case.full())
    for limit in case.connector.limits():
        at = [when for when, request in given.calls if request.url.path.startswith(limit.path)]
        spans = (later - earlier for earlier, later in zip(at, at[limit.calls :], strict=False))
        assert all(span >= limit.per for span in spans), f"more calls were made than {limit} allows"


async def says_when_to_come_again(case: Case) -> None:
    """A quota that is used up for hours ends the reading with the time to come again, rather than holding it up."""
    given = await read(case, _Moody(case.full(), 1, 429, times=10_000, after="7200"))
    assert isinstance(given.error, RateLimited), (
        f"told to come again in two hours, the reading ended with {given.error!r}: let errors through"
    )
    assert given.error.until - case.now >= timedelta(hours=2), f"it would come again at {given.error.until}, too early"


async def reads_an_empty_account(case: Case) -> None:
    """An account with nothing in it is read without a word of complaint, twice."""
    first = await read(case, case.empty())
    second = await read(case, case.empty(), first.checkpoint)
    for given in (first, second):
        _is_well(given)
        assert (given.ids, given.set_aside) == (set(), []), "there is nothing in this account"


async def takes_every_script_and_null(case: Case) -> None:
    """Names and texts in any script arrive as they are, and what the vendor leaves out stops nothing."""
    given = await read(case, case.strange())
    _is_well(given)
    assert given.set_aside == [], f"these were set aside, though the vendor may answer so: {given.set_aside}"
    assert given.records, "no record came"
    said = "".join(compose(record, case.source).body.decode() for record in given.records)
    lost = [words for words in SCRIPTS if words not in said]
    assert not lost, f"these words do not arrive: {lost}"


async def sets_a_broken_record_aside(case: Case) -> None:
    """A record that cannot be used is set aside under its id, with the reason; the others come."""
    vendor, id_ = case.broken
    given = await read(case, vendor())
    _is_well(given)
    assert id_ not in given.ids, f"the broken record {id_} came"
    assert given.ids, "the records beside the broken one do not come"
    told = [item for item in given.set_aside if id_ in item.place and item.reason]
    assert told, f"{id_} is not among what was set aside with a reason: {given.set_aside}"


async def stops_when_the_shape_changes(case: Case) -> None:
    """An answer without a field that every record needs is no reason to go on: the checkpoint stays before it, and the
    message names the field."""
    given = await read(case, _Without(case.full(), case.required))
    assert isinstance(given.error, ShapeChanged), (
        f"without the field {case.required} in any answer, the reading ended with {given.error!r}, not ShapeChanged"
    )
    assert case.required in str(given.error), f"the field {case.required} is not named in: {given.error}"
    assert given.ids == set(), f"records came without the field {case.required}: {sorted(given.ids)}"
    rest = await read(case, case.full(), given.checkpoint)
    _is_whole(case, rest.ids, f"once the field {case.required} is back")


async def asks_only_its_own_hosts(case: Case) -> None:
    """Credentials and questions go to the hosts that were declared, and nowhere else; with `base_url`, to that host."""
    given = await read(case, case.full())
    _is_well(given)
    if "base_url" not in type(case.connector).model_fields:
        return
    there = case.connector.model_copy(update={"base_url": ELSEWHERE})
    given = await read(case, case.full(), connector=there)
    refused = isinstance(given.error, SourceError) and given.error.code == "host_refused"
    asked = {request.url.host for _, request in given.calls}
    heeds = httpx.URL(ELSEWHERE).host in asked and not refused
    assert heeds, (
        f"with base_url {ELSEWHERE} it asked {sorted(asked)}, and ended with {given.error}: `self.url` makes addresses"
    )


async def hides_its_secrets(case: Case) -> None:
    """A secret stands in no repr, no record and no message."""
    given = await read(case, case.full())
    refused = await read(case, _Moody(case.full(), 1, 403, times=10_000))
    shown = {
        "its repr (is the field a SecretStr?)": repr(case.connector),
        "the message of an error": str(refused.error),
        "a page": "".join(map(repr, given.pages)),
        "what `check` says": await _check(case, case.connector),
    }
    for where, text in shown.items():
        assert not _secrets_in(case.connector, text), f"a secret stands in {where}"
        assert not [sent for sent in _tokens(given) if sent in text], f"what is sent as credentials stands in {where}"


async def explains_what_is_wrong(case: Case) -> None:
    """`syncd check` says in a few words what it saw, and in the vendor's terms what is wrong with a key."""
    for vendor in (case.full(), case.empty()):
        assert await _check(case, case.connector, vendor), "it says nothing of what it saw"
    if case.forged is None:
        return
    try:
        await _check(case, case.forged)
    except CredentialsRefused as error:
        advice = str(error)
    else:
        raise AssertionError("credentials that the vendor refuses were taken for good")
    assert "Check this connector's credentials" not in advice, (
        f"it is explained in general words only; `advice` gives the vendor's: {advice}"
    )


PROMISES: Sequence[Callable[[Case], Coroutine[Any, Any, None]]] = (
    gives_every_record,
    says_the_same_each_time,
    resumes_after_every_page,
    ends_with_nothing_new,
    finds_what_comes_later,
    goes_back_to_a_date,
    asks_no_details_of_what_is_known,
    keeps_a_small_checkpoint,
    stops_when_led_in_circles,
    waits_out_a_refusal,
    keeps_what_was_read_before_an_outage,
    heeds_its_limits,
    says_when_to_come_again,
    reads_an_empty_account,
    takes_every_script_and_null,
    sets_a_broken_record_aside,
    stops_when_the_shape_changes,
    asks_only_its_own_hosts,
    hides_its_secrets,
    explains_what_is_wrong,
)
"""What a source promises; each is a coroutine function over a `Case`."""


@dataclass(slots=True)
class _Moody:
    """A vendor that answers `times` times with an error, from call `number` on."""

    vendor: Vendor
    number: int
    status: int
    times: int
    after: str = "1"
    calls: int = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        if self.number <= self.calls < self.number + self.times:
            return httpx.Response(self.status, headers={"Retry-After": self.after}, text="not now")
        return self.vendor(request)


@dataclass(slots=True)
class _Without:
    """A vendor whose answers lost a field."""

    vendor: Vendor
    name: str

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.vendor(request)
        try:
            said = json.loads(answer.content)
        except ValueError:
            return answer
        return httpx.Response(answer.status_code, headers={**_plain(answer)}, json=_less(said, self.name))


def _plain(answer: httpx.Response) -> Mapping[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in ("content-length", "content-type")}


def _less(said: Json, name: str) -> Json:
    match said:
        case dict():
            return {key: _less(value, name) for key, value in said.items() if key != name}
        case list():
            return [_less(value, name) for value in said]
        case _:
            return said


def _is_well(given: Read) -> None:
    assert given.error is None, f"the reading ended with an error: {given.error!r}"


def _is_whole(case: Case, ids: Set[str], when: str) -> None:
    lost, strange = sorted(case.ids - ids), sorted(ids - case.ids)
    assert not lost, f"lost {when}: {lost}"
    assert not strange, f"these ids are not among those of the case, {when}: {strange}"


def _texts(said: Json) -> Iterator[str]:
    """Every text in a piece of JSON, the names of its fields among them."""
    match said:
        case str():
            yield said
        case Mapping():
            for name, value in said.items():
                yield from (name, *_texts(value))
        case Sequence():
            for value in said:
                yield from _texts(value)


def _tokens(given: Read) -> set[str]:
    """What went out as credentials in Authorization headers, whatever the settings say is a secret."""
    sent = (request.headers.get("Authorization", "").split(" ")[-1] for _, request in given.calls)
    return {token for token in sent if len(token) >= SHORTEST}


def _kept(checkpoint: Checkpoint) -> Checkpoint:
    kept: Checkpoint = json.loads(json.dumps(checkpoint))
    return kept


def _signals(case: Case, given: Read) -> dict[str, Signal]:
    return {record.id: compose(record, case.source) for record in given.records}


def _secrets_in(connector: Connector, text: str) -> list[str]:
    values = (getattr(connector, name) for name in secret_fields(type(connector)))
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    return [secret for secret in secrets if secret in text or json.dumps(secret)[1:-1] in text]


async def _check(case: Case, connector: Connector, vendor: Vendor | None = None) -> str:
    async def sleep(_: float) -> None:
        pass

    lent = http_client.lend(
        connector,
        clock=lambda: case.now,
        sleep=sleep,
        draw=lambda: 0.5,
        patience=timedelta(0),
        transport=httpx.MockTransport(vendor or case.full()),
    )
    async with lent as http:
        return await connector.model_copy(deep=True).check(http)
