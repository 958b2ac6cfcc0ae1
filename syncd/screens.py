"""What people see on a terminal: tables, progress and closing words. No decisions are taken here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from syncd.audit import Applied, Audit, Kind
from syncd.estimate import Estimate
from syncd.figures import Figures
from syncd.forget import Certificate
from syncd.ledger import State
from syncd.ledger.copy import Copied, Watch
from syncd.ledger.report import AsideRow, Event, SignalRow
from syncd.ledger.tracing import Origin
from syncd.ledger.worth import By, Worth
from syncd.logs import printable
from syncd.pull import Pulled
from syncd.rebuild import Rebuilt
from syncd.redaction import summary
from syncd.spans import ago, grouped, span
from syncd.status import ConnectorStatus, Status

_COLOURS = {
    State.QUEUED: "cyan",
    State.SENDING: "cyan",
    State.UNKNOWN: "yellow",
    State.PROCESSING: "blue",
    State.PROCESSED: "green",
    State.FAILED: "red",
    State.REJECTED: "red",
    State.DELETED: "dim",
    State.FORGOTTEN: "dim",
}


def _state(state: State) -> Text:
    return Text(state, style=_COLOURS[state])


def _number(number: int, style: str = "") -> Text:
    return Text(grouped(number) if number else "·", style=style if number else "dim")


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


@contextmanager
def progress(console: Console) -> Iterator[Callback]:
    """A line that follows a run while it lasts."""
    callback = Callback()
    with Live(callback, console=console, refresh_per_second=8, transient=True):
        yield callback


class Callback:
    """The figures of a run, drawn afresh at each refresh: each connector's reading, then posting and outcomes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.figures = Figures()
        self._clock = clock
        self._began = clock()
        self._spinner = Spinner("dots")

    def __call__(self, figures: Figures) -> None:
        self.figures = figures

    def __rich__(self) -> Group:
        figures = self.figures
        read = sum(pulled.fetched for pulled in figures.connectors.values())
        settled = figures.signals[State.PROCESSED] + figures.signals[State.FAILED]
        self._spinner.update(
            text=Text(f"read {read}  posted {figures.posted}  accepted {figures.accepted}  settled {settled}")
        )
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, pulled in sorted(figures.connectors.items()):
            parts = pulled.backfill
            table.add_row(
                Text(f"  {name}"),
                Text("reading"),
                Text(grouped(pulled.fetched)),
                self._pace(pulled.fetched),
                Text(f"{parts.read} of {parts.slices} parts" if parts else ""),
                self._left(parts.read, parts.slices) if parts else Text(),
            )
        for stage, done, all_ in (("posting", figures.posted, figures.new), ("outcomes", settled, figures.accepted)):
            if done:
                whole = Text(f"of {grouped(all_)}" if all_ >= done else "")
                table.add_row(Text(), Text(stage), Text(grouped(done)), self._pace(done), whole, self._left(done, all_))
        return Group(self._spinner, table)

    def _pace(self, done: int) -> Text:
        took = self._clock() - self._began
        return Text(f"{done / took:.1f}/s" if took >= 1 else "", "dim")

    def _left(self, done: int, all_: int) -> Text:
        """How long the rest takes at the pace until now."""
        took = self._clock() - self._began
        if not 0 < done < all_ or took < 1:
            return Text()
        return Text(f"about {span(timedelta(seconds=took * (all_ - done) / done))} left", "dim")


def estimates(found: Sequence[Estimate]) -> Group:
    """How much a window is, connector by connector, as far as it can be told before."""
    columns = ("connector", "records", "characters", "calls", "posting takes")
    table = _table(*columns, right=columns[1:4])
    for one in found:
        about = "" if one.is_whole else "about "
        numbers = (one.records, one.characters, one.calls)
        table.add_row(
            one.connector,
            *("?" if number is None else about + grouped(number) for number in numbers),
            "not known yet" if one.takes is None else f"about {span(one.takes)}",
        )
    reasons = [f"{one.connector}: no estimate: {one.trouble}" for one in found if one.trouble]
    told = [Text(printable(reason), "yellow") for reason in reasons]
    return Group(Text("What the window holds that is not in the ledger, judged by a sample:"), table, *told)


