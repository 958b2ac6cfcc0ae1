"""What people see: it fits their terminal, and nothing in it but our own words commands the terminal."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from syncd import screens
from syncd.audit import Applied, Audit, Difference, Kind
from syncd.budgets import Budget
from syncd.estimate import Estimate
from syncd.figures import Figures
from syncd.ledger import Backfill, State
from syncd.ledger.copy import Content, Copied
from syncd.ledger.report import AsideRow, Event, SignalRow
from syncd.ledger.spending import Spent
from syncd.ledger.tracing import Origin
from syncd.ledger.worth import By, Worth
from syncd.pull import Pulled
from syncd.rebuild import Rebuilt
from syncd.records import SetAside
from syncd.status import ConnectorStatus, Status

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
NASTY = "\x1b[2J\x1b]0;mine\x07[red]not markup[/red]\r\u202e"


def shown(what: RenderableType, width: int = 80) -> str:
    """What a terminal of that width, without colours, is given."""
    out = StringIO()
    Console(file=out, width=width, highlight=False, markup=False, no_color=True).print(what)
    return out.getvalue()


def row(text: str = "Fine", state: State = State.PROCESSED, error: str | None = None) -> SignalRow:
    return SignalRow(
        id=1,
        external_id=text,
        connector="survey",
        state=state,
        signal_type=text,
        name=text,
        public_id="SIGNAL-1",
        job_id="job-1",
        insight_ids=("i-1", "i-2"),
        attempts=1,
        last_error=error,
        occurred_at=NOW,
        source_url=text,
        place=text,
        first_seen_at=NOW,
        due_at=None,
        accepted_at=NOW,
        processing_started_at=NOW,
        settled_at=NOW,
        version=None,
        redacted={"email": 2},
        source_fingerprint=b"",
    )


def connector(**more: object) -> ConnectorStatus:
    given = {
        "name": "survey",
        "type": "csv",
        "state": "ok",
        "last_run": NOW - timedelta(minutes=3),
        "last_success": NOW,
        "next_run": NOW + timedelta(hours=2),
        "error": None,
        "signals": dict.fromkeys(State, 0),
        "set_aside": 0,
        "lag": None,
    }
    return ConnectorStatus(**{**given, **more})  # type: ignore[arg-type]


def everything(text: str) -> list[RenderableType]:
    """Every screen, with that text wherever something from outside is shown."""
    pulled = Pulled(1, 1, 1, 1, [SetAside(text, text)], ("code", text))
    aside = [AsideRow("survey", text, text, NOW)]
    difference = Difference(Kind.UNKNOWN_HERE, text, "SIGNAL-1", text, whose=text)
    events = [Event(NOW, "rejected", text)]
    return [
        screens.signals([row(text), row(text, State.REJECTED, text)], 120),
        screens.signal(row(text, State.FAILED, text), events, b"{}", NOW),
        screens.skipped(aside, NOW),
        screens.closing(Figures({"survey": pulled}, 1, 1)),
        screens.status(NOW, Status([connector(state="stopped", error=("code", text))])),
        screens.checks([("survey", False, text)]),
        screens.audit(Audit(differences=[difference]), None),
        screens.audit(Audit(differences=[difference]), Applied(left=[(difference, text)])),
        screens.rebuilt(Rebuilt(3, Counter({text: 2}), doubled=1)),
        screens.signal(row("-"), [], None, NOW, Origin(1, text, NOW, 2, "a1b2", is_current=True, account=text), text),
        screens.worths(By.ACCOUNT, [Worth(text, dict.fromkeys(State, 1))]),
    ]


@pytest.mark.parametrize("number", range(11))
def test_a_hostile_text_is_shown_and_not_obeyed(number: int) -> None:
    """A record's title cannot clear the operator's screen, rename their window or colour our words."""
    output = shown(everything(NASTY)[number], 200)
    assert "[red]not markup[/red]" in output
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(output)


@given(st.text(max_size=60), st.integers(40, 160))
def test_no_text_and_no_width_breaks_a_screen(text: str, width: int) -> None:
    """Whatever a source holds, the screens come up, within the terminal's width."""
    for screen in everything(text):
        lines = shown(screen, width).splitlines()
        assert lines


