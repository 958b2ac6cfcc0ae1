"""What is told of a series of looks: once per change of state, never for a blip, and in words that help."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.alerts import Alert, Change, Destination, Kind, Sight, compare, told
from syncd.budgets import Budget
from syncd.ledger import State
from syncd.ledger.report import AlertRow
from syncd.ledger.spending import Spent
from syncd.logs import conceal
from syncd.settings import AlertSettings
from syncd.status import ConnectorStatus, Status
from tests.conftest import Clock

SETTINGS = AlertSettings()
START = Clock()()
FAILING = ("unavailable", "support answered 503.")


def connector(name: str = "support", **more: object) -> ConnectorStatus:
    """A connector read an hour ago, and again within the hour, with which all is well."""
    well = ConnectorStatus(
        name=name,
        type="zendesk",
        state="ok",
        last_run=START,
        last_success=START,
        next_run=START + timedelta(minutes=10),
        error=None,
        signals=dict.fromkeys(State, 0),
        set_aside=0,
        lag=None,
    )
    return replace(well, **more)  # type: ignore[arg-type]


def failing(failures: int = 2, **more: object) -> ConnectorStatus:
    return connector(**{"state": "stopped", "failures": failures, "error": FAILING, **more})


def budgeted(name: str, signals: int, waiting: int = 3, **more: object) -> ConnectorStatus:
    """A connector that may post ten signals a day and has posted so many of them, while more wait."""
    spent = Spent(Budget(signals=10), START + timedelta(hours=15), signals)
    return connector(name, spent=spent, signals=dict.fromkeys(State, 0) | {State.QUEUED: waiting}, **more)


@dataclass
class Listener:
    """Somebody who is told, and what is remembered of it: as the daemon does it, without the waiting."""

    settings: AlertSettings = SETTINGS
    rows: dict[tuple[str, str], AlertRow] = field(default_factory=dict)
    heard: list[Alert] = field(default_factory=list)

    def look(self, sight: Sight, *, is_reachable: bool = True) -> list[str]:
        """What is new in that look: `firing stopped`."""
        before = len(self.heard)
        findings = compare(sight, list(self.rows.values()), self.settings)
        self.rows |= {(row.kind, row.connector): row for row in findings.kept}
        for row in findings.dropped:
            del self.rows[row.kind, row.connector]
        for alert, row in findings.alerts if is_reachable else ():
            self.heard.append(alert)
            if alert.change is Change.FIRING:
                self.rows[row.kind, row.connector] = told(row, sight.now)
            else:
                del self.rows[row.kind, row.connector]
        return [f"{alert.change} {alert.kind}" for alert in self.heard[before:]]


def at(minutes: float, *connectors: ConnectorStatus, **more: object) -> Sight:
    """What is seen that many minutes after the start."""
    return Sight(START + timedelta(minutes=minutes), Status(connectors), **more)  # type: ignore[arg-type]


@pytest.fixture
def listener() -> Listener:
    return Listener()


class TestStopped:
    def test_told_once_it_lasts_and_once_more_when_it_is_over(self, listener: Listener) -> None:
        """A source that stays away is told after a quarter of an hour, once, and once that it is back."""
        told = [listener.look(at(minute, failing())) for minute in range(0, 60, 5)]
        assert told == [[], [], [], ["firing stopped"], *[[]] * 8]
        assert listener.look(at(61, connector())) == ["resolved stopped"]
        assert listener.look(at(62, connector())) == []

    def test_one_blip_pages_nobody(self, listener: Listener) -> None:
        """A reading that failed once, of a connector that is soon read again, is no news however long it stands."""
        assert [listener.look(at(minute, failing(1))) for minute in (0, 20, 40)] == [[], [], []]
        assert listener.look(at(45, connector())) == []

    def test_a_blip_of_what_is_read_daily_is_told(self, listener: Listener) -> None:
        """Nobody waits until tomorrow to hear that this night's reading failed; the time given is that of its start."""
        daily = failing(1, next_run=START + timedelta(days=1))
        assert listener.look(at(14, daily)) == []
        assert listener.look(at(16, daily)) == ["firing stopped"]
        assert listener.heard[0].since == START

    def test_flapping_within_the_time_tells_nothing(self, listener: Listener) -> None:
        """A source that fails and recovers all the time is not worth a message each time."""
        for minute in range(0, 200, 10):
            assert listener.look(at(minute, failing(3))) == []
            assert listener.look(at(minute + 9, connector())) == []

    def test_being_read_again_is_not_yet_being_well(self, listener: Listener) -> None:
        """A connector that is just being read, for the first time with other settings, is not called well before the
        reading ended well."""
        listener.look(at(0, failing()))
        assert listener.look(at(20, failing())) == ["firing stopped"]
        assert listener.look(at(21, connector(state="running", failures=0))) == []
        assert listener.look(at(22, failing(1))) == []
        assert listener.look(at(30, connector())) == ["resolved stopped"]

    @pytest.mark.parametrize(
        ("state", "words"), [("paused", "is paused"), ("off", "switched off"), ("gone", "no longer in the config")]
    )
    def test_one_that_was_set_apart_is_not_waited_for(self, listener: Listener, state: str, words: str) -> None:
        """An operator who pauses a broken connector is not told again, and the message says that it is not mended."""
        listener.look(at(0, failing()))
        listener.look(at(20, failing()))
        assert listener.look(at(21, failing(state=state))) == ["resolved stopped"]
        assert words in listener.heard[-1].message

    def test_a_halt_does_not_hide_that_it_cannot_be_read(self, listener: Listener) -> None:
        """Two troubles of one connector are two alerts; that its records are refused says nothing of its source."""
        listener.look(at(0, failing()))
        listener.look(at(20, failing()))
        both = failing(error=("refused_too_often", "30 of 40 were refused"))
        assert listener.look(at(21, both)) == ["firing halted"]
        assert listener.look(at(22, failing())) == ["resolved halted"]


