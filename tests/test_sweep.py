"""Sweep: what was not shown is not there, however the list is ordered and whatever happens while it is read."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.errors import KeyRefused
from syncd.sweep import Leaning, Patience, See, sweep
from syncd.zentrik import Troubled, Zentrik

PACE = timedelta(milliseconds=100)


@dataclass
class Workspace:
    """A list of signals without a network in between. `meanwhile` happens before each call, which it is told the
    number of; `instead` are answers that are no page, by call. Calls are numbered from 1."""

    listed: list[str]
    cap: int = 100
    counts: Callable[[int], int] = lambda size: size
    headers: tuple[str, ...] = ("X-Total-Count", "X-Has-More")
    meanwhile: Callable[[int], None] = lambda _: None
    instead: dict[int, httpx.Response] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)
    broken: Callable[[str], object] = lambda public_id: None

    def answer(self, request: httpx.Request) -> httpx.Response:
        offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        self.offsets.append(offset)
        self.meanwhile(len(self.offsets))
        if len(self.offsets) in self.instead:
            return self.instead[len(self.offsets)]
        page = self.listed[offset : offset + min(limit, self.cap)]
        total = self.counts(len(self.listed))
        said = {"X-Total-Count": str(total), "X-Has-More": str(offset + len(page) < total).lower()}
        body = [self.broken(public_id) or {"publicId": public_id, "externalId": f"x:{public_id}"} for public_id in page]
        return httpx.Response(200, json=body, headers={name: said[name] for name in self.headers})


def numbered(size: int) -> list[str]:
    return [f"SIGNAL-{number}" for number in range(1, size + 1)]


@dataclass
class Swept:
    """What came of a sweep."""

    trouble: Troubled | None
    shown: set[str]
    waits: list[timedelta]


async def swept(workspace: Workspace, *, see: See = lambda _: False, leaning: Leaning | None = None) -> Swept:
    shown: set[str] = set()
    waits: list[timedelta] = []

    async def pause(wait: timedelta) -> None:
        waits.append(wait)

    async with Zentrik("http://zentrik.test/api", "k", transport=httpx.MockTransport(workspace.answer)) as zentrik:

        def look(page: object) -> bool:
            shown.update(remote.public_id for remote in page)  # type: ignore[attr-defined]
            return see(page)  # type: ignore[arg-type]

        return Swept(await sweep(zentrik, look, patience=Patience(pause), leaning=leaning), shown, waits)


class TestReading:
    @pytest.mark.parametrize(
        ("size", "calls"), [(0, 1), (1, 1), (99, 1), (100, 2), (101, 2), (189, 2), (190, 3), (1000, 12), (5000, 56)]
    )
    @pytest.mark.parametrize("from_tail", [False, True])
    async def test_everything_is_shown(self, size: int, calls: int, from_tail: bool) -> None:
        """Nothing is left out, from whichever end the list is read, and nothing is read that need not be."""
        workspace = Workspace(numbered(size))
        done = await swept(workspace, leaning=lambda _first, _last: from_tail)
        assert (done.trouble, done.shown) == (None, set(workspace.listed))
        assert len(workspace.offsets) == calls + (size > 200)  # looking at the other end costs a call

    async def test_whoever_has_enough_is_shown_no_more(self) -> None:
        """A large workspace is not read to its end for what stands at its head."""
        workspace = Workspace(numbered(5000))
        done = await swept(workspace, see=lambda page: page[-1].number == 190)
        assert (done.trouble, workspace.offsets) == (None, [0, 90])

    @pytest.mark.parametrize("from_tail", [False, True])
    async def test_it_begins_where_it_is_told_to(self, from_tail: bool) -> None:
        """What stands at the tail is found there, when somebody knows that it does."""
        workspace = Workspace(numbered(5000))
        ends: list[tuple[str, str]] = []

        def leaning(first: object, last: object) -> bool:
            ends.append((first[0].public_id, last[-1].public_id))  # type: ignore[index]
            return from_tail

        await swept(workspace, see=lambda page: any(remote.number == 4800 for remote in page), leaning=leaning)
        assert ends == [("SIGNAL-1", "SIGNAL-5000")]
        assert len(workspace.offsets) == (4 if from_tail else 55)

    async def test_long_sweeps_keep_to_ten_pages_a_second(self) -> None:
        """Looking for one signal does not use up what the workspace may ask for."""
        assert (await swept(Workspace(numbered(1000)))).waits == []
        assert (await swept(Workspace(numbered(5000)))).waits == [PACE] * (56 - 12)

    async def test_a_large_workspace_is_remembered_in_little(self) -> None:
        """A million signals are swept in the memory that there is: a bit for each."""
        workspace = Workspace(numbered(20_000))
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        done = 0

        def see(page: object) -> bool:
            nonlocal done
            done += 1
            return False

        async def pause(_: timedelta) -> None: ...

        async with Zentrik("http://zentrik.test/api", "k", transport=httpx.MockTransport(workspace.answer)) as zentrik:
            assert await sweep(zentrik, see, patience=Patience(pause)) is None
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert done == 223
        assert peak - before < 700_000

    async def test_a_refused_key_is_told(self) -> None:
        """A wrong key is no reason to try again."""
        workspace = Workspace(numbered(10), instead={1: httpx.Response(401)})
        with pytest.raises(KeyRefused):
            await swept(workspace)


class TestChanges:
    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 2**32),
        size=st.sampled_from([0, 60, 101, 250, 450, 900]),
        most=st.sampled_from([0, 3, 15, 60, 120]),
        balanced=st.booleans(),
        side=st.sampled_from(["head", "tail", "anywhere"]),
        from_tail=st.booleans(),
        cap=st.sampled_from([100, 50]),
        headers=st.sampled_from([("X-Total-Count", "X-Has-More"), ("X-Total-Count",), ("X-Has-More",), ()]),
    )
    async def test_what_stays_is_shown_whatever_comes_and_goes(
        self,
        seed: int,
        size: int,
        most: int,
        balanced: bool,
        side: str,
        from_tail: bool,
        cap: int,
        headers: tuple[str, ...],
    ) -> None:
        """However many signals are created and deleted between two pages, none that stays is passed over."""
        chance = random.Random(seed)
        workspace = Workspace(numbered(size), cap=cap, headers=headers)
        stays = set(chance.sample(workspace.listed, size // 10))
        made = 0

        def meanwhile(_: int) -> None:
            nonlocal made
            inserts = chance.randint(0, most)
            for _ in range(inserts):
                made += 1
                place = {"head": 0, "tail": len(workspace.listed)}.get(side)
                workspace.listed.insert(
                    chance.randrange(len(workspace.listed) + 1) if place is None else place, f"SIGNAL-{10_000 + made}"
                )
            leaves = [public_id for public_id in workspace.listed if public_id not in stays]
            deletions = min(len(leaves), inserts if balanced else chance.randint(0, most))
            gone = set(chance.sample(leaves, deletions) if side == "anywhere" else leaves[:deletions])
            workspace.listed[:] = [public_id for public_id in workspace.listed if public_id not in gone]

        workspace.meanwhile = meanwhile
        done = await swept(workspace, leaning=lambda _first, _last: from_tail)
        if done.trouble is None:
            assert stays <= done.shown
        assert len(workspace.offsets) < 600

    @pytest.mark.parametrize("rate", [5, 50, 95, 130])
    @pytest.mark.parametrize("side", ["head", "tail"])
    @pytest.mark.parametrize("from_tail", [False, True])
    async def test_a_workspace_that_grows_while_it_is_read_is_read_whole(
        self, rate: int, side: str, from_tail: bool
    ) -> None:
        """Looking for lost signals comes to an end beside a backfill that posts a thousand others meanwhile."""
        workspace = Workspace(numbered(1500))
        made = 0

        def grow(call: int) -> None:
            nonlocal made
            for _ in range(rate if 1 < call <= 30 else 0):
                made += 1
                workspace.listed.insert(0 if side == "head" else len(workspace.listed), f"SIGNAL-{10_000 + made}")

        workspace.meanwhile = grow
        done = await swept(workspace, leaning=lambda _first, _last: from_tail)
        assert done.trouble is None
        assert set(numbered(1500)) <= done.shown
        assert len(workspace.offsets) <= 120

    @pytest.mark.parametrize("deleted", [0, 1, 3])
    async def test_a_signal_that_moves_into_the_part_already_read_is_shown(self, deleted: int) -> None:
        """A list ordered by last change hides nothing that changed while it was read, even where others were deleted
        that had been shown, so that the count seems right."""
        workspace = Workspace(numbered(500))

        def move(call: int) -> None:
            if call == 3:
                workspace.listed.remove("SIGNAL-400")
                workspace.listed.insert(0, "SIGNAL-400")
                del workspace.listed[50 : 50 + deleted]

        workspace.meanwhile = move
        done = await swept(workspace)
        assert done.trouble is None
        assert "SIGNAL-400" in done.shown

    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 2**32),
        moves=st.integers(0, 3),
        creates=st.integers(0, 3),
        deletes=st.integers(0, 3),
        calls=st.sampled_from([3, 8, 1000]),
        from_tail=st.booleans(),
    )
    async def test_no_list_by_last_change_hides_anything(
        self, seed: int, moves: int, creates: int, deletes: int, calls: int, from_tail: bool
    ) -> None:
        """Signals that jump to the head, are created there or are deleted anywhere: what stays is shown, or the sweep
        says that it could not be sure."""
        chance = random.Random(seed)
        workspace = Workspace(numbered(600))
        stays = {f"SIGNAL-{number}" for number in range(1, 600, 2)}
        made = 0

        def meanwhile(call: int) -> None:
            nonlocal made
            if not 1 < call < calls:
                return
            kind = chance.choice(["create", "delete"])  # both between the same two pages would hide from the count
            for _ in range(moves):
                moved = workspace.listed.pop(chance.randrange(len(workspace.listed)))
                workspace.listed.insert(0, moved)
            for _ in range(creates if kind == "create" else 0):
                made += 1
                workspace.listed.insert(0, f"SIGNAL-{10_000 + made}")
            for _ in range(deletes if kind == "delete" else 0):
                leaves = [public_id for public_id in workspace.listed if public_id not in stays]
                workspace.listed.remove(chance.choice(leaves))

        workspace.meanwhile = meanwhile
        done = await swept(workspace, leaning=lambda _first, _last: from_tail)
        if done.trouble is None:
            assert stays <= done.shown
        elif calls < 1000:
            pytest.fail(f"no rest, though the list came to rest: {done.trouble}")

    async def test_a_list_without_any_order_proves_nothing(self) -> None:
        """When each page is drawn anew, nobody is told that all was shown before it was."""
        chance = random.Random(5)
        workspace = Workspace(numbered(900))
        workspace.meanwhile = lambda _: chance.shuffle(workspace.listed)
        done = await swept(workspace)
        assert done.trouble or done.shown == set(numbered(900))
        assert len(workspace.offsets) < 250


def without_public_id(*numbers: int) -> Callable[[str], object]:
    """Shows these signals without their publicIds."""
    names = {f"SIGNAL-{number}" for number in numbers}
    return lambda name: {"publicId": None, "externalId": f"x:{name}"} if name in names else None


class TestUnreadable:
    @pytest.mark.parametrize("from_tail", [False, True])
    @pytest.mark.parametrize("numbers", [(1,), (5, 95, 185), (250,), tuple(range(80, 130)), tuple(range(1, 61))])
    async def test_what_cannot_be_read_is_counted_once(
        self, numbers: tuple[int, ...], from_tail: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A broken entry in the workspace does not keep every lost signal from being settled; people are told once."""
        workspace = Workspace(numbered(250), broken=without_public_id(*numbers))
        done = await swept(workspace, leaning=lambda _first, _last: from_tail)
        assert done.trouble is None
        assert done.shown == set(numbered(250)) - {f"SIGNAL-{number}" for number in numbers}
        assert len(workspace.offsets) <= 10
        assert capsys.readouterr().out.count("cannot be read") == 1

    async def test_it_never_makes_up_for_a_signal_that_was_not_shown(self) -> None:
        """A broken entry shown on two pages is still one: a signal that slipped past is missed in the count."""
        workspace = Workspace(numbered(250), broken=without_public_id(95, 185), counts=lambda size: size + 1)
        done = await swept(workspace)
        assert done.trouble is not None
        assert "248 were shown" in done.trouble.reason
        assert "2 cannot be read" in done.trouble.reason

    async def test_those_that_are_alike_prove_nothing(self) -> None:
        """Entries without anything to tell them apart count as one, so that nothing is called absent for them."""
        workspace = Workspace(numbered(20), broken=lambda name: 7 if name in ("SIGNAL-3", "SIGNAL-9") else None)
        assert (await swept(workspace)).trouble is not None


