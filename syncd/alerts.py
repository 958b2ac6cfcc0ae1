"""What people are told without having asked: from what is seen at each look to alerts, once per change of state.

Everything wrong is a trouble of some kind, of one connector or of the whole. The ledger keeps a row for each, from when
on it is there, and whether it was told: so a restart neither repeats an alert nor forgets that it is over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from syncd.fields import duration_text
from syncd.ledger.report import AlertRow, iso
from syncd.logs import printable, redact
from syncd.records import Json
from syncd.settings import AlertSettings
from syncd.status import ConnectorStatus, Status

_HALTED = "refused_too_often"
_NEVER = timedelta.max
_SOON = timedelta(hours=1)
_MOST_WORDS = 1000  # of an error: enough to understand it, and no page of HTML
_MENTIONS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@\u200b"})
"""What would have a chat call everybody, or show a link as something else."""


class Kind(StrEnum):
    """What is watched: first of each connector, then of the whole."""

    STOPPED = "stopped"
    HALTED = "halted"
    LAG = "lag"
    OVERDUE = "overdue"
    BUDGET_LOW = "budget_low"
    BUDGET_SPENT = "budget_spent"
    KEY_REFUSED = "key_refused"
    UNWELL = "zentrik_unwell"
    CONFIG_REFUSED = "config_refused"
    STUCK = "stuck"


OF_ZENTRIK = (Kind.KEY_REFUSED, Kind.UNWELL)


class Change(StrEnum):
    """Whether a trouble has come or gone."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Destination:
    """How Zentrik is: why it refuses our key, or why it takes nothing, and since when. Nothing of it: it is well."""

    refused: str | None = None
    ill: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look showed. `connectors` and `destination` are None when it could not see them: then what was told of
    them stands. `config_refused` is why a configuration was not taken, `stuck` are the loops that do not come round.
    """

    now: datetime
    connectors: Status | None = None
    destination: Destination | None = None
    config_refused: str | None = None
    stuck: tuple[str, ...] = ()

    def judges(self, row: AlertRow) -> bool:
        """Whether this look can say that a trouble is over."""
        match row.kind:
            case Kind.CONFIG_REFUSED | Kind.STUCK:
                return True
            case Kind.UNWELL:
                return self.destination is not None
            case Kind.KEY_REFUSED:
                return self.destination is not None and self.destination.ill is None
            case Kind.STOPPED:
                known = self.connector(row.connector)
                return self.connectors is not None and (known is None or known.state != "running")
            case _:
                return self.connectors is not None

    def connector(self, name: str) -> ConnectorStatus | None:
        """The connector of that name, if it was seen."""
        seen = self.connectors.connectors if self.connectors else ()
        return next((each for each in seen if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong, told once it has lasted for `after`. `since` None: since it was first seen. `connector`
    is empty when it is the whole."""

    kind: Kind
    connector: str
    message: str
    after: timedelta = timedelta(0)
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """One message: a trouble has come, or has gone."""

    change: Change
    kind: str
    connector: str
    since: datetime
    message: str

    def title(self, name: str) -> str:
        """One line: what, where, and which syncd says so."""
        word = "resolved" if self.change is Change.RESOLVED else "problem"
        where = f"{self.connector}: " if self.connector else ""
        return printable(f"[{name}] {word}: {where}{self.kind.replace('_', ' ')}")

    def text(self, name: str) -> str:
        """The whole message, for people."""
        return f"{self.title(name)}\n{self.message}\nSince {self.since:%Y-%m-%d %H:%M:%S} UTC."

    def as_json(self, name: str) -> dict[str, Json]:
        """What a webhook gets; Slack and what speaks like it show `text`, in which nothing can call anybody."""
        return {
            "syncd": name,
            "connector": self.connector or None,
            "state": str(self.change),
            "kind": str(self.kind),
            "since": iso(self.since),
            "message": self.message,
            "text": self.text(name).translate(_MENTIONS),
        }


@dataclass(slots=True)
class Findings:
    """What follows from a look: the rows to keep and those to drop, and the alerts to send. What an alert says is only
    noted once it was delivered (`told`, `over`)."""

    kept: list[AlertRow] = field(default_factory=list)
    dropped: list[AlertRow] = field(default_factory=list)
    alerts: list[tuple[Alert, AlertRow]] = field(default_factory=list)