class TestHalted:
    def test_told_at_once_and_when_it_is_over(self, listener: Listener) -> None:
        """Nobody has to wait to hear that nothing of a connector is posted any more."""
        halted = connector(state="stopped", error=("refused_too_often", "30 of 40 were refused, so no more is posted"))
        assert listener.look(at(0, halted)) == ["firing halted"]
        assert "30 of 40 were refused" in listener.heard[0].message
        assert listener.look(at(1, connector())) == ["resolved halted"]
        assert "are posted again" in listener.heard[1].message


class TestLag:
    def test_told_over_its_limit_and_resolved_well_below(self, listener: Listener) -> None:
        """A connector that hovers round the limit is told of once: it is over at half the limit."""
        lags = [31, 45, 61, 59, 61, 40, 29]
        told = [listener.look(at(n * 15, connector(lag=timedelta(minutes=lag)))) for n, lag in enumerate(lags)]
        assert told == [[], [], ["firing lag"], [], [], [], ["resolved lag"]]

    def test_a_backlog_has_time_to_go_out(self, listener: Listener) -> None:
        """After an outage, and after a start, what has waited for hours is not told of while it goes out."""
        late = connector(lag=timedelta(hours=5))
        listener.look(at(0, late, destination=Destination(refused="no")))
        assert listener.look(at(90, late, destination=Destination(refused="no"))) == []
        assert listener.look(at(91)) == []  # nobody knows yet whether the key is taken
        assert [listener.look(at(minute, late)) for minute in (92, 108)] == [[], []]
        assert listener.look(at(109, late, destination=Destination())) == ["resolved key_refused"]
        assert listener.look(at(110, late, destination=Destination())) == []
        assert listener.look(at(124, late, destination=Destination())) == []
        assert listener.look(at(125, late, destination=Destination())) == ["firing lag"]

    def test_what_is_told_stays_told_when_a_cause_comes_up(self, listener: Listener) -> None:
        """That Zentrik goes away as well does not make a late connector a punctual one."""
        late = connector(lag=timedelta(hours=5))
        listener.look(at(0, late))
        assert listener.look(at(15, late)) == ["firing lag"]
        assert listener.look(at(16, late, destination=Destination(refused="no"))) == ["firing key_refused"]
        assert listener.look(at(17, late, destination=Destination())) == ["resolved key_refused"]
        assert listener.look(at(18, connector(), destination=Destination())) == ["resolved lag"]

    def test_off_when_it_is_null(self) -> None:
        """Who expects records to wait is told of none."""
        listener = Listener(AlertSettings(lag_over=None))
        assert [listener.look(at(minute, connector(lag=timedelta(days=9)))) for minute in (0, 100)] == [[], []]

    @pytest.mark.parametrize(
        ("cause", "sight"),
        [
            (Kind.KEY_REFUSED, at(0, connector(lag=timedelta(hours=2)), destination=Destination(refused="403"))),
            (Kind.UNWELL, at(0, connector(lag=timedelta(hours=2)), destination=Destination(ill="503", since=START))),
            (Kind.HALTED, at(0, connector(lag=timedelta(hours=2), error=("refused_too_often", "30 of 40")))),
        ],
    )
    def test_what_has_a_cause_that_is_told_is_not_told_twice(
        self, listener: Listener, cause: Kind, sight: Sight
    ) -> None:
        """A key that ran out is one message, not one for each connector."""
        listener.look(sight)
        listener.look(replace(sight, now=sight.now + timedelta(hours=1)))
        assert [alert.kind for alert in listener.heard] == [cause]


