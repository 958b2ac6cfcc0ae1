"""Records whose words cost a call: asked for once, some at a time, and kept as they come."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from syncd.connector import Page, Record, RecordError, Window
from syncd.kit.details import AT_A_TIME, in_detail
from syncd.kit.shapes import Shape, Tray

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Item:
    id: int
    version: str | None = "a"


class Detail(Shape):
    id: int
    text: str


def record(detail: Detail, item: Item) -> Record:
    """The record of a detail; a text that is not one is refused."""
    if detail.text == "nothing":
        raise RecordError("it says nothing")
    return Record(id=str(detail.id), kind="review", text=detail.text, version=item.version)


@dataclass
class Vendor:
    """Has details, and remembers which were asked for."""

    answers: Mapping[int, Any] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)

    async def ask(self, item: Item) -> Any:
        self.asked.append(item.id)
        return self.answers.get(item.id, {"id": item.id, "text": f"text {item.id}"})


async def pages(vendor: Vendor, items: list[Item], known: Mapping[str, str] | None = None, **more: Any) -> list[Page]:
    has = known or {}

    async def ledger_has(versions: Mapping[str, str | None]) -> Container[str]:
        return {id_ for id_, version in versions.items() if has.get(id_, "-") == version}

    window = Window(NOW, known=ledger_has)
    made = in_detail(window, Tray("note"), items, vendor.ask, Detail, record, before={"at": 1}, after={"at": 2}, **more)
    return [page async for page in made]


def ids(given: list[Page]) -> list[str]:
    return [each.id for page in given for each in page.records]


async def test_only_what_the_ledger_lacks_is_asked_for() -> None:
    """A quota is for what is new; the others are counted as unchanged."""
    vendor = Vendor()
    given = await pages(vendor, [Item(1), Item(2, "b"), Item(3)], {"1": "a", "2": "a"})
    assert (vendor.asked, ids(given)) == ([2, 3], ["2", "3"])
    assert sum(page.unchanged for page in given) == 1


async def test_the_checkpoint_moves_with_the_last_page_only() -> None:
    """Whatever page a reading breaks off after, what is missing is shown again."""
    vendor = Vendor()
    given = await pages(vendor, [Item(number) for number in range(2 * AT_A_TIME + 1)])
    assert [len(page.records) for page in given] == [AT_A_TIME, AT_A_TIME, 1, 0]
    assert [page.checkpoint["at"] for page in given] == [1, 1, 1, 2]


@pytest.mark.parametrize("items", [[], [Item(1)]])
async def test_a_list_with_nothing_new_is_one_page(items: list[Item]) -> None:
    """Its checkpoint moves on, and what was passed over is counted."""
    [page] = await pages(Vendor(), items, {"1": "a"}, filtered=3)
    assert (page.checkpoint["at"], page.filtered, page.unchanged) == (2, 3, len(items))


async def test_what_is_gone_or_no_evidence_is_passed_over_and_the_unusable_set_aside() -> None:
    """Each of them is counted once, and stops nobody."""
    answers = {
        1: None,
        2: {"id": 2, "text": "internal"},
        3: {"id": 3, "text": ["no text"]},
        4: {"id": 4, "text": "nothing"},
    }
    given = await pages(
        Vendor(answers),
        [Item(number) for number in range(1, 6)],
        is_evidence=lambda detail, _: detail.text != "internal",
    )
    assert ids(given) == ["5"]
    assert sum(page.filtered for page in given) == 2
    assert sorted(item.place for page in given for item in page.set_aside) == ["note 3", "note 4"]
