"""Records whose words cost a call of their own: asked for some at a time, and only where the ledger lacks them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import httpx
from pydantic import BaseModel

from syncd.connector import Checkpoint, Page, Record, Window
from syncd.kit.paging import batches, each
from syncd.kit.shapes import Tray

AT_A_TIME = 25
"""So many to a page: a reading that breaks off loses no more calls than that."""


class Listed(Protocol):
    """What a list says of a record."""

    @property
    def id(self) -> int | str:
        """The record's id."""

    @property
    def version(self) -> str | None:
        """What changes whenever the record does; None where it never does."""


L = TypeVar("L", bound=Listed)
D = TypeVar("D", bound=BaseModel)


async def unless_gone(asked: Awaitable[httpx.Response]) -> httpx.Response | None:
    """The answer, or None when the vendor says that what was asked for is gone (404, 410)."""
    try:
        return await asked
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (404, 410):
            return None
        raise


async def in_detail(
    window: Window,
    tray: Tray,
    items: Sequence[L],
    ask: Callable[[L], Awaitable[Any]],
    shape: type[D],
    record: Callable[[D, L], Record],
    *,
    is_evidence: Callable[[D, L], bool] = lambda _detail, _item: True,
    before: Checkpoint,
    after: Checkpoint,
    filtered: int = 0,
    deleted: Sequence[str] = (),
) -> AsyncGenerator[Page, None]:
    """Pages with a record of each item that the ledger does not have as it is.

    `ask` gets the details of one, as they come, and None when it is gone; they are read as a `shape` with the item's
    `id`. What is no evidence is passed over, as are the `filtered` items of the list; `deleted` are the ids of those
    that the vendor says were deleted. Every page but the last repeats
    the checkpoint `before` the list's page.
    """
    known = await window.known({str(item.id): item.version for item in items})
    fresh = {str(item.id): item for item in items if str(item.id) not in known}
    for some in batches(list(fresh.values()), AT_A_TIME):
        answers = [answer for answer in await each(some, ask) if answer is not None]
        details = [(detail, fresh[_id(detail)]) for detail in tray.read(answers, shape) if _id(detail) in fresh]
        told = [(detail, item) for detail, item in details if is_evidence(detail, item)]
        records = [tray.record(record, detail, item) for detail, item in told]
        yield Page(
            records=[made for made in records if made is not None],
            filtered=len(some) - len(answers) + len(details) - len(told),
            checkpoint=before,
        )
    yield Page(
        set_aside=tray.aside,
        filtered=filtered,
        unchanged=len(items) - len(fresh),
        deleted=deleted,
        checkpoint=after,
    )


def _id(detail: BaseModel) -> str:
    return str(getattr(detail, "id", ""))