def test_status_fits_eighty_columns() -> None:
    """The screen that is looked at most can be read in the smallest terminal."""
    counts = dict.fromkeys(State, 1_234_567)
    output = shown(screens.status(NOW, Status([connector(signals=counts, set_aside=3, lag=timedelta(minutes=7))])))
    assert "1 234 567 processed" in output
    assert "3 set aside" in output
    assert "3 min ago" in output
    assert "in 2 h" in output
    assert "7 min" in output
    assert "`syncd retry`" in output


def test_status_says_how_many_are_held_beside_the_queued() -> None:
    """What waits for an account is told from what waits for its turn."""
    counts = dict.fromkeys(State, 0) | {State.QUEUED: 7, State.PROCESSED: 5}
    output = shown(screens.status(NOW, Status([connector(signals=counts, held=3)])))
    assert output.index("7 queued") < output.index("3 held for an account") < output.index("5 processed")
    assert "held" not in shown(screens.status(NOW, Status([connector(signals=counts)])))


def test_status_says_which_budget_is_spent_and_which_nearly() -> None:
    """Whoever looks at the status sees why something waits, and what will wait soon."""
    midnight = NOW + timedelta(hours=15)
    counts = dict.fromkeys(State, 0) | {State.QUEUED: 7}
    over, near, well = (
        connector(name=name, signals=counts, spent=Spent(Budget(signals=10), midnight, signals))
        for name, signals in (("over", 10), ("near", 8), ("well", 7))
    )
    output = shown(screens.status(NOW, Status([over, near, well])), 120)
    assert "over: the day's budget is spent (10 of 10 signals); 7 signals wait until 2026-11-03 00:00 UTC" in output
    assert "near: 80% of the day's budget is spent" in output
    assert "well:" not in output


def test_the_worth_of_sources_fits_eighty_columns() -> None:
    """Shares, insights for each signal and the median stand side by side in the smallest terminal."""
    worth = Worth(
        "zendesk", dict.fromkeys(State, 0) | {State.PROCESSED: 150, State.FAILED: 50}, 300, 9, timedelta(hours=3)
    )
    output = shown(screens.worths(By.CONNECTOR, [worth, Worth(None, dict.fromkeys(State, 1))]))
    [line] = [line for line in output.splitlines() if line.startswith("zendesk")]
    assert line.split() == ["zendesk", "200", "75%", "300", "2.00", "3", "h", "25.0%", "·"]


def test_a_table_of_signals_keeps_ids_whole_on_a_narrow_terminal() -> None:
    """What is copied into the next command, the external id, is not cut to fit."""
    assert "interviews:2026-09-16-alder" in shown(screens.signals([row("interviews:2026-09-16-alder")], 80))


def test_an_audit_lists_fifty_differences_and_says_that_there_are_more() -> None:
    """A workspace that was wiped does not flood the terminal: counts by kind, then the first ones with their plan."""
    found = Audit(here=2000, there=1, moved=2)
    found.differences = [Difference(Kind.MISSING, f"a:{n}", f"SIGNAL-{n}", "gone there") for n in range(1000)]
    output = shown(screens.audit(found, None), 140)
    assert "1 000" in output
    assert "`syncd retry a:49` posts it again" in output
    assert "a:50" not in output
    assert "and 950 more" in output
    assert "They agree." in shown(screens.audit(Audit(here=3, there=3), None))


def test_a_rebuild_says_what_was_found_and_where_it_went() -> None:
    """The lines of the table add up to the last of them."""
    done = Rebuilt(16, Counter({"survey": 5, "support": 4}), remembered=1, accepted=1, known=2, doubled=2, nameless=1)
    numbers = [int(line.split()[-1]) for line in shown(screens.rebuilt(done)).splitlines() if line[-1:].isdigit()]
    assert sum(numbers[:-1]) == numbers[-1] == 16