def told(row: AlertRow, now: datetime) -> AlertRow:
    """The row of a trouble that somebody knows of now."""
    return replace(row, told_at=now)


def compare(sight: Sight, before: Iterable[AlertRow], settings: AlertSettings) -> Findings:
    """What a look means, beside what is remembered of earlier ones."""
    left = {(row.kind, row.connector): row for row in before}
    findings = Findings()
    for trouble in troubles(sight, settings, {key for key, row in left.items() if row.told_at is not None}):
        row = left.pop((trouble.kind, trouble.connector), None)
        if row is not None and row.told_at is not None:
            continue
        since = min(trouble.since or (row.since if row else sight.now), sight.now)
        found = AlertRow(trouble.kind, trouble.connector, since, None)
        if row is None or since < row.since:
            findings.kept.append(found)
        if sight.now - since >= trouble.after:
            alert = Alert(Change.FIRING, trouble.kind, trouble.connector, since, trouble.message)
            findings.alerts.append((alert, found))
    for row in left.values():
        if not sight.judges(row):
            continue
        if row.told_at is None:
            findings.dropped.append(row)
        else:
            alert = Alert(Change.RESOLVED, row.kind, row.connector, row.since, _over(row, sight))
            findings.alerts.append((alert, row))
    return findings


def troubles(sight: Sight, settings: AlertSettings, known: Collection[tuple[str, str]] = ()) -> Iterator[Trouble]:
    """Everything that is wrong, the beginnings of it included; `known` is the kind and connector of what was told."""
    whole = list(_of_the_whole(sight, settings))
    yield from whole
    explained = any(trouble.kind in OF_ZENTRIK for trouble in whole) or any((kind, "") in known for kind in OF_ZENTRIK)
    for connector in sight.connectors.connectors if sight.connectors else ():
        yield from _of_a_connector(connector, sight.now, settings)
        yield from _budget(connector, is_told=(Kind.BUDGET_LOW, connector.name) in known)
        # What waits for a reason that is told is no news, and once that is over it has time to go out.
        if (Kind.LAG, connector.name) in known or not (explained or _is_halted(connector) or connector.waits):
            yield from _lag(connector, settings)


def _of_the_whole(sight: Sight, settings: AlertSettings) -> Iterator[Trouble]:
    zentrik = sight.destination or Destination()
    if zentrik.refused is not None:
        yield Trouble(
            Kind.KEY_REFUSED,
            "",
            f"Zentrik refuses the key: {_brief(zentrik.refused)}\n"
            "Nothing is posted; every record is kept. Give syncd a key that Zentrik takes, and restart it.",
        )
    if zentrik.ill is not None:
        yield Trouble(
            Kind.UNWELL,
            "",
            f"Zentrik takes nothing: {_brief(zentrik.ill)}\n"
            "Every record is kept, and goes out by itself once Zentrik is well again. If it is, look at the network in "
            "between: `syncd check` says whether it can be reached.",
            settings.stopped_after,
            zentrik.since,
        )
    if sight.config_refused is not None:
        yield Trouble(
            Kind.CONFIG_REFUSED,
            "",
            f"The configuration cannot be used; the one before it stays.\n{_brief(sight.config_refused)}\n"
            "Mend the file and reload it (SIGHUP): a restart would fail.",
        )
    if sight.stuck:
        yield Trouble(
            Kind.STUCK,
            "",
            f"syncd lives, but gets no further in: {', '.join(sight.stuck)}.\n"
            "Look at its log, and at the disk or the database of the ledger. A restart loses nothing.",
        )


