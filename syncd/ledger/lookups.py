"""What Zentrik said of accounts and products, kept for a while, and who is creating one right now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from syncd.ledger.statements import insert, portions
from syncd.ledger.tables import lookups
from syncd.records import Json

CREATION = "creation"
"""The kind of a row that says: since then somebody is creating an account by that name."""


class Question(NamedTuple):
    """What was asked: of accounts or products, by which field, with which value."""

    kind: str
    field: str
    asked: str


class Known(NamedTuple):
    """The answer, None where there was none, and when it was given."""

    answer: Json
    looked_at: datetime


def recall(db: sa.Connection, questions: Sequence[Question]) -> dict[Question, Known]:
    """What is known of some questions, however old."""
    found: dict[Question, Known] = {}
    for some in portions({question.asked for question in questions}):
        for row in db.execute(sa.select(lookups).where(lookups.c.asked.in_(some))):
            found[Question(row.kind, row.field, row.asked)] = Known(row.answer, row.looked_at)
    return {question: found[question] for question in questions if question in found}


def keep(db: sa.Connection, answers: Mapping[Question, Json], now: datetime, forget_before: datetime) -> None:
    """Remember answers, and forget those that were given before a time."""
    db.execute(sa.delete(lookups).where(lookups.c.looked_at < forget_before))
    for question, answer in sorted(answers.items()):
        values = {"answer": answer, "looked_at": now}
        db.execute(
            insert(db, lookups)
            .values(**question._asdict(), **values)
            .on_conflict_do_update(index_elements=list(lookups.primary_key), set_=values)
        )


def claim(db: sa.Connection, names: Iterable[tuple[str, str]], now: datetime, abandoned_before: datetime) -> bool:
    """Take it upon us to create the account of those names, fields with values; False, and nothing taken, when somebody
    did so after `abandoned_before`."""
    ours: list[tuple[str, str]] = []
    for name in sorted(names):
        values = {"kind": CREATION, "field": name[0], "asked": name[1], "looked_at": now}
        taken = db.execute(
            insert(db, lookups)
            .values(values)
            .on_conflict_do_update(
                index_elements=list(lookups.primary_key),
                set_={"looked_at": now},
                where=lookups.c.looked_at < abandoned_before,
            )
            .returning(lookups.c.asked)
        )
        if taken.first() is None:
            release(db, ours)
            return False
        ours.append(name)
    return True


def release(db: sa.Connection, names: Iterable[tuple[str, str]]) -> None:
    """Give up what was claimed: nothing was created, and anybody may try."""
    for field, asked in names:
        db.execute(
            sa.delete(lookups).where(lookups.c.kind == CREATION, lookups.c.field == field, lookups.c.asked == asked)
        )
