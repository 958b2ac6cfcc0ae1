"""A vendor's pages break, repeat and change under the reader's hands, and every record still arrives, once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from itertools import count
from typing import Any, ClassVar

import httpx
import pytest

from syncd.connector import Checkpoint, Connector, Page, Record, Source, Window
from syncd.dispatch import dispatch
from syncd.http_client import lend
from syncd.ledger import Database, Ledger, report
from syncd.pacing import Gate, LookSchedule
from syncd.pull import MOST_REPEATS, Pulled, pull
from syncd.sandbox import Sandbox
from tests.conftest import Clock, at
from tests.faults.conftest import OnSQLite, Stage

HOST = "vendor.example"
PAGE = 3
"""How many tickets the vendor shows at a time."""

Misfortune = Callable[[httpx.Response], httpx.Response]


class Vendor:
    """A ticket system: tickets by the time of their last change, three at a time, each page saying where to go on.

    `misfortunes` befall its answers, by their number from 1; `meanwhile` happens to its tickets before them.
    """

    def __init__(self, tickets: dict[str, int]) -> None:
        self.tickets = tickets
        self.asked = 0
        self.misfortunes: dict[int, Misfortune] = {}
        self.meanwhile: dict[int, Callable[[dict[str, int]], object]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if happening := self.meanwhile.get(self.asked):
            happening(self.tickets)
        answer = self.page(**request.url.params)
        return self.misfortunes.get(self.asked, lambda response: response)(answer)

    def page(self, since: str = "", cursor: str = "", newest_first: str = "") -> httpx.Response:
        """The tickets changed since then (that instant included), after the one that the cursor names."""
        shown = sorted((changed, name) for name, changed in self.tickets.items() if changed >= int(since or 0))
        if newest_first:
            shown.reverse()
        if cursor:
            changed, _, name = cursor.partition("/")
            after = int(changed), name
            shown = [one for one in shown if (one < after if newest_first else one > after)]
        page = shown[:PAGE]
        more = f"{page[-1][0]}/{page[-1][1]}" if len(shown) > PAGE else None
        found = [{"id": name, "changed": changed} for changed, name in page]
        return httpx.Response(200, json={"tickets": found, "next": more, "here": cursor})


class Tickets(Connector):
    """Reads the vendor oldest first, and remembers the time of the last change it saw."""

    provider: ClassVar[str] = "vendor"

    def hosts(self) -> frozenset[str]:
        return frozenset({HOST})

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        since: Any = checkpoint.get("since", 0)
        cursor = ""
        while cursor is not None:
            tickets, cursor = await self.ask(http, since=checkpoint.get("since", 0), cursor=cursor)
            since = max([since, *(ticket["changed"] for ticket in tickets)])
            yield Page(records=[self.record(ticket) for ticket in tickets], checkpoint={"since": since})

    async def ask(self, http: httpx.AsyncClient, **params: Any) -> tuple[list[Any], Any]:
        answer = (await http.get(f"https://{HOST}/tickets", params=params)).json()
        return answer["tickets"], answer["next"]

    def record(self, ticket: Any) -> Record:
        return Record(id=ticket["id"], kind="support_ticket", text=f"Changed at {ticket['changed']}.")

    async def check(self, http: httpx.AsyncClient) -> str:
        return "a ticket system"


class Latest(Tickets):
    """Reads it newest first, and so may remember how far it got only once it is through."""

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        old: Any = checkpoint.get("since", 0)
        newest, cursor = old, ""
        while cursor is not None:
            tickets, cursor = await self.ask(http, since=old, cursor=cursor, newest_first="yes")
            newest = max([newest, *(ticket["changed"] for ticket in tickets)])
            here = {"since": old if cursor else newest}
            yield Page(records=[self.record(ticket) for ticket in tickets], checkpoint=here)


def tickets(number: int, *, together: int = 1) -> dict[str, int]:
    """So many tickets, of which `together` at a time changed at the same instant."""
    return {f"t-{place}": 100 + place // together for place in range(number)}


class Reader:
    """Reads a vendor into a ledger, and passes on to Zentrik what it read."""

    def __init__(self, ledger: Ledger, clock: Clock, stage: Stage, number: int) -> None:
        self.ledger = ledger
        self.clock = clock
        self._stage = stage
        self._number = number

    async def read(self, vendor: Vendor, connector: Connector) -> Pulled:
        """One reading. What the client waits passes at once."""

        async def sleep(seconds: float) -> None:
            self.clock.move(seconds)

        run = await self.ledger.start_run("test", self.clock())
        wire = httpx.MockTransport(vendor)
        async with lend(connector, clock=self.clock, sleep=sleep, draw=lambda: 0.5, transport=wire) as http:
            return await pull(self.source(connector), self.ledger, http, run, self.clock)

    def source(self, connector: Connector) -> Source:
        """This reader's own source, by such a connector."""
        name = f"{type(connector).__name__.lower()}-{self._number}"
        return Source(name, "vendor", f"vendor:{name}", connector)

    async def known(self, connector: Connector) -> set[str]:
        """The tickets in the ledger."""
        name = self.source(connector).name
        found = await self.ledger.ask(lambda db: [row.external_id for row in report.find(db, connector=name)])
        return {external_id.rpartition(":")[2] for external_id in found}

    async def checkpoint(self, connector: Connector) -> Checkpoint:
        """Where the next reading goes on."""
        return (await self.ledger.ask(report.connector_rows))[self.source(connector).name].checkpoint

    async def delivered(self, fault: str, shown: Collection[str], connector: Connector) -> None:
        """Post what was read, and see that each of these tickets is at Zentrik, once."""
        sandbox = Sandbox(now=self.clock)
        run = await self.ledger.start_run("test", self.clock())
        async with at(sandbox, self.clock) as zentrik:
            await dispatch(
                self.ledger, zentrik, Gate(), LookSchedule(), run, self.clock, lambda: 0.5, sleep=self.clock.sleep
            )
        namespace = self.source(connector).namespace
        lost = [id_ for id_ in shown if not sandbox.books.with_external_id(f"{namespace}:{id_}")]
        doubled = sandbox.books.duplicates()
        self._stage.count(f"a source: {fault}", lost=len(lost), doubled=doubled, dedup=False)
        assert (lost, doubled, len(sandbox.books)) == ([], 0, len(shown))