class TestOverdue:
    def test_told_once_however_the_number_moves(self, listener: Listener) -> None:
        """Outcomes that do not come are one message, until the last has come."""
        assert [listener.look(at(n, connector(overdue=many))) for n, many in enumerate([0, 1, 7, 3, 0])] == [
            [],
            ["firing overdue"],
            [],
            [],
            ["resolved overdue"],
        ]


class TestTheWhole:
    def test_a_refused_key(self, listener: Listener) -> None:
        """The first thing an operator has to do is told at once."""
        assert listener.look(at(0, destination=Destination(refused="it lacks signals:write."))) == [
            "firing key_refused"
        ]
        assert listener.heard[0].connector == ""
        assert listener.look(at(1, destination=Destination())) == ["resolved key_refused"]

    def test_zentrik_unwell_is_told_when_it_lasts(self, listener: Listener) -> None:
        """A deployment of Zentrik pages nobody; an outage does, once."""
        ill = Destination(ill="database is down", since=START)
        assert [listener.look(at(minute, destination=ill)) for minute in (1, 14, 15, 16)] == [
            [],
            [],
            ["firing zentrik_unwell"],
            [],
        ]
        assert listener.look(at(17, destination=Destination())) == ["resolved zentrik_unwell"]

    def test_that_zentrik_is_ill_does_not_say_that_it_takes_the_key(self, listener: Listener) -> None:
        """A refused key stays told while nobody can know whether it is taken again."""
        listener.look(at(0, destination=Destination(refused="no")))
        assert listener.look(at(1, destination=Destination(ill="down"))) == []

    def test_a_refused_configuration_and_loops_that_stand_still(self, listener: Listener) -> None:
        """Both are told with what is wrong, and are over when they are."""
        sight = at(0, config_refused="config.yaml:3: no such type", stuck=("posting",))
        assert listener.look(sight) == ["firing config_refused", "firing stuck"]
        assert "config.yaml:3" in listener.heard[0].message
        assert "posting" in listener.heard[1].message
        assert listener.look(at(1)) == ["resolved config_refused", "resolved stuck"]


class TestBlindLooks:
    def test_a_ledger_that_does_not_answer_resolves_nothing(self, listener: Listener) -> None:
        """What cannot be seen is not well: nothing is called over because nobody could look."""
        listener.look(at(0, connector(overdue=1), destination=Destination(refused="no")))
        assert listener.look(Sight(START + timedelta(minutes=1))) == []
        assert listener.look(at(2, connector(), destination=Destination())) == [
            "resolved key_refused",
            "resolved overdue",
        ]

    def test_what_was_not_delivered_is_tried_at_the_next_look(self, listener: Listener) -> None:
        """An alert counts as told when somebody has it, and so does its end."""
        assert listener.look(at(0, stuck=("posting",)), is_reachable=False) == []
        assert listener.look(at(1, stuck=("posting",))) == ["firing stuck"]
        assert listener.look(at(2), is_reachable=False) == []
        assert listener.look(at(3)) == ["resolved stuck"]

    def test_what_is_over_before_it_could_be_told_is_not_told(self, listener: Listener) -> None:
        """Nobody gets yesterday's trouble once the network is back."""
        listener.look(at(0, stuck=("posting",)), is_reachable=False)
        assert listener.look(at(1)) == []
        assert listener.rows == {}

    def test_a_clock_that_was_set_back_does_not_silence_it(self, listener: Listener) -> None:
        """A beginning that lies ahead counts as now."""
        listener.look(at(600, failing()))
        listener.look(at(0, failing()))
        assert listener.look(at(15, failing())) == ["firing stopped"]


