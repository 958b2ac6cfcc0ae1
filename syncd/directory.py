"""The directory: which account and which products at Zentrik a record belongs to. Asked once, and remembered.

- What was found is believed for 7 days, that there is none for an hour.
- A key without the scope for it: the records go out without, and that is told once.
- Zentrik cannot answer: the reading ends there with `DirectoryUnavailable`, and the next one goes on from the same
  checkpoint. No record is posted that was mapped by half.
- An account is created by one of all syncds on a ledger, after a look, and never again before another look. Where the
  answer to the creation is lost, nobody creates it within `CLAIM_LASTS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeAlias, assert_never

from syncd.connector import Source
from syncd.errors import SourceError
from syncd.fates import Blocked, Refused
from syncd.ledger import Database, Ledger, lookups
from syncd.ledger.holds import ASKED_AGAIN
from syncd.ledger.lookups import Known, Question
from syncd.logs import get_logger
from syncd.records import Json, RawRecord, Record
from syncd.retry import Backoff
from syncd.shape import Ask, Shaped
from syncd.workspace import Entity, Kind, Workspace
from syncd.zentrik import Troubled

log = get_logger()

FOUND_LASTS = timedelta(days=7)
"""How long an account that was found is believed to be there still."""

MISSING_LASTS = ASKED_AGAIN
"""How long one that was not found is believed to be missing still. A key that lacked a scope is tried after it."""

CLAIM_LASTS = timedelta(minutes=10)
"""How long nobody else creates an account that somebody set out to create. No request is under way for longer."""

TRIES = 3
"""So often a question is asked before the reading ends, if Zentrik cannot answer."""

_LONGEST_WAIT = timedelta(seconds=10)
_AT_ONCE = 8
_MOST_TOLD = 100  # warnings a run: the names in them come from the records

Answer: TypeAlias = Entity | Literal["missing", "several"]


class DirectoryUnavailable(SourceError):
    """Zentrik cannot say now which account or product something belongs to."""

    code = "lookup_failed"


class Memory(Protocol):
    """Where answers are remembered, and creations claimed."""

    async def recall(self, questions: Sequence[Question]) -> Mapping[Question, Known]:
        """What is known of some questions."""

    async def keep(self, answers: Mapping[Question, Json], now: datetime) -> None:
        """Remember answers."""

    async def claim(self, names: Sequence[tuple[str, str]], now: datetime) -> bool:
        """Set out to create the account of those names; False when another does."""

    async def release(self, names: Sequence[tuple[str, str]]) -> None:
        """Give that up."""


class Kept:
    """A memory in the ledger, shared by all who use it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def recall(self, questions: Sequence[Question]) -> Mapping[Question, Known]:
        """What is known of some questions."""
        return await self._ledger.ask(lookups.recall, questions)

    async def keep(self, answers: Mapping[Question, Json], now: datetime) -> None:
        """Remember answers, for as long as the longest lasts."""
        await self._ledger.change(lookups.keep, answers, now, now - FOUND_LASTS)

    async def claim(self, names: Sequence[tuple[str, str]], now: datetime) -> bool:
        """Set out to create the account of those names; False when another does."""
        return await self._ledger.change(lookups.claim, names, now, now - CLAIM_LASTS)

    async def release(self, names: Sequence[tuple[str, str]]) -> None:
        """Give that up."""
        await self._ledger.change(lookups.release, names)


class Glanced:
    """A memory for a run that leaves no trace: what a ledger knows, if there is one, and what was answered since."""

    def __init__(self, database: Database | None) -> None:
        self._database = database
        self._answers: dict[Question, Known] = {}

    async def recall(self, questions: Sequence[Question]) -> Mapping[Question, Known]:
        """What is known of some questions."""
        known: dict[Question, Known] = {}
        if self._database is not None:
            with self._database.read() as db:
                known = lookups.recall(db, questions)
        return known | {question: self._answers[question] for question in questions if question in self._answers}

    async def keep(self, answers: Mapping[Question, Json], now: datetime) -> None:
        """Remember answers until the run is over."""
        self._answers |= {question: Known(answer, now) for question, answer in answers.items()}

    async def claim(self, names: Sequence[tuple[str, str]], now: datetime) -> bool:  # noqa: ARG002 - see above
        """Nothing is created in such a run."""
        return False

    async def release(self, names: Sequence[tuple[str, str]]) -> None:
        """There is nothing to give up."""


