"""Alerts on their way out: a look at everything every few seconds, a message for what changed, and a sign of life.

Nothing here ever stops the daemon: what goes wrong is logged, and tried again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from functools import partial
from typing import Protocol

import aiosmtplib
import httpx
from pydantic import SecretStr

from syncd import __version__
from syncd.alerts import OF_ZENTRIK, Alert, Change, Destination, Kind, Sight, compare, told
from syncd.app import House
from syncd.errors import KeyRefused, LedgerError
from syncd.ledger import State, report, spending
from syncd.ledger.report import AlertRow
from syncd.logs import get_logger, printable, redact
from syncd.retry import Backoff
from syncd.scheduler import next_run
from syncd.settings import AlertSettings, EmailSettings
from syncd.status import Status, status
from syncd.zentrik import Troubled

log = get_logger()

_LOOK = timedelta(seconds=5)
_SHARE = 100  # a look takes a hundredth of the time at most: where it takes long, there are fewer
_PATIENCE = timedelta(seconds=15)  # with the ledger, and with whoever takes a message
_ASK = timedelta(minutes=1)  # between two questions to Zentrik how it is
_TRIES = 3
_PING_AGAIN = timedelta(seconds=30)  # after a call that was not made, or did not get through
_LATE = timedelta(minutes=5)  # what is due for so long is being held up
_FOLLOWED = (State.PROCESSING, State.FAILED)

_Sleep = Callable[[float], Awaitable[None]]


class Undelivered(Exception):
    """A message did not get through; `passing` means that it may, if it is sent again."""

    def __init__(self, reason: str, *, passing: bool) -> None:
        super().__init__(printable(redact(reason), " "))
        self.passing = passing


class Way(Protocol):
    """One way of telling somebody."""

    @property
    def title(self) -> str:
        """What it is called in the log."""

    async def send(self, alert: Alert, name: str, now: datetime) -> None:
        """Tell of an alert of the syncd of that name. Raises `Undelivered`."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that alerts are posted to."""

    address: SecretStr
    title: str = "webhook"

    async def send(self, alert: Alert, name: str, now: datetime) -> None:  # noqa: ARG002 - not every way needs it
        """Post it as JSON. Raises `Undelivered`."""
        await _call("POST", self.address, alert.as_json(name))


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail server, and those who get alerts by it. `trust` None trusts the authorities this machine trusts."""

    settings: EmailSettings
    trust: ssl.SSLContext | None = None
    title: str = "email"

    async def send(self, alert: Alert, name: str, now: datetime) -> None:
        """Mail it to everybody in `to`. Raises `Undelivered`, when nobody got it."""
        settings = self.settings
        message = EmailMessage()
        message["From"] = settings.sender
        message["To"] = ", ".join(settings.to)
        message["Subject"] = alert.title(name)
        message["Date"] = format_datetime(now)
        message["Message-ID"] = make_msgid(domain=settings.sender.partition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # nobody's absence note answers it
        message.set_content(alert.text(name))
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                refused, _ = await aiosmtplib.send(
                    message,
                    hostname=settings.host,
                    port=settings.port,
                    username=settings.username,
                    password=settings.password.get_secret_value() if settings.password else None,
                    use_tls=settings.tls == "tls",
                    start_tls=settings.tls == "starttls",
                    tls_context=self.trust,
                    local_hostname=socket.gethostname(),
                )
        except aiosmtplib.SMTPResponseException as error:
            said = f"{settings.host} answered {error.code}: {error.message}"
            raise Undelivered(said, passing=error.code < 500) from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise Undelivered(f"{settings.host}: {str(error) or type(error).__name__}", passing=True) from None
        for address, answer in refused.items():
            log.warning("an alert was not taken for one of its readers", reader=address, answer=str(answer))


def ways(settings: AlertSettings) -> list[Way]:
    """The ways of telling that are set up."""
    found: list[Way] = []
    if settings.webhook is not None:
        found.append(Webhook(settings.webhook))
    if settings.email.to:
        found.append(Mail(settings.email))
    return found


async def try_out(settings: AlertSettings, now: datetime) -> list[tuple[str, bool, str]]:
    """Send one alert by every way, to see whether it arrives: each way, whether it took it, and what it said."""
    alert = Alert(Change.FIRING, "test", "", now, "This is only a test: somebody ran `syncd alert-test`.")
    results = []
    for way in ways(settings):
        try:
            await way.send(alert, settings.name, now)
        except Undelivered as error:
            results.append((way.title, False, str(error)))
        else:
            results.append((way.title, True, "took a test alert"))
    return results


async def watch_over(house: House, config_refused: Callable[[], str | None]) -> None:
    """Tell people of trouble, and give the sign of life, for as long as a house runs; to be cancelled at its end."""
    settings = house.config.alerts
    async with asyncio.TaskGroup() as tasks:
        if routes := ways(settings):
            tasks.create_task(Watch(house, routes, config_refused).for_ever())
        if settings.ping is not None:
            tasks.create_task(Ping(house, settings.ping).for_ever())


@dataclass(slots=True)
class Watch:
    """Looks, compares with what was told, and tells.

    What was told is kept in the ledger once somebody has it: an alert is told twice only if syncd dies between the two.
    Where several syncd work on one ledger, the one that began first speaks.
    """

    house: House
    ways: Sequence[Way]
    config_refused: Callable[[], str | None] = lambda: None
    backoff: Backoff = field(default_factory=Backoff)  # between the tries of one message
    sleep: _Sleep = asyncio.sleep
    rows: dict[tuple[str, str], AlertRow] = field(default_factory=dict)
    _unsaved: dict[tuple[str, str], AlertRow | None] = field(default_factory=dict)  # None: to be dropped
    _speaks: bool = True
    _asked_at: datetime | None = None
    _failures: int = 0
    _silent_until: datetime | None = None

    async def for_ever(self) -> None:
        """Look every few seconds."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            took = 0.0
            try:
                sight = await self.see()
                took = loop.time() - began
                await self.tell(sight)
            except Exception:  # whatever it is, the next look may do better
                log.exception("alerts could not be looked after")
            await self.sleep(max(_LOOK.total_seconds(), took * _SHARE))

    async def see(self) -> Sight:
        """One look at everything."""
        house = self.house
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                connectors = await self._ask_ledger()
        except (LedgerError, TimeoutError) as error:
            log.warning("the ledger does not answer", reason=str(error) or "it takes too long")
            connectors = None
        return Sight(house.clock(), connectors, await self._destination(), self.config_refused(), tuple(house.stuck()))

    async def tell(self, sight: Sight) -> None:
        """Send what is new in it, and remember what was sent."""
        if not self._speaks:
            return
        findings = compare(sight, self.rows.values(), self.house.config.alerts)
        for row in findings.kept:
            self._remember(row)
        for row in findings.dropped:
            self._forget(row)
        if self._silent_until is None or sight.now >= self._silent_until:
            for alert, row in findings.alerts:
                if not await self._deliver(alert):
                    self._failures += 1
                    self._silent_until = self.house.clock() + self.backoff.ceiling(self._failures)
                    break
                self._failures, self._silent_until = 0, None
                if alert.change is Change.FIRING:
                    self._remember(told(row, self.house.clock()))
                else:
                    self._forget(row)
                await self._store()
        await self._store()

    async def _deliver(self, alert: Alert) -> bool:
        """Tell by every way at once; whether at least one took it."""
        log.info("alert", state=str(alert.change), kind=str(alert.kind), connector=alert.connector or None)
        return any(await asyncio.gather(*(self._send(way, alert) for way in self.ways)))

    async def _send(self, way: Way, alert: Alert) -> bool:
        house = self.house
        for failures in range(1, _TRIES + 1):
            try:
                await way.send(alert, house.config.alerts.name, house.clock())
            except Undelivered as error:
                log.warning("an alert did not get through", way=way.title, kind=str(alert.kind), reason=str(error))
                if not error.passing or failures == _TRIES:
                    return False
                await self.sleep(self.backoff.wait(failures, house.draw).total_seconds())
            except Exception:  # a defect in one way must not hide that another one took it
                log.exception("an alert could not be sent", way=way.title)
                return False
            else:
                return True
        return False

    async def _ask_ledger(self) -> Status:
        ledger = self.house.ledger
        await self._store()
        if not self._unsaved:
            self.rows = {(row.kind, row.connector): row for row in await ledger.ask(report.troubles)}
        running = set(await ledger.ask(report.unfinished_runs, "run")) & await ledger.living_runs()
        self._speaks = self.house.run <= min(running, default=self.house.run)
        return await ledger.on_thread(partial(status, self.house.config, ledger.database, self.house.clock()))

    async def _destination(self) -> Destination | None:
        """How Zentrik is, by what the loops met with; where that proves nothing, by asking it."""
        house, now = self.house, self.house.clock()
        since = house.gate.unwell_since
        if house.is_refused:
            return Destination(refused=house.gate.reason or "it takes it no longer")
        if since is None and house.figures.accepted:
            return Destination()
        known = {Kind(row.kind) for row in self.rows.values() if row.kind in OF_ZENTRIK}
        if not known and (since is None or now - since < house.config.alerts.stopped_after):
            return Destination()
        if self._asked_at is not None and now - self._asked_at < _ASK:
            return None
        self._asked_at = now
        try:
            trouble = await house.zentrik.ready()
            listing = await house.zentrik.list(limit=1) if trouble is None else None
            trouble = listing if isinstance(listing, Troubled) else trouble
        except KeyRefused as error:
            return Destination(refused=str(error))
        if trouble is not None:
            return Destination(ill=trouble.reason, since=since)
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                waits, _ = await house.ledger.ask(spending.undelivered, None, house.config.budgets, house.clock())
        except (LedgerError, TimeoutError):
            return None
        if Kind.KEY_REFUSED in known and waits is not None:  # a key that may read is not yet one that may write
            return None
        return Destination()

    def _remember(self, row: AlertRow) -> None:
        self.rows[row.kind, row.connector] = self._unsaved[row.kind, row.connector] = row

    def _forget(self, row: AlertRow) -> None:
        self.rows.pop((row.kind, row.connector), None)
        self._unsaved[row.kind, row.connector] = None

    async def _store(self) -> None:
        """Bring the ledger up to date; when it does not answer, that is done at the next look."""
        if not self._unsaved:
            return
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await self.house.ledger.note_troubles(dict(self._unsaved))
        except (LedgerError, TimeoutError) as error:
            log.warning("the ledger does not answer", reason=str(error) or "it takes too long")
        else:
            self._unsaved.clear()


