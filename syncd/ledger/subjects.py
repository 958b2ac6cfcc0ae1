"""Whom signals speak of: a keyed digest of each address and account, kept so that a request for erasure finds them.

The key is drawn by the ledger and lies in it: it keeps the digests of two ledgers from being compared, and a list of
addresses from being tried on a leaked table of digests alone. Whoever has the whole ledger has the key as well.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from syncd.ledger.statements import insert, portions
from syncd.ledger.tables import signals, subject_key, subjects

_KEY_BYTES = 32
_DIGEST_BYTES = 16


def note(db: sa.Connection, whose: Mapping[int, Sequence[str]]) -> None:
    """Note whom signals speak of, by their ids, beside what was noted of them before."""
    secret = key(db, noted_after=min(whose) - 1)
    lines = [
        {"digest": digest(secret, subject), "signal_id": id_}
        for id_, named in sorted(whose.items())
        for subject in named
    ]
    if lines:
        db.execute(insert(db, subjects).on_conflict_do_nothing(), lines)


def key(db: sa.Connection, noted_after: int | None = None) -> bytes:
    """The key of this ledger's digests. It is drawn at the first need, and never changed.

    `noted_after` is the id of the last signal whose subjects nobody noted, if it is drawn now; by default that of the
    last one there is.
    """
    kept = sa.select(subject_key.c.key)
    found = db.scalar(kept)
    if found is None:
        if noted_after is None:
            noted_after = db.scalar(sa.select(sa.func.max(signals.c.id))) or 0
        drawn = {"id": 1, "key": secrets.token_bytes(_KEY_BYTES), "noted_after": noted_after}
        db.execute(insert(db, subject_key).on_conflict_do_nothing(), drawn)
        found = db.scalar(kept)  # another process may have been quicker
    assert found is not None  # noqa: S101 - it is there now, whoever drew it
    return bytes(found)


def digest(secret: bytes, subject: str) -> bytes:
    """The keyed digest of a subject: HMAC-SHA256, its first 16 bytes."""
    return hmac.digest(secret, subject.encode("utf-8", "surrogatepass"), "sha256")[:_DIGEST_BYTES]


def digests(db: sa.Connection, named: Mapping[str, str]) -> dict[str, bytes]:
    """The digest of each subject, under the name it was written by; none in a ledger that has no key yet."""
    secret = db.scalar(sa.select(subject_key.c.key))
    return {} if secret is None else {written: digest(secret, subject) for written, subject in named.items()}


def speaking_of(db: sa.Connection, named: Iterable[str]) -> set[int]:
    """The ids of the signals that speak of any of these subjects."""
    secret = db.scalar(sa.select(subject_key.c.key))
    if secret is None:
        return set()
    found: set[int] = set()
    for some in portions(digest(secret, subject) for subject in named):
        found |= set(db.scalars(sa.select(subjects.c.signal_id).where(subjects.c.digest.in_(some))))
    return found


def drop(db: sa.Connection, ids: Iterable[int]) -> None:
    """Drop what was noted of these signals."""
    for some in portions(ids):
        db.execute(sa.delete(subjects).where(subjects.c.signal_id.in_(some)))