class Directory:
    """Looks accounts and products up. One for a run: what is to be told is told once. `creates` False: an account that
    would be created is told of instead."""

    def __init__(
        self,
        workspace: Workspace,
        memory: Memory,
        clock: Callable[[], datetime],
        *,
        creates: bool = True,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        backoff: Backoff = Backoff(first=timedelta(milliseconds=500), cap=_LONGEST_WAIT),  # noqa: B008 - frozen
    ) -> None:
        self._workspace = workspace
        self._memory = memory
        self._clock = clock
        self._creates = creates
        self._sleep = sleep
        self._backoff = backoff
        self._lacking: dict[
            str, datetime
        ] = {}  # a scope, or an account that is not to be, and until when to believe it
        self._told: set[tuple[str, ...]] = set()
        self._calls = asyncio.Semaphore(_AT_ONCE)
        self._creating = asyncio.Lock()

    async def place(self, source: Source, page: Sequence[Shaped]) -> list[Record | RawRecord]:
        """The records of a page with their accounts and products. Raises `DirectoryUnavailable`."""
        if not any(one.account or one.products for one in page):
            return [one.record for one in page]
        products = await self._products(source, {name for one in page for name in one.products})
        companies = {one.account: one.company for one in page if one.account}
        accounts = await self.resolve(source.name, companies, creates=source.mapping.on_missing == "create")
        holds = source.mapping.on_missing == "hold"
        return [_placed(one, accounts, products, holds=holds) for one in page]

    # Accounts

    async def resolve(
        self, connector: str, companies: Mapping[tuple[Ask, ...], str | None], *, creates: bool
    ) -> dict[tuple[Ask, ...], Answer]:
        """The accounts of a connector's records, by what they are asked by: the first question that has an answer
        counts. `creates` those there are none of, named as the companies are. None that the key may not ask for.

        Raises `DirectoryUnavailable`.
        """
        open_ = dict(companies)
        found: dict[tuple[Ask, ...], Answer] = {}
        for turn in range(max(map(len, open_), default=0)):
            asks = {key: key[turn] for key in open_ if turn < len(key) and key not in found}
            answers = await self._ask("accounts", {_question("accounts", ask) for ask in asks.values()})
            for key, ask in asks.items():
                match answers.get(_question("accounts", ask)):
                    case Entity() as account:
                        found[key] = account
                    case "several":
                        self._warn("several accounts fit; its records go out without one", connector=connector,
                                   asked=f"{ask.by}={ask.value}")  # fmt: skip
                        found[key] = "several"
                    case "missing":
                        pass
                    case None:
                        del open_[key]
        for key, company in open_.items():
            if key not in found:
                created = await self._create(connector, key, company) if creates else None
                found[key] = created or "missing"
        return found

    async def _create(self, connector: str, asks: tuple[Ask, ...], company: str | None) -> Entity | None:
        """The account of a record that has none: found after all, or created; None where that is not possible."""
        named: dict[str, str] = {ask.by: ask.value for ask in reversed(asks)}
        fields = {"name": named.get("name") or company or named.get("domain") or named["externalId"], **named}
        shown = ", ".join(f"{name} {value}" for name, value in named.items())
        if not self._creates:
            self._warn("an account would be created; this shows the record without", connector=connector, account=shown)
            return None
        if self._is_lacking("accounts:write"):
            return None
        questions = [_question("accounts", ask) for ask in asks]
        async with self._creating:  # and the next one looks first, for it may be the same company
            if account := await self._look_again(questions):
                return account
            if self._is_lacking("accounts:read") or self._is_lacking(f"account {shown}"):
                return None
            if not await self._memory.claim(sorted(named.items()), self._clock()):
                raise DirectoryUnavailable(
                    f"an account ({shown}) was being created a moment ago, and Zentrik does not show it yet. Nothing "
                    f"was lost: it goes on by itself, in {CLAIM_LASTS.total_seconds() / 60:.0f} minutes at the latest"
                )
            match await self._workspace.create_account(fields):
                case Entity() as account:
                    log.info("account created", connector=connector, account=shown)
                case Blocked(reason):
                    await self._memory.release(sorted(named.items()))
                    self._lacks("accounts:write", reason, "account.on_missing")
                    return None
                case Refused(reason):
                    account = await self._look_again(questions)
                    if account is None:
                        await self._memory.release(sorted(named.items()))
                        self._do_without(f"account {shown}")
                        self._warn("Zentrik would not create an account; its records go out without one",
                                   connector=connector, account=shown, reason=reason)  # fmt: skip
                        return None
                case Troubled(reason):
                    account = await self._look_again(questions)
                    if account is None:
                        raise DirectoryUnavailable(
                            f"whether an account ({shown}) was created is not known yet: {reason}. Nothing was lost: "
                            "it is looked for again with the next reading, and only then created anew"
                        )
            await self._keep(dict.fromkeys(questions, account))
            return account

    async def _look_again(self, questions: Sequence[Question]) -> Entity | None:
        """The account Zentrik has now for the first of some questions that has one, whatever is remembered."""
        for question in questions:
            if isinstance(answer := await self._answer("accounts", question), Entity):
                await self._keep({question: answer})
                return answer
        return None

    # Products

    async def _products(self, source: Source, names: Iterable[str]) -> dict[str, str]:
        """Zentrik's ids of some products, each by its externalId or else its name; those there are."""
        by_id = {name: Question("products", "externalId", name) for name in names}
        found = await self._ask("products", by_id.values())
        by_name = {
            name: Question("products", "name", name)
            for name, question in by_id.items()
            if not isinstance(found.get(question), Entity)
        }
        found |= await self._ask("products", by_name.values())
        ids: dict[str, str] = {}
        for name, question in (by_id | by_name).items():
            match found.get(question):
                case Entity(id=id_):
                    ids[name] = id_
                case "missing" | "several":
                    self._warn(
                        "no such product at Zentrik; records go out without it", connector=source.name, product=name
                    )
        return ids

    # Both

    async def _ask(self, kind: Kind, questions: Iterable[Question]) -> dict[Question, Answer]:
        """The answers to some questions, remembered or fetched; to none where the key may not ask."""
        wanted = sorted(set(questions))
        if not wanted or self._is_lacking(f"{kind}:read"):
            return {}
        now = self._clock()
        recalled = {name: (_read(said), at) for name, (said, at) in (await self._memory.recall(wanted)).items()}
        known = {name: answer for name, (answer, at) in recalled.items() if timedelta(0) <= now - at < _lasts(answer)}
        open_ = [question for question in wanted if question not in known]
        if not open_:
            return known
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = {question: tasks.create_task(self._answer(kind, question)) for question in open_}
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        results = {question: task.result() for question, task in asked.items()}
        fetched = {question: answer for question, answer in results.items() if answer is not None}
        await self._keep(fetched)
        return known | fetched

    async def _answer(self, kind: Kind, question: Question) -> Answer | None:
        """What Zentrik answers; None where the key may not ask. Raises `DirectoryUnavailable`."""
        for failures in range(1, TRIES + 1):
            async with self._calls:
                if self._is_lacking(f"{kind}:read"):
                    return None
                said = await self._workspace.find(kind, question.field, question.asked)
            match said:
                case ():
                    return "missing"
                case (entity,):
                    return entity
                case tuple():
                    return "several"
                case Blocked(reason):
                    self._lacks(f"{kind}:read", reason, "account" if kind == "accounts" else "products")
                    return None
                case Troubled(reason, after):
                    wait = after or self._backoff.ceiling(failures)
                    if failures == TRIES or wait > _LONGEST_WAIT:
                        raise DirectoryUnavailable(
                            f"Zentrik cannot say now which of the {kind} this is: {reason}. Nothing was lost: the next "
                            "reading goes on from here"
                        )
                    await self._sleep(wait.total_seconds())
                case _:
                    assert_never(said)
        raise AssertionError  # the last try returns or raises

    async def _keep(self, answers: Mapping[Question, Answer]) -> None:
        if answers:
            written = {question: _written(answer) for question, answer in answers.items()}
            await self._memory.keep(written, self._clock())

    def _is_lacking(self, scope: str) -> bool:
        until = self._lacking.get(scope)
        return until is not None and self._clock() < until

    def _lacks(self, scope: str, reason: str, setting: str) -> None:
        self._do_without(scope)
        self._warn("accounts and products are left out", scope=scope, setting=setting, reason=reason)

    def _do_without(self, what: str) -> None:
        """From now on it is done without, and tried again later."""
        now = self._clock()
        self._lacking = {name: until for name, until in self._lacking.items() if until > now}
        self._lacking[what] = now + MISSING_LASTS

    def _warn(self, message: str, **about: str) -> None:
        """Warn, once a run."""
        once = (message, *about.values())
        if once not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(once)
            log.warning(message, **about)


