"""What a signal waits for and until when, in one sentence; and the same of a budget that is spent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from shlex import quote

from syncd.ledger import Closed, State
from syncd.ledger.holds import Hold, words
from syncd.ledger.report import ConnectorRow, SignalRow
from syncd.ledger.spending import Spent
from syncd.logs import printable
from syncd.spans import grouped

_MOST = 300  # letters of somebody else's words
_SHOWN = 5  # accounts that are waited for


def waits_for(
    signal: SignalRow,
    connector: ConnectorRow | None,
    closed: Closed | None,
    spent: Spent | None,
    now: datetime,
    hold: Hold | None = None,
) -> str:
    """What a signal waits for, until when (in UTC), and what somebody can do about it.

    `connector` is the row of its connector, `closed` until when Zentrik asked not to be posted to, `spent` how much of
    the day's budget is used up, `hold` the account it is held for; each None where there is no such thing.
    """
    anew = f"`syncd retry {quote(printable(signal.external_id))}`"
    why = f": {_brief(signal.last_error)}" if signal.last_error else ""
    due = signal.due_at if signal.due_at and signal.due_at > now else None
    match signal.state:
        case State.QUEUED if hold is not None:
            when = f"at {_at(hold.due_at, now)}" if hold.due_at > now else "as soon as syncd runs"
            return f"Queued; held until Zentrik has an account for {_brief(words(hold.asks))}; asked again {when}."
        case State.QUEUED:
            return _queued(signal, connector, closed, spent, now)
        case State.SENDING:
            until = f" by {_at(due, now)}" if due else ""
            return f"It is being posted; if no answer has come{until}, it is looked for at Zentrik."
        case State.UNKNOWN if signal.due_at is None:
            return f"The answer to its post was lost, and it cannot be looked for{why}; {anew} posts it again."
        case State.UNKNOWN:
            when = f"at {_at(due, now)}" if due else "as soon as syncd runs"
            return (
                f"The answer to its post was lost; it is looked for at Zentrik {when}, and posted again if not there."
            )
        case State.PROCESSING:
            when = f"at {_at(due, now)}" if due else "as soon as syncd runs"
            return f"Zentrik is processing it; asked again {when}."
        case State.PROCESSED:
            number = len(signal.insight_ids)
            drawn = f"{grouped(number) if number else 'no'} insight{'' if number == 1 else 's'}"
            return f"Nothing: Zentrik processed it, and drew {drawn} from it."
        case State.FAILED if signal.due_at is not None:
            when = f"at {_at(due, now)}" if due else "as soon as syncd runs"
            return f"Zentrik could not process it{why}; it is processed again {when}."
        case State.FAILED:
            return f"Zentrik could not process it{why}; it moves again by {anew}."
        case State.REJECTED:
            return f"Zentrik refused it{why}; it moves again when the record changes at its source, or by {anew}."
        case State.DELETED:
            return f"Somebody deleted it at Zentrik; only {anew} posts it again."
        case State.FORGOTTEN if signal.due_at is not None:
            again = f"`syncd forget --external-id {quote(signal.external_id)} --yes`"
            return f"It was erased here on request, and Zentrik may still have it; {again} goes on with that."
        case State.FORGOTTEN:
            return "Nothing: it was erased on request, and its record stays out."


def held_for(waiting: Mapping[str, int]) -> str:
    """How many records wait for an account, and for which most of them do."""
    number = sum(waiting.values())
    most = sorted(waiting.items(), key=lambda each: (-each[1], each[0]))
    shown = [f"{printable(asked)} ({grouped(count)})" for asked, count in most[:_SHOWN]]
    if (more := len(most) - _SHOWN) > 0:
        shown.append(f"and {grouped(more)} more")
    wait = "record is held" if number == 1 else "records are held"
    return f"{grouped(number)} {wait} until Zentrik has the account: {', '.join(shown)}"


def over_budget(connector: str, spent: Spent, waiting: int) -> str:
    """That the day's budget of a connector is spent, how much waits, and when it goes on."""
    wait = f"{grouped(waiting)} {'signal waits' if waiting == 1 else 'signals wait'}"
    return f"{connector}: the day's budget is spent ({_used(spent)}); {wait} until {_whole(spent.until)}"


def near_budget(connector: str, spent: Spent) -> str:
    """That the day's budget of a connector is nearly spent, and when the next day begins."""
    until = f"{spent.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return (
        f"{connector}: {spent.share:.0%} of the day's budget is spent ({_used(spent)}); the next day begins at {until}"
    )


def _used(spent: Spent) -> str:
    parts = (
        (spent.signals, spent.budget.signals, "signals"),
        (spent.characters, spent.budget.characters, "characters"),
    )
    return ", ".join(f"{grouped(used)} of {grouped(limit)} {unit}" for used, limit, unit in parts if limit is not None)


def _queued(
    signal: SignalRow, connector: ConnectorRow | None, closed: Closed | None, spent: Spent | None, now: datetime
) -> str:
    """The reason that lasts longest is the one that counts."""
    if connector is not None and connector.halted_at is not None:
        name = quote(connector.name)
        return (
            f"Queued; nothing of {connector.name} is posted ({_brief(connector.halted_why or 'no reason is known')}) "
            f"until its settings change or `syncd retry --connector {name}` says so."
        )
    waits: list[tuple[datetime, str]] = []
    if spent is not None and spent.is_spent:
        waits.append((spent.until, f"the day's budget of {signal.connector} is spent ({_used(spent)})"))
    if closed is not None and closed.until > now:
        waits.append((closed.until, f"Zentrik asked for it ({_brief(closed.reason)})"))
    if signal.due_at is not None and signal.due_at > now:
        waits.append(
            (signal.due_at, f"the last try came to nothing ({_brief(signal.last_error or 'no reason is known')})")
        )
    if not waits:
        return "Queued; it is posted as soon as syncd runs and its turn comes, news before a backlog."
    until, reason = max(waits)
    return f"Queued; posting is paused until {_at(until, now)} because {reason}."


def _at(moment: datetime, now: datetime) -> str:
    """`14:05 UTC`, with the date where it is not today."""
    moment, now = moment.astimezone(UTC), now.astimezone(UTC)
    return f"{moment:%H:%M} UTC" if moment.date() == now.date() else _whole(moment)


def _whole(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _brief(words: str) -> str:
    """Somebody else's words as part of a sentence: on one line, without end marks, and not without end."""
    line = " ".join(printable(words, keep="\n").split()).rstrip(".;: ")
    return line if len(line) <= _MOST else f"{line[:_MOST]} ..."