@dataclass(slots=True)
class Ping:
    """The sign of life: an address is called for as long as something moves, or provably nothing has to."""

    house: House
    address: SecretStr
    sleep: _Sleep = asyncio.sleep
    _moved: tuple[int, ...] = ()

    async def for_ever(self) -> None:
        """Call it every `ping_every`; when it was not called, look again sooner."""
        every = self.house.config.alerts.ping_every
        while True:
            done = False
            try:
                done = await self.once()
            except Exception:  # whoever waits for the call hears of it
                log.exception("the sign of life could not be given")
            await self.sleep((every if done else min(every, _PING_AGAIN)).total_seconds())

    async def once(self) -> bool:
        """Call it, if all gets on; whether it was called."""
        held_up = await self.held_up()
        if held_up is not None:
            log.warning("no sign of life is given", reason=held_up)
            return False
        try:
            await _call("GET", self.address)
        except Undelivered as error:
            log.warning("the sign of life did not get through", reason=str(error))
            return False
        return True

    async def held_up(self) -> str | None:
        """Why it cannot be said that all gets on; None when it does: something moved since the last look, or nothing
        is due."""
        house, now = self.house, self.house.clock()
        if stuck := house.stuck():
            return f"no progress in {', '.join(stuck)}"
        before, self._moved = self._moved, self._movement()
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                unposted = await house.ledger.ask(spending.undelivered, None, house.config.budgets, now)
                followed = await house.ledger.ask(report.next_due, _FOLLOWED)
                due = min((each for each in (*unposted, followed) if each is not None), default=None)
                rows = await house.ledger.ask(report.connector_rows)
                living = await house.ledger.living_runs()
        except (LedgerError, TimeoutError) as error:
            return f"the ledger does not answer: {str(error) or 'it takes too long'}"
        if before and before != self._moved:
            return None
        if due is not None and now - due > _LATE:
            return f"signals are due since {due.isoformat(timespec='seconds')}, and none moves"
        for name, entry in house.config.connectors.items():
            row = rows.get(name)
            if row is None or row.started_at is None:
                continue
            if row.run_id in living:  # it is being read
                is_late = now - row.started_at > house.config.lease
            else:
                start = next_run(entry, row, row.started_at)
                is_late = start is not None and now - start > _LATE
            if is_late:
                return f"{name} should have been read, and is not"
        return None

    def _movement(self) -> tuple[int, ...]:
        """Figures that change whenever anything is done."""
        figures = self.house.figures
        read = sum(pulled.fetched for pulled in figures.connectors.values())
        return (figures.accepted, figures.signals[State.PROCESSED], figures.signals[State.FAILED], read)


async def _call(method: str, address: SecretStr, body: object = None) -> None:
    """One call to somebody who is not us: nothing of the answer counts but its status. Raises `Undelivered`."""
    try:
        async with (
            asyncio.timeout(_PATIENCE.total_seconds()),
            httpx.AsyncClient(headers={"User-Agent": f"syncd/{__version__}"}, timeout=None) as http,  # noqa: S113 - above
            http.stream(method, address.get_secret_value(), json=body) as response,
        ):
            code = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise Undelivered(f"no answer: {str(error) or type(error).__name__}", passing=True) from None
    if not 200 <= code < 300:
        raise Undelivered(f"it answered {code}", passing=code in (408, 429) or code >= 500)