Readers = Callable[[], Reader]


@pytest.fixture
def readers(stage: Stage, clock: Clock) -> Iterator[Readers]:
    """Readers on one ledger, each of a source of its own."""
    ledger = Ledger(Database(stage.new_ledger(stage.folder)))
    numbers = count(1)
    yield lambda: Reader(ledger, clock, stage, next(numbers))
    ledger.close()


class Half(httpx.AsyncByteStream):
    """Half a body, and then the connection is gone."""

    def __init__(self, whole: bytes) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._whole[: len(self._whole) // 2]
        raise httpx.ReadError("connection reset by peer")


def answers(status: int, **headers: str) -> Misfortune:
    return lambda _: httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def breaks_off(response: httpx.Response) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "application/json"}, stream=Half(response.content))


def is_cut_in_half(response: httpx.Response) -> httpx.Response:
    return httpx.Response(200, content=response.content[: len(response.content) // 2])


def refuses(_: httpx.Response) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


PASSING = {
    "429 with Retry-After": answers(429, Retry_After="30"),
    "429": answers(429),
    "500": answers(500),
    "503 with Retry-After": answers(503, Retry_After="30"),
    "a page that breaks off": breaks_off,
    "a refused connection": refuses,
}
LASTING = {
    **PASSING,
    "JSON cut in half": is_cut_in_half,
    "404": answers(404),
    "401": answers(401),
    "Retry-After of a day": answers(429, Retry_After="86400"),
}
CONNECTORS = [Tickets, Latest]

LATE = 200
"""After any other change."""

HAPPENINGS: dict[str, Callable[[dict[str, int]], object]] = {
    "comes": lambda tickets: tickets.update({"t-new": LATE}),
    "slips in": lambda tickets: tickets.update({"t-new": 105}),
    "changes": lambda tickets: tickets.update({"t-1": LATE}),
    "goes": lambda tickets: tickets.pop("t-1"),
}
"""What befalls a ticket. One that slips in among older ones is not owed to a reader that has passed there."""


@pytest.mark.parametrize("connector", CONNECTORS)
class TestPagesThatStumble(OnSQLite):
    @pytest.mark.parametrize("fault", PASSING)
    async def test_what_passes_is_waited_out(self, readers: Readers, connector: type[Connector], fault: str) -> None:
        """A vendor that stumbles on any one page is asked again, and the reading knows nothing of it."""
        for page in range(1, 5):
            vendor, reader = Vendor(tickets(10, together=4)), readers()
            vendor.misfortunes[page] = PASSING[fault]
            pulled = await reader.read(vendor, connector())
            assert (pulled.new, pulled.error) == (10, None), page
            assert vendor.asked == 5
            await reader.delivered(f"{fault}, once", vendor.tickets, connector())


@pytest.mark.parametrize("connector", CONNECTORS)
class TestPagesThatFail:
    @pytest.mark.parametrize("fault", LASTING)
    async def test_what_lasts_ends_the_reading_and_the_next_one_goes_on(
        self, readers: Readers, connector: type[Connector], fault: str
    ) -> None:
        """Pages before the one that fails are kept; with four tickets to an instant, the next reading misses none."""
        for page in range(1, 5):
            vendor, reader = Vendor(tickets(10, together=4)), readers()
            vendor.misfortunes = dict.fromkeys(range(page, 200), LASTING[fault])
            pulled = await reader.read(vendor, connector())
            assert pulled.error is not None
            assert pulled.new == (page - 1) * PAGE
            vendor.misfortunes.clear()
            reader.clock.move(2 * 86_400)  # a vendor that asked to be left alone is, for a day where it said so
            pulled = await reader.read(vendor, connector())
            assert (pulled.new, pulled.error) == (10 - (page - 1) * PAGE, None), page
            assert await reader.checkpoint(connector()) == {"since": 102}
            await reader.delivered(f"{fault}, until the next run", vendor.tickets, connector())


@pytest.mark.parametrize("connector", CONNECTORS)
class TestPagesThatChange(OnSQLite):
    async def test_instants_shared_across_pages(self, readers: Readers, connector: type[Connector]) -> None:
        """However many tickets changed at one instant, a reading that ended among them leaves none of them out."""
        for together in (2, 3, 4, 7, 10):
            for last in range(1, 5):
                vendor, reader = Vendor(tickets(10, together=together)), readers()
                vendor.misfortunes[last] = answers(404)
                assert (await reader.read(vendor, connector())).error is not None
                pulled = await reader.read(vendor, connector())
                assert pulled.error is None, (together, last)
                vendor.tickets |= {"t-late": max(vendor.tickets.values())}  # one more of the last instant
                assert (await reader.read(vendor, connector())).new == 1, (together, last)
                await reader.delivered("an instant that several pages share", vendor.tickets, connector())

    async def test_an_empty_page_is_not_the_end(self, readers: Readers, connector: type[Connector]) -> None:
        """Some vendors filter after they page: what follows an empty page is read too."""

        def empty(response: httpx.Response) -> httpx.Response:
            """No tickets, and the same place to go on from as was asked about."""
            return httpx.Response(200, json={"tickets": [], "next": response.json()["here"]})

        for page in range(1, 5):
            for length in (1, 2, MOST_REPEATS):
                vendor, reader = Vendor(tickets(10)), readers()
                vendor.misfortunes = dict.fromkeys(range(page, page + length), empty)
                pulled = await reader.read(vendor, connector())
                assert (pulled.new, pulled.error) == (10, None), (page, length)
                await reader.delivered("empty pages, and then more", vendor.tickets, connector())

    @pytest.mark.parametrize("happening", HAPPENINGS)
    async def test_tickets_that_come_and_go_and_move(
        self, readers: Readers, connector: type[Connector], happening: str
    ) -> None:
        """What is added, changed or deleted while pages are read neither hides another ticket nor brings it twice."""
        for page in range(1, 5):
            vendor, reader = Vendor(tickets(10)), readers()
            before = vendor.tickets.keys() | set()
            vendor.meanwhile[page] = HAPPENINGS[happening]
            for _ in range(2):
                assert (await reader.read(vendor, connector())).error is None
            after = vendor.tickets.keys() | set()
            known = await reader.known(connector())
            assert before & after <= known <= before | after, page
            assert known >= {name for name, changed in vendor.tickets.items() if changed == LATE}, page
            await reader.delivered(f"a ticket that {happening} while pages are read", known, connector())


class TestCursors(OnSQLite):
    @pytest.mark.parametrize("connector", CONNECTORS)
    @pytest.mark.parametrize("length", [1, 2, 3])
    async def test_a_cursor_that_goes_round_is_refused(
        self, readers: Readers, connector: type[Connector], length: int
    ) -> None:
        """A vendor that leads in circles is left, with a word that names it; what it showed is kept and delivered."""
        for page in range(1, 4):
            vendor, reader = Vendor(tickets(10)), readers()
            circle: list[httpx.Response] = []

            def goes_round(
                response: httpx.Response, circle: list[httpx.Response] = circle, vendor: Vendor = vendor
            ) -> httpx.Response:
                turn = (vendor.asked - page) % length  # noqa: B023
                if len(circle) <= turn:
                    circle.append(response)
                return httpx.Response(200, json={**circle[turn].json(), "next": "100/t-0"})

            vendor.misfortunes = dict.fromkeys(range(page, 1000), goes_round)
            pulled = await reader.read(vendor, connector())
            assert pulled.error is not None
            assert pulled.error[0] == "cursor_stuck"
            assert vendor.asked <= page + 2 * length + MOST_REPEATS
            assert connector is Tickets or await reader.checkpoint(connector()) == {"since": 0}
            vendor.misfortunes.clear()
            assert (await reader.read(vendor, connector())).error is None
            await reader.delivered("a cursor that repeats", vendor.tickets, connector())

    async def test_what_repeats_an_old_checkpoint_is_not_stuck(self, readers: Readers) -> None:
        """Newest first, a long backlog has one checkpoint on all its pages, and after a break they are known."""
        number = (MOST_REPEATS + 50) * PAGE
        vendor, reader = Vendor(tickets(number)), readers()
        vendor.misfortunes[MOST_REPEATS + 40] = answers(404)
        pulled = await reader.read(vendor, Latest())
        assert pulled.error is not None
        assert pulled.new == (MOST_REPEATS + 39) * PAGE
        pulled = await reader.read(vendor, Latest())
        assert (pulled.new, pulled.error) == (11 * PAGE, None)
        await reader.delivered("newest first, over many pages", vendor.tickets, Latest())