def _question(kind: Kind, ask: Ask) -> Question:
    return Question(kind, ask.by, ask.value)


def _placed(
    one: Shaped, accounts: Mapping[tuple[Ask, ...], Answer], products: Mapping[str, str], *, holds: bool
) -> Record | RawRecord:
    record = one.record
    if not isinstance(record, Record):
        return record
    ids = (*record.product_ids, *(products[name] for name in one.products if name in products))
    placed = replace(record, product_ids=tuple(dict.fromkeys(ids)))
    match accounts.get(one.account):
        case Entity(external_id=str(external_id)):
            return replace(placed, account_external_id=external_id)
        case Entity(id=id_):
            return replace(placed, account_id=id_)
        case "missing" if holds:
            return replace(placed, held=tuple((ask.by, ask.value) for ask in one.account))
        case _:
            return placed


def _lasts(answer: Answer) -> timedelta:
    return FOUND_LASTS if isinstance(answer, Entity) else MISSING_LASTS


def _written(answer: Answer) -> Json:
    match answer:
        case Entity(id_, external_id):
            return [id_, external_id]
        case "several":
            return "several"
        case _:
            return None


def _read(said: Json) -> Answer:
    """What `_written` wrote."""
    match said:
        case [str(id_), (str() | None) as external_id]:
            return Entity(id_, external_id)
        case "several":
            return "several"
        case _:
            return "missing"