class TestBudget:
    def test_told_once_before_the_end_and_once_at_the_end(self, listener: Listener) -> None:
        """Somebody hears that a budget nears its end, and that it is spent; and once that the next day has room."""
        told = [
            listener.look(at(minute, budgeted("gong", signals))) for minute, signals in enumerate((7, 8, 9, 10, 10))
        ]
        assert told == [[], ["firing budget_low"], [], ["firing budget_spent"], []]
        assert listener.look(at(5, budgeted("gong", 0))) == ["resolved budget_low", "resolved budget_spent"]

    def test_one_that_is_spent_at_once_is_told_once(self, listener: Listener) -> None:
        """A backlog that spends the day's budget in one go is one message, with what waits."""
        assert listener.look(at(0, budgeted("gong", 10))) == ["firing budget_spent"]
        assert "3 signals wait until 2026-11-03 00:00 UTC" in listener.heard[0].message

    def test_one_that_nothing_waits_for_is_no_trouble_beyond_its_end(self, listener: Listener) -> None:
        """A budget that is spent to the last signal was enough."""
        assert listener.look(at(0, budgeted("gong", 10, waiting=0))) == ["firing budget_low"]

    def test_a_lag_that_a_spent_budget_explains_is_no_alert(self, listener: Listener) -> None:
        """What waits because somebody wants it to wait pages nobody."""
        late = budgeted("gong", 10, lag=timedelta(days=3))
        assert [listener.look(at(minute, late)) for minute in (0, 60)] == [["firing budget_spent"], []]


class TestMessages:
    ALERT = Alert(
        Change.FIRING, Kind.STOPPED, "support", START, "support cannot be read: <!channel> @here <http://a|b> & so on."
    )

    def test_the_json_of_a_webhook(self) -> None:
        """What a script can rely on: these names, and the time in UTC."""
        body = self.ALERT.as_json("acme")
        assert {key: body[key] for key in ("syncd", "connector", "state", "kind", "since")} == {
            "syncd": "acme",
            "connector": "support",
            "state": "firing",
            "kind": "stopped",
            "since": START.isoformat().replace("+00:00", "Z"),
        }
        assert body["message"] == self.ALERT.message
        assert Alert(Change.RESOLVED, Kind.STUCK, "", START, "").as_json("acme")["connector"] is None

    def test_words_from_outside_call_nobody_in_a_chat(self) -> None:
        """A page title cannot wake a whole channel, nor show a link that leads elsewhere."""
        text = self.ALERT.as_json("acme")["text"]
        assert isinstance(text, str)
        assert "<" not in text
        assert ">" not in text
        assert "@here" not in text
        assert text.startswith("[acme] problem: support: stopped\n")

    def test_no_secret_no_control_and_no_page_of_html(self, listener: Listener) -> None:
        """What a vendor answers is shortened, redacted by value, and steers no terminal and no mail."""
        conceal(["planted-s3cret-in-alert"])
        words = "\x1b[31mplanted-s3cret-in-alert\rSubject: x\ud800 " + "<p>" * 5000
        listener.look(at(0, failing(error=("x", words)), config_refused=words, destination=Destination(refused=words)))
        listener.look(at(20, failing(error=("x", words)), config_refused=words))
        assert {alert.kind for alert in listener.heard} == {"stopped", "key_refused", "config_refused"}
        for alert in listener.heard:
            assert "s3cret" not in alert.message
            assert len(alert.message) < 1500
            assert all(sign.isprintable() or sign == "\n" for sign in alert.message)
            alert.text("x").encode()

    def test_a_subject_is_one_line(self) -> None:
        """A name with a line break cannot put headers into a mail."""
        assert "\n" not in self.ALERT.title("acme\nBcc: all@example.com")

    def test_each_says_what_to_do(self, listener: Listener) -> None:
        """No message only complains: each names a command, or a step."""
        listener.look(at(0, failing()))
        sick = failing(lag=timedelta(hours=3), overdue=2)
        listener.look(at(4, sick, budgeted("near", 9), budgeted("over", 10)))
        listener.look(at(20, sick, config_refused="x", stuck=("posting",), destination=Destination()))
        listener.look(at(21, destination=Destination(refused="x")))
        listener.look(at(22, destination=Destination(ill="x", since=START)))
        firing = {alert.kind: alert.message for alert in listener.heard if alert.change is Change.FIRING}
        assert firing.keys() == {*Kind} - {Kind.HALTED}  # whose words come from elsewhere, with theirs
        steps = ("`syncd ", "restart", "Mend the file", "`budget` of")
        assert [kind for kind, message in firing.items() if not any(step in message for step in steps)] == []