def closing(figures: Figures, *, lists_all: bool = False) -> Group:
    """The tables that end a run: what each connector gave, and where its signals stand. With `lists_all`, everything
    that was set aside is listed: the ledger does not have it."""
    columns = ("connector", "fetched", "new", "changed", "unchanged", "skipped", "")
    read = _table(*columns, right=columns[1:6])
    for name, pulled in sorted(figures.connectors.items()):
        read.add_row(
            name,
            _number(pulled.fetched),
            _number(pulled.new, "bold"),
            _number(pulled.changed),
            _number(pulled.unchanged),
            _number(pulled.skipped, "yellow"),
            Text("stopped", "red") if pulled.error else Text("ok", "green"),
        )
    stand = (
        Text("posted ").append(str(figures.posted), "bold").append(", accepted ").append(str(figures.accepted), "bold")
    )
    now = [(state, number) for state, number in figures.signals.items() if number]
    stand.append("; now " if now else "; no signal was touched")
    for index, (state, number) in enumerate(now):
        stand.append(", " if index else "").append(f"{number} ").append(state, _COLOURS[state])
    parts: list[Table | Text] = [read, Text(), stand, *_edges(figures)]
    if figures.redacted:
        parts.append(Text(f"redaction: {summary(figures.redacted)}", "dim"))
    parts += list(_what_stopped(figures.connectors))
    parts += list(_set_aside(figures.connectors, lists_all=lists_all))
    return Group(*parts)


def _edges(figures: Figures) -> Iterator[Text]:
    """Why the sums of this run alone would not come out, where they would not; and what is not over yet."""
    if figures.carried.signals:
        yield Text(f"of these, {grouped(figures.carried.signals)} come from earlier runs", "dim")
    if figures.passed_on.signals or figures.passed_on.accepted:
        most = max(figures.passed_on.signals, figures.passed_on.accepted)
        yield Text(f"{grouped(most)} more were moved on by another syncd on this ledger", "dim")
    if figures.left:
        yield Text(f"{grouped(figures.left)} more wait for their time, or for another syncd", "yellow")
    for words in figures.waits.values():
        yield Text(words, "yellow")
    if figures.signals[State.PROCESSING]:
        yield Text("what is still being processed at Zentrik is asked about by the next run, or by the daemon", "dim")
    for sum_ in figures.imbalances():
        yield Text(f"these figures do not add up; please report it: {sum_}", "red")


def _what_stopped(connectors: Mapping[str, Pulled]) -> Iterator[Text]:
    for name, pulled in sorted(connectors.items()):
        if pulled.error:
            code, message = pulled.error
            yield Text.assemble("\n", (f"{name} stopped ", "red"), (f"[{code}] ", "dim"), printable(message))


def _set_aside(connectors: Mapping[str, Pulled], *, lists_all: bool) -> Iterator[Text]:
    for name, pulled in sorted(connectors.items()):
        shown = len(pulled.set_aside) if lists_all else 5
        if pulled.filtered:
            words = "left out, as outside of the window or by the connector's settings"
            yield Text.assemble("\n", (f"{name}: {grouped(pulled.filtered)} {words}", "dim"))
        if not pulled.set_aside:
            continue
        more = "" if lists_all else " (`syncd skipped` lists them all)"
        yield Text.assemble("\n", (f"set aside from {name}", "yellow"), more)
        for item in pulled.set_aside[:shown]:
            yield Text(printable(f"  {item.place}: {item.reason}"))
        if len(pulled.set_aside) > shown:
            yield Text("  ...", "dim")


def signals(rows: Iterable[SignalRow], width: int) -> Table:
    """A table of signals, with what became of each, for a terminal that wide."""
    typed = width >= 110
    table = _table(
        *(["external id", "type", "name"] if typed else ["external id", "name"]), "state", "signal", "insights"
    )
    for column in table.columns:
        column.no_wrap = column.header not in ("name", "insights")
    for row in rows:
        outcome: Text = _number(len(row.insight_ids), "green")
        if row.last_error and row.state is not State.PROCESSED:
            outcome = Text(
                printable(row.last_error[:120]), "red" if row.state in (State.FAILED, State.REJECTED) else "yellow"
            )
        table.add_row(
            Text(printable(row.external_id), overflow="ellipsis"),
            *([printable(row.signal_type or "-")] if typed else []),
            Text(printable(row.name or "-"), no_wrap=True, overflow="ellipsis"),
            _state(row.state),
            row.public_id or "-",
            outcome,
        )
    return table