def test_a_copy_says_of_each_table_whether_it_is_the_same() -> None:
    """A table that is short, or long enough but not the same, stands out from those that are well."""
    sent = {
        "signals": Content(12345, "a"),
        "events": Content(3, "b"),
        "runs": Content(3, "c"),
        "alerts": Content(0, ""),
    }
    found = sent | {"events": Content(2, "x"), "runs": Content(3, "y")}
    lines = shown(screens.copied(Copied("sqlite:///copy.db", sent, found))).splitlines()[2:]
    assert [" ".join(line.split()) for line in lines] == [
        "signals 12 345 same",
        "events 3 2 rows",
        "runs 3 differs",
        "alerts · same",
    ]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_long_work_is_followed_on_a_terminal_alone(is_terminal: bool) -> None:
    """Whoever waits sees how far it is; a log file gets no line of it."""
    out = StringIO()
    with screens.spinner(Console(file=out, width=80, force_terminal=is_terminal)) as watch:
        watch("copying signals", 1200)
    assert ("copying signals: 1 200" in out.getvalue()) is is_terminal
    assert is_terminal or not out.getvalue()


def backfilled(read: int) -> Backfill:
    return Backfill(1, "survey", NOW - timedelta(days=181), NOW, NOW, NOW, None, 26, read)


def test_progress_names_each_stage_with_its_pace_and_what_is_left() -> None:
    """Whoever waits for a long run sees what it is at, how fast, and for how long still."""
    moments = iter([0.0])
    now = [0.0]
    drawn = screens.Callback(lambda: next(moments, now[0]))
    drawn(Figures(connectors={"survey": Pulled(new=1300, backfill=backfilled(13))}, posted=325, accepted=300))
    now[0] = 100.0
    output = shown(drawn, 100)
    for words in ("survey", "1 300", "13.0/s", "13 of 26 parts", "about 100 s left"):
        assert words in output
    for words in ("posting", "3.2/s", "of 1 300", "about 5 min left"):
        assert words in output


def test_progress_claims_nothing_at_the_start() -> None:
    """In its first second a run has no pace, and nothing to divide by."""
    output = shown(screens.Callback(lambda: 5.0), 100)
    assert "left" not in output
    assert "/s" not in output


def test_an_unfinished_backfill_is_in_the_status() -> None:
    """What somebody began and forgot is named, with what goes on with it."""
    output = shown(screens.status(NOW, Status([connector()], [backfilled(3)])), 120)
    assert "a backfill from 2026-05-05 to 2026-11-02 is not finished: 3 of 26 parts are read" in output
    assert "backfill" not in shown(screens.status(NOW, Status([connector()])))


def test_an_estimate_says_what_it_does_not_know() -> None:
    """A guess is called one, a count is not, and what nobody can tell is a question mark with its reason."""
    found = [
        Estimate("survey", 40, 9000, is_whole=True, rate=2.0),
        Estimate("calls", 20_000, 1_000_000, rate=2.0),
        Estimate("reviews", trouble="the source cannot be reached\x1b[2J"),
    ]
    output = shown(screens.estimates(found), 100)
    assert "about 20 000" in output
    assert "about 40" not in output
    assert "about 3 h" in output
    assert "reviews: no estimate: the source cannot be reached" in output
    assert "not known yet" in output
    assert "\x1b" not in output


def test_a_dry_run_lists_all_that_was_left_out() -> None:
    """The ledger has none of it, so there is nowhere else to look."""
    aside = [SetAside(f"line {number}", "it has no text") for number in range(30)]
    figures = Figures(connectors={"survey": Pulled(skipped=37, filtered=7, set_aside=aside, shown=37)})
    whole, short = shown(screens.closing(figures, lists_all=True)), shown(screens.closing(figures))
    assert "line 29: it has no text" in whole
    assert "syncd skipped" not in whole
    assert "line 29" not in short
    assert "syncd skipped" in short
    assert "7 left out" in whole