looks = st.builds(
    lambda minutes, failures, state, lag, code, overdue, destination, refused, stuck: (
        minutes,
        connector(
            state="stopped" if failures and state == "ok" else state,
            failures=failures,
            error=(code, "words") if failures or code == "refused_too_often" else None,
            lag=None if lag is None else timedelta(minutes=lag),
            overdue=overdue,
        ),
        {"destination": destination, "config_refused": refused, "stuck": stuck},
    ),
    st.floats(0, 30),
    st.integers(0, 3),
    st.sampled_from(["ok", "running", "paused", "off", "gone"]),
    st.none() | st.integers(0, 120),
    st.sampled_from(["unavailable", "refused_too_often"]),
    st.integers(0, 2),
    st.sampled_from([None, Destination(), Destination(refused="x"), Destination(ill="y"), Destination(ill="z")]),
    st.sampled_from([None, "line 3"]),
    st.sampled_from([(), ("posting",)]),
)
Look = tuple[float, ConnectorStatus, dict[str, object]]
"""The minutes since the look before, a connector, and what else was seen."""


@given(st.lists(st.tuples(looks, st.booleans()), max_size=30))
def test_never_two_of_one_kind_without_the_other_in_between(story: list[tuple[Look, bool]]) -> None:
    """Whatever happens, and whether messages get through or not: each trouble fires, is resolved, fires, in turn; and
    what is remembered at the end is exactly what is told and not resolved, or too young."""
    listener, minute = Listener(), 0.0
    for (minutes, seen, more), is_reachable in story:
        minute += minutes
        listener.look(at(minute, seen, **more), is_reachable=is_reachable)
    by_trouble: dict[tuple[str, str], list[Change]] = {}
    for alert in listener.heard:
        by_trouble.setdefault((alert.kind, alert.connector), []).append(alert.change)
    for changes in by_trouble.values():
        assert changes == [Change.FIRING, Change.RESOLVED] * (len(changes) // 2) + [Change.FIRING] * (len(changes) % 2)
    standing = {key for key, changes in by_trouble.items() if len(changes) % 2}
    assert standing == {key for key, row in listener.rows.items() if row.told_at is not None}


@given(st.lists(st.tuples(looks, st.booleans()), max_size=30))
def test_a_restart_in_between_changes_nothing(story: list[tuple[Look, bool]]) -> None:
    """A daemon that is restarted, and that can see nothing yet at its first look, tells neither more nor less than one
    that ran through."""
    through, restarted, minute = Listener(), Listener(), 0.0
    for (minutes, seen, more), restarts in story:
        minute += minutes
        sight = at(minute, seen, **more)
        through.look(sight)
        restarted.look(sight)
        if restarts:
            restarted.look(replace(sight, connectors=None, destination=None))
    assert restarted.heard == through.heard
    assert restarted.rows == through.rows


@given(st.lists(st.integers(1, 14), min_size=1, max_size=20))
def test_flapping_within_the_time_tells_nothing(lengths: list[int]) -> None:
    """Failures that never last as long as `stopped_after` are never told, however many they are."""
    listener, minute = Listener(), 0
    for length in lengths:
        listener.look(at(minute, failing(3)))
        minute += length
        listener.look(at(minute, failing(4)))
        listener.look(at(minute, connector()))
    assert listener.heard == []


def test_kinds_stay_what_they_are_called() -> None:
    """Whoever routes alerts by their kind finds it again after an upgrade."""
    assert [*Kind] == [
        *("stopped", "halted", "lag", "overdue", "budget_low", "budget_spent"),
        *("key_refused", "zentrik_unwell", "config_refused", "stuck"),
    ]


def test_a_kind_of_another_release_is_resolved(listener: Listener) -> None:
    """After a downgrade nothing stays told for ever that nobody looks at any more."""
    listener.rows["disk", ""] = AlertRow("disk", "", START, datetime.fromisoformat("2026-01-01T00:00:00Z"))
    assert listener.look(at(1)) == ["resolved disk"]