def status(now: datetime, report: Status) -> Group:
    """Every connector at a glance, then what went wrong in words. Fits a terminal of 80 columns."""
    table = _table("connector", "type", "state", "last run", "next run", "lag", "signals", right=("lag",))
    for connector in report.connectors:
        table.add_row(
            connector.name,
            connector.type,
            _health(connector),
            ago(connector.last_run, now),
            _next(connector, now),
            span(connector.lag) if connector.lag is not None else "-",
            _counts(connector),
        )
    parts: list[Table | Text] = [table]
    for connector in report.connectors:
        if connector.error:
            code, message = connector.error
            parts.append(
                Text.assemble("\n", (f"{connector.name} stopped ", "red"), (f"[{code}] ", "dim"), printable(message))
            )
    for each in report.backfills:
        begin = f"{each.since:%Y-%m-%d}" if each.since else "the beginning"
        parts.append(
            Text(
                f"\n{each.connector}: a backfill from {begin} to {each.until:%Y-%m-%d} is not finished: {each.read} of "
                f"{each.slices} parts are read, and the same `syncd run-once` goes on with it",
                "yellow",
            )
        )
    parts += [Text(f"\n{connector.budget}", "yellow") for connector in report.connectors if connector.budget]
    if any(connector.signals[State.FAILED] or connector.signals[State.REJECTED] for connector in report.connectors):
        parts.append(Text("\n`syncd signals --state failed --state rejected` says why; `syncd retry` tries them again"))
    return Group(*parts)


def _health(connector: ConnectorStatus) -> Text:
    match connector.state:
        case "ok":
            return Text("ok", "green")
        case "stopped":
            return Text("stopped", "red")
        case other:
            return Text(other, "dim" if other in ("new", "off") else "blue")


def _next(connector: ConnectorStatus, now: datetime) -> Text:
    if connector.next_run is None:
        return Text("-")
    return Text(ago(connector.next_run, now)) if connector.next_run > now else Text("due", "cyan")


def _counts(connector: ConnectorStatus) -> Text:
    counted = [(f"{grouped(number)} {state}", _COLOURS[state]) for state, number in connector.signals.items() if number]
    if connector.held:
        counted.insert(1, (f"{grouped(connector.held)} held for an account", "yellow"))  # queued is the first state
    if connector.overdue:
        counted.append((f"{grouped(connector.overdue)} of them overdue", "yellow"))
    if connector.set_aside:
        counted.append((f"{grouped(connector.set_aside)} set aside", "yellow"))
    return Text("\n").join(Text(words, style) for words, style in counted) if counted else Text("-")