class TestCounts:
    async def test_a_count_that_is_too_high_is_told(self) -> None:
        """Where Zentrik counts a signal that it never shows, nothing is called absent, and people are told why."""
        workspace = Workspace(numbered(250), counts=lambda size: size + 1)
        done = await swept(workspace)
        assert done.trouble == Troubled(
            "the list of signals never added up, however often it was read: "
            "Zentrik counts 251, and 250 were shown in 16 pages"
        )

    @pytest.mark.parametrize("size", [101, 105, 150, 250, 901])
    @pytest.mark.parametrize("from_tail", [False, True])
    async def test_a_count_that_is_out_of_date_hides_nothing(self, size: int, from_tail: bool) -> None:
        """What was created since Zentrik counted is shown too, at whichever end it stands."""
        workspace = Workspace(numbered(size), counts=lambda size: size - 5)
        assert (await swept(workspace, leaning=lambda _first, _last: from_tail)).shown == set(numbered(size))

    async def test_a_count_that_is_far_too_low_hides_nothing(self) -> None:
        """A wrong count does not cut the list short."""
        workspace = Workspace(numbered(900), counts=lambda _: 120)
        assert (await swept(workspace)).shown == set(numbered(900))

    @pytest.mark.parametrize("cap", [100, 50, 7])
    @pytest.mark.parametrize("size", [0, 2, 7, 45, 100, 149, 450])
    @pytest.mark.parametrize("headers", [("X-Has-More",), ()], ids=["says more", "says nothing"])
    async def test_a_list_without_a_count_is_read_twice(self, cap: int, size: int, headers: tuple[str, ...]) -> None:
        """Where nothing tells whether a signal has moved meanwhile, it is looked for a second time."""
        workspace = Workspace(numbered(size), cap=cap, headers=headers)
        done = await swept(workspace)
        assert (done.trouble, done.shown) == (None, set(numbered(size)))
        assert workspace.offsets.count(0) == 2

    @pytest.mark.parametrize("headers", [("X-Total-Count", "X-Has-More"), ("X-Total-Count",)])
    @pytest.mark.parametrize("from_tail", [False, True])
    async def test_pages_shorter_than_asked_for_leave_no_gaps(self, headers: tuple[str, ...], from_tail: bool) -> None:
        """A server that gives fifty signals a page is read to its end."""
        workspace = Workspace(numbered(900), cap=50, headers=headers)
        done = await swept(workspace, leaning=lambda _first, _last: from_tail)
        assert (done.trouble, done.shown) == (None, set(numbered(900)))
        assert len(workspace.offsets) <= 24