def _of_a_connector(connector: ConnectorStatus, now: datetime, settings: AlertSettings) -> Iterator[Trouble]:
    name, is_wanted = connector.name, connector.state not in ("gone", "off")
    words = _brief(connector.error[1]) if connector.error else ""
    if connector.failures and is_wanted and connector.state != "paused":
        # One blip is no news, unless it will be a long time until anybody sees whether it was one.
        is_lasting = connector.failures > 1 or connector.next_run is None or connector.next_run - now > _SOON
        why = "its last reading ended in an error" if _is_halted(connector) else words
        yield Trouble(
            Kind.STOPPED,
            name,
            f"{name} cannot be read: {why}\n"
            f"It is tried again by itself, from where it stands. `syncd check {name}` says whether it can be read by "
            f"now, and `syncd run-once {name}` reads it at once.",
            settings.stopped_after if is_lasting else _NEVER,
            connector.last_run if connector.failures == 1 else None,
        )
    if _is_halted(connector) and is_wanted:
        yield Trouble(Kind.HALTED, name, words)
    if connector.overdue:
        number = "1 signal is" if connector.overdue == 1 else f"{connector.overdue} signals are"
        yield Trouble(
            Kind.OVERDUE,
            name,
            f"{name}: {number} still being processed at Zentrik, long overdue.\n"
            f"syncd goes on asking. `syncd signals --connector {name} --state processing` lists what is open; Zentrik "
            "itself can say more of the oldest.",
        )


def _budget(connector: ConnectorStatus, *, is_told: bool) -> Iterator[Trouble]:
    """That a budget nears its end, until the day is over; and that it is spent while more waits. Where both come at
    once, the second says it all."""
    if connector.budget is None:
        return
    message = (
        f"{connector.budget}.\nNothing is lost: what is over the budget goes out on the days that come, news first. "
        f"`budget` of {connector.name} in the configuration says how much a day."
    )
    if is_told or not connector.waits:
        yield Trouble(Kind.BUDGET_LOW, connector.name, message)
    if connector.waits:
        yield Trouble(Kind.BUDGET_SPENT, connector.name, message)


def _lag(connector: ConnectorStatus, settings: AlertSettings) -> Iterator[Trouble]:
    """From half the limit on, so that it does not come and go when a connector hovers round the limit."""
    name, lag, limit = connector.name, connector.lag, settings.lag_over
    if limit is not None and lag is not None and lag > limit / 2:
        waited = duration_text(timedelta(seconds=round(lag.total_seconds())))
        yield Trouble(
            Kind.LAG,
            name,
            f"The oldest record of {name} has waited {waited} for Zentrik to take it; the limit (lag_over) is "
            f"{duration_text(limit)}.\n"
            f"`syncd signals --connector {name}` with `--state queued` or `--state unknown` lists what waits.",
            min(settings.stopped_after, limit / 2) if lag > limit else _NEVER,
        )


def _is_halted(connector: ConnectorStatus) -> bool:
    return connector.error is not None and connector.error[0] == _HALTED


def _over(row: AlertRow, sight: Sight) -> str:
    connector = sight.connector(row.connector)
    name = row.connector
    set_apart: Mapping[str, str] = {
        "gone": f"{name} is no longer in the configuration.",
        "off": f"{name} is switched off.",
        "paused": f"{name} is paused; `syncd resume {name}` has it read again.",
    }
    match row.kind:
        case Kind.STOPPED | Kind.HALTED if row.connector and connector is None:
            return set_apart["gone"]
        case Kind.STOPPED if connector is not None and connector.state in set_apart:
            return set_apart[connector.state]
        case Kind.HALTED if connector is not None and connector.state in ("gone", "off"):
            return set_apart[connector.state]
        case Kind.STOPPED:
            return f"{name} is read again."
        case Kind.HALTED:
            return f"Records of {name} are posted again."
        case Kind.LAG:
            return f"{name} keeps up again."
        case Kind.OVERDUE:
            return f"No outcome of {name} is overdue any more."
        case Kind.BUDGET_LOW | Kind.BUDGET_SPENT:
            return f"The budget of {name} has room again, or nothing waits for it."
        case Kind.KEY_REFUSED:
            return "Zentrik takes the key again."
        case Kind.UNWELL:
            return "Zentrik answers again."
        case Kind.CONFIG_REFUSED:
            return "The configuration in use is the one in the file again."
        case Kind.STUCK:
            return "Every loop comes round again."
        case _:  # a kind that an older syncd told of
            return f"{row.kind} is over."


def _brief(words: str) -> str:
    """Words from outside, fit for a message: no secrets, nothing that steers, and not without end."""
    clean = printable(redact(words), keep="\n").strip()
    return clean if len(clean) <= _MOST_WORDS else f"{clean[:_MOST_WORDS]} ..."