def signal(
    row: SignalRow,
    history: Sequence[Event],
    body: bytes | None,
    now: datetime,
    origin: Origin | None = None,
    waits: str | None = None,
    under_way: Sequence[str] = (),
) -> Group:
    """Everything known of one signal. `under_way` tells of changes at its source that are not through yet."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for label, value in (
        ("external id", row.external_id),
        ("state", _state(row.state)),
        ("connector", row.connector),
        ("type", row.signal_type),
        ("name", row.name),
        ("happened", _moment(row.occurred_at)),
        ("seen in", row.place),
        ("brought by", _brought_by(origin) if origin else None),
        ("mapped by", _mapped_by(origin) if origin else None),
        ("source", row.source_url),
        ("account", origin.account if origin else None),
        ("at Zentrik", row.public_id),
        ("job", row.job_id),
        ("insights", "\n".join(row.insight_ids) or None),
        ("redacted", summary(row.redacted) if row.redacted else None),
        ("posts", str(row.attempts) if row.attempts else None),
        ("next step", ago(row.due_at, now) if row.due_at else None),
        ("last error", row.last_error),
        ("under way", "\n".join(under_way)),
        ("body", f"{len(body):,} bytes (shown by --json)" if body else "no longer kept"),
    ):
        if value:
            facts.add_row(label, value if isinstance(value, Text) else Text(printable(value, keep="\n")))
    told = _table("when", "what", "")
    for event in history:
        told.add_row(_moment(event.at), event.event, Text(printable(event.detail or "")))
    return Group(facts, *([Text(), Text(printable(waits))] if waits else []), Text(), told)


def _brought_by(origin: Origin) -> str | None:
    if origin.run is None:
        return "a rebuild: it was found at Zentrik"
    page = f", page {grouped(origin.page)} of its reading" if origin.page else ""
    command = f"`syncd {origin.command}` of {_moment(origin.began_at)}" if origin.command else _moment(origin.began_at)
    return f"run {origin.run}{f', {command}' if command else ''}{page}"


def _mapped_by(origin: Origin) -> str | None:
    if origin.settings is None:
        return None
    return f"settings {origin.settings}, {'as they are now' if origin.is_current else 'which were changed since'}"


def worths(by: By, found: Sequence[Worth]) -> Table:
    """What each source is worth, the one with the most insights for each signal first."""
    columns = (by.value, "signals", "processed", "insights", "each", "median", "failed", "rejected")
    table = _table(*columns, right=columns[1:])
    for worth in found:
        each, median = worth.insights_each, worth.median
        table.add_row(
            Text(printable(worth.name) if worth.name is not None else "-"),
            _number(worth.total),
            f"{worth.share(State.PROCESSED):.0%}",
            _number(worth.insights, "green"),
            "-" if each is None else f"{each:.2f}",
            "-"
            if median is None
            else span(median)
            if median >= timedelta(seconds=10)
            else f"{median.total_seconds():.1f} s",
            *(
                Text(f"{worth.share(state):.1%}", "red") if worth.signals[state] else _number(0)
                for state in (State.FAILED, State.REJECTED)
            ),
        )
    return table


def _moment(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else None


def skipped(rows: Iterable[AsideRow], now: datetime) -> Table:
    """What could not become a signal, and why not."""
    table = _table("connector", "where", "why", "seen")
    for row in rows:
        table.add_row(row.connector, Text(printable(row.place)), Text(printable(row.reason)), ago(row.seen_at, now))
    return table


def rebuilt(done: Rebuilt) -> Group:
    """What a rebuild found at Zentrik, and what became of it."""
    table = _table("found at Zentrik", "signals", right=("signals",))
    for connector, number in sorted(done.entered.items()):
        table.add_row(Text(f"entered for {printable(connector)}"), _number(number, "green"))
    for words, number in (
        ("known here already, left as they are", done.known),
        ("stood here as not delivered, now as Zentrik says", done.accepted),
        ("remembered, under names no namespace claims", done.remembered),
        ("doubled: another one has the same externalId", done.doubled),
        ("without an externalId, cannot be matched", done.nameless),
    ):
        if number:
            table.add_row(words, _number(number))
    table.add_section()
    table.add_row(Text("in all", "bold"), _number(done.found, "bold"))
    parts: list[Table | Text] = [table]
    if done.doubled:
        parts.append(Text("\n`syncd audit` shows the doubled ones; with --apply it deletes all but one of each"))
    if done.nameless:
        parts.append(Text("\nA record posted without an externalId will be posted again when its source shows it"))
    return Group(*parts)


@contextmanager
def spinner(console: Console) -> Iterator[Watch]:
    """A line that follows long work on many rows while it lasts, on a terminal; nothing elsewhere."""
    if not console.is_terminal:
        yield lambda *_: None
        return
    with console.status("") as status:
        yield lambda step, rows: status.update(Text(f"{step}: {grouped(rows)}"))


def copied(done: Copied) -> Table:
    """What a copy holds, table by table, and whether it is the same as what was read."""
    table = _table("table", "rows", "copy", right=("rows",))
    for name, content in done.sent.items():
        found = done.found[name]
        if found == content:
            verdict = Text("same", "green")
        elif found.rows == content.rows:
            verdict = Text("differs", "red")
        else:
            verdict = Text(f"{grouped(found.rows)} rows", "red")
        table.add_row(name, _number(content.rows), verdict)
    return table


_KINDS = {
    Kind.MISSING: "in the ledger, gone at Zentrik",
    Kind.UNKNOWN_HERE: "at Zentrik under our namespaces, not in the ledger",
    Kind.DOUBLED: "more than one at Zentrik",
    Kind.CHANGED: "in both, but not the same",
    Kind.FORGOTTEN: "forgotten here, and at Zentrik",
}

_SHOWN = 50
"""Differences that are listed one by one; `--json` lists all."""


def audit(found: Audit, applied: Applied | None) -> Group:
    """How the ledger and Zentrik compare, what is planned about it, and what of that was done."""
    compared = f"{grouped(found.here)} signals in the ledger, {grouped(found.there)} at Zentrik"
    parts: list[Table | Text] = [Text(compared)]
    if found.nameless:
        parts.append(Text(f"{grouped(found.nameless)} at Zentrik have no externalId to match them by", "dim"))
    if found.moved:
        parts.append(Text(f"{grouped(found.moved)} moved on while they were compared; they are left out", "dim"))
    if not found.differences:
        return Group(*parts, Text("They agree.", "green"))
    table = _table("difference", "signals", *(["made good"] if applied else []), "", right=("signals", "made good"))
    for kind, number in found.counts.items():
        done = [_number(applied.done[kind], "green")] if applied else []
        table.add_row(kind.replace("_", " "), _number(number, "yellow"), *done, _KINDS[kind])
    lines = applied.left if applied else [(each, each.plan) for each in found.differences]
    parts += [Text(), table]
    if lines:
        listed = _table("external id", "signal", "difference", "left as it is" if applied else "plan")
        for difference, words in lines[:_SHOWN]:
            listed.add_row(
                Text(printable(difference.external_id)),
                difference.public_id,
                Text(printable(difference.words)),
                Text(printable(words)),
            )
        parts += [Text(), listed]
    if len(lines) > _SHOWN:
        parts.append(Text(f"... and {grouped(len(lines) - _SHOWN)} more; --json lists them all", "dim"))
    if not applied:
        parts.append(Text("\nNothing was changed; `syncd audit --apply` carries the plan out"))
    return Group(*parts)


def certificate(done: Certificate) -> Group:
    """What was forgotten, or would be: what was asked, what became of each signal, and what is left for a person."""
    survey, order = done.survey, done.order
    parts: list[Text | Table] = []
    if not done.is_dry:
        parts.append(Text(f"Certificate of erasure, {done.at:%Y-%m-%d %H:%M:%S} UTC\n", "bold"))
    asked = (("external id", order.external_ids), ("e-mail", order.emails), ("account", order.accounts))
    parts += [Text(f"asked for: {word} {printable(each)}") for word, named in asked for each in named]
    if done.items:
        listed = _table("external id", "connector", "was", "signal", "became", "insights", right=("insights",))
        for item in done.items:
            became = ("forgotten", "green") if item.is_forgotten else ("left", "red") if item.why else ("-", "dim")
            listed.add_row(
                Text(printable(item.found.external_id)),
                Text(printable(item.found.connector or "-")),
                _state(item.found.state),
                item.found.public_id or "-",
                Text(*became),
                _number(len(item.found.insight_ids)),
            )
        parts += [Text(), listed]
    reasons = dict.fromkeys(item.why for item in done.items if item.why)
    parts += [Text(printable(f"left as they are: {why}. The same command goes on with them"), "red") for why in reasons]
    parts += [Text(printable(f"not in the ledger: {name}"), "yellow") for name in survey.unknown]
    parts += [Text(printable(f"forgotten before: {name}")) for name in survey.already]
    if done.insight_ids:
        parts.append(Text("\ninsights drawn from these signals, for somebody to review at Zentrik:"))
        parts += [Text(printable(f"  {id_}")) for id_ in done.insight_ids]
    if survey.predating:
        parts.append(
            Text(
                f"\nOf {grouped(survey.predating)} signals it was never noted whom they speak of; `--external-id` "
                "reaches them",
                "yellow",
            )
        )
    if not done.items and not survey.already:
        parts.append(Text("\nThe ledger has nothing of it"))
    elif done.is_dry and done.items:
        parts.append(Text("\nNothing was changed; with `--yes` it is: deleted at Zentrik, and erased here for good"))
    return Group(*parts)


def checks(results: Sequence[tuple[str, bool, str]]) -> Table:
    """What was checked: its name, whether it is well, and what was seen."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, well, words in results:
        table.add_row(Text("✓", "green") if well else Text("✗", "red"), Text(name, "bold"), Text(printable(words)))
    return table


def types(rows: Sequence[tuple[str, str]]) -> Table:
    """The connector types there are, each in a line."""
    table = _table("type", "what it reads")
    for name, words in rows:
        table.add_row(name, Text(words))
    return table


def settings(rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """A type's settings: name, form, default and meaning."""
    table = _table("setting", "form", "default", "meaning")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def pretty(body: bytes) -> str:
    """A body for people to read."""
    return json.dumps(json.loads(body), ensure_ascii=False, indent=2)