class TestBrokenLists:
    @pytest.mark.parametrize("headers", [{"X-Has-More": "true"}, {}, {"X-Total-Count": "900"}], ids=repr)
    async def test_an_ignored_offset_is_told(self, headers: dict[str, str]) -> None:
        """A server that always shows the first page is not read for ever, nor believed to have no more."""
        body = [{"publicId": public_id} for public_id in numbered(100)]
        workspace = Workspace([])
        workspace.instead = {call: httpx.Response(200, json=body, headers=headers) for call in range(1, 100)}
        done = await swept(workspace)
        assert done.trouble is not None
        assert "at every offset" in done.trouble.reason
        assert len(workspace.offsets) <= 8

    async def test_an_ignored_offset_with_an_honest_count_proves_nothing(self) -> None:
        """Though the offset says that the list is at its end, the count says that it is not."""
        body = [{"publicId": public_id} for public_id in numbered(100)]

        def answer(request: httpx.Request) -> httpx.Response:
            more = int(request.url.params["offset"]) + 100 < 150
            return httpx.Response(200, json=body, headers={"X-Total-Count": "150", "X-Has-More": str(more).lower()})

        workspace = Workspace([])
        workspace.answer = answer  # type: ignore[method-assign]
        assert isinstance((await swept(workspace)).trouble, Troubled)

    @pytest.mark.parametrize("headers", [{"X-Has-More": "true"}, {}, {"X-Total-Count": "900"}], ids=repr)
    async def test_a_list_that_never_ends_is_told(self, headers: dict[str, str]) -> None:
        """A server that always has another page is not read for ever."""

        def answer(request: httpx.Request) -> httpx.Response:
            offset = int(request.url.params["offset"])
            body = [{"publicId": f"SIGNAL-{number}"} for number in range(offset + 1, offset + 101)]
            return httpx.Response(200, json=body, headers=headers)

        async def pause(_: timedelta) -> None: ...

        async with Zentrik("http://zentrik.test/api", "k", transport=httpx.MockTransport(answer)) as zentrik:
            trouble = await sweep(zentrik, lambda _: False, patience=Patience(pause), most=20_000)
            assert zentrik.calls.reads < 250
        assert trouble is not None
        assert "does not come to an end" in trouble.reason

    async def test_an_empty_page_that_has_more_after_it_is_trouble(self) -> None:
        """An empty page in the middle is taken neither for the end nor at its word."""
        workspace = Workspace(numbered(300))
        workspace.instead = {
            call: httpx.Response(200, json=[], headers={"X-Has-More": "true", "X-Total-Count": "300"})
            for call in range(2, 100)
        }
        done = await swept(workspace)
        assert done.trouble is not None
        assert "empty page" in done.trouble.reason
        assert len(workspace.offsets) == 7


class TestTrouble:
    @pytest.mark.parametrize(
        ("answer", "wait"),
        [
            (httpx.Response(429, headers={"Retry-After": "37"}), 37),
            (httpx.Response(429), 1),
            (httpx.Response(503, headers={"Retry-After": "0"}), 1),
            (httpx.Response(500), 1),
            (httpx.Response(200, content=b"[{"), 1),
        ],
        ids=repr,
    )
    async def test_it_goes_on_from_where_it_was_stopped(self, answer: httpx.Response, wait: int) -> None:
        """A 429 in the middle of sixty pages is waited out in full, and no page is read again for it."""
        workspace = Workspace(numbered(5400), instead={30: answer})
        done = await swept(workspace)
        assert (done.trouble, done.shown) == (None, set(numbered(5400)))
        assert workspace.offsets == [90 * page for page in (*range(30), *range(29, 60))]
        assert [waited for waited in done.waits if waited != PACE] == [timedelta(seconds=wait)]

    async def test_a_cut_connection_is_gone_on_from(self) -> None:
        """A wire that breaks costs one page, not the sweep."""
        workspace = Workspace(numbered(5400))

        def cut(call: int) -> None:
            if call in (20, 40, 41):
                raise httpx.ReadError("reset")

        workspace.meanwhile = cut
        done = await swept(workspace)
        assert (done.trouble, len(workspace.offsets)) == (None, 60 + 3)
        assert [waited.total_seconds() for waited in done.waits if waited != PACE] == [1, 1, 2]

    async def test_trouble_without_end_is_told(self) -> None:
        """After several failures in a row the sweep ends, later and later tries apart."""
        workspace = Workspace(numbered(900), instead={call: httpx.Response(503) for call in range(4, 100)})
        done = await swept(workspace)
        assert done.trouble == Troubled("HTTP 503")
        assert [waited.total_seconds() for waited in done.waits] == [1, 2, 4, 8, 16]

    async def test_a_long_wait_is_left_to_whoever_called(self) -> None:
        """Who is told to stay away for an hour is not held up for it, but told."""
        refusal = httpx.Response(429, headers={"Retry-After": "3600"})
        done = await swept(Workspace(numbered(900), instead={4: refusal}))
        assert (done.trouble, done.waits) == (Troubled("HTTP 429", timedelta(hours=1)), [])
