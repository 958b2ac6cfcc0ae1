"""What a signal waits for, in one sentence: for every state, and for every reason to wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncd.budgets import Budget
from syncd.ledger import Closed, State
from syncd.ledger.holds import Hold
from syncd.ledger.report import ConnectorRow, SignalRow
from syncd.ledger.spending import Spent
from syncd.waiting import held_for, near_budget, over_budget, waits_for

NOW = datetime(2026, 11, 2, 14, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=5)
MIDNIGHT = datetime(2026, 11, 3, tzinfo=UTC)
CONNECTOR = ConnectorRow("survey", "csv", "csv:survey", {}, None, None, None, None, None, None)
HALTED = replace(CONNECTOR, halted_at=NOW, halted_why="Zentrik refused 30 of the last 40 records")
SPENT = Spent(Budget(signals=500), MIDNIGHT, 500, 81_000)
ROOM = Spent(Budget(signals=500), MIDNIGHT, 499, 81_000)
CLOSED = Closed(SOON, "429: too many requests")


def row(state: State, due_at: datetime | None = None, error: str | None = None, **more: object) -> SignalRow:
    blank = dict.fromkeys(SignalRow.__slots__)
    given = {
        **blank,
        "external_id": "csv:survey:1",
        "connector": "survey",
        "state": state,
        "due_at": due_at,
        "last_error": error,
        "insight_ids": (),
    }
    return SignalRow(**{**given, **more})  # type: ignore[arg-type]


class TestEveryState:
    @pytest.mark.parametrize(
        ("signal", "sentence"),
        [
            (
                row(State.QUEUED, NOW),
                "Queued; it is posted as soon as syncd runs and its turn comes, news before a backlog.",
            ),
            (
                row(State.QUEUED, SOON, "408: timeout"),
                "Queued; posting is paused until 14:05 UTC because the last try came to nothing (408: timeout).",
            ),
            (
                row(State.SENDING, SOON),
                "It is being posted; if no answer has come by 14:05 UTC, it is looked for at Zentrik.",
            ),
            (row(State.SENDING, NOW), "It is being posted; if no answer has come, it is looked for at Zentrik."),
            (
                row(State.UNKNOWN, SOON),
                "The answer to its post was lost; it is looked for at Zentrik at 14:05 UTC, and posted again if not "
                "there.",
            ),
            (
                row(State.UNKNOWN, None, "it has no externalId to look for"),
                "The answer to its post was lost, and it cannot be looked for: it has no externalId to look for; "
                "`syncd retry csv:survey:1` posts it again.",
            ),
            (row(State.PROCESSING, SOON), "Zentrik is processing it; asked again at 14:05 UTC."),
            (row(State.PROCESSING, NOW), "Zentrik is processing it; asked again as soon as syncd runs."),
            (row(State.PROCESSED), "Nothing: Zentrik processed it, and drew no insights from it."),
            (
                row(State.PROCESSED, insight_ids=("i-1",)),
                "Nothing: Zentrik processed it, and drew 1 insight from it.",
            ),
            (
                row(State.FAILED, MIDNIGHT, "model overloaded."),
                "Zentrik could not process it: model overloaded; it is processed again at 2026-11-03 00:00 UTC.",
            ),
            (
                row(State.FAILED, None, "no text"),
                "Zentrik could not process it: no text; it moves again by `syncd retry csv:survey:1`.",
            ),
            (
                row(State.REJECTED, None, "422: signalType is none"),
                "Zentrik refused it: 422: signalType is none; it moves again when the record changes at its source, or "
                "by `syncd retry csv:survey:1`.",
            ),
            (
                row(State.DELETED, None, "404"),
                "Somebody deleted it at Zentrik; only `syncd retry csv:survey:1` posts it again.",
            ),
        ],
        ids=lambda value: value.state if isinstance(value, SignalRow) else "",
    )
    def test_it_says_what_is_waited_for_and_until_when(self, signal: SignalRow, sentence: str) -> None:
        """Whoever asks after a signal is told in one sentence what comes next, when, and what moves it."""
        assert waits_for(signal, CONNECTOR, None, None, NOW) == sentence

    @pytest.mark.parametrize("state", list(State))
    def test_none_is_left_out(self, state: State) -> None:
        """Each state has its sentence, also where nothing else is known of the signal."""
        sentence = waits_for(row(state), None, None, None, NOW)
        assert sentence.endswith(".")
        assert "None" not in sentence

    @given(st.sampled_from(list(State)), st.text(), st.text(min_size=1))
    @example(State.REJECTED, "\x1b[2J\r\n\u2028no", "it's\x1b[2J\n'1'")
    def test_words_from_outside_keep_to_their_place(self, state: State, error: str, name: str) -> None:
        """An error or a name with line breaks or escape sequences commands no terminal, and stays one sentence."""
        sentence = waits_for(row(state, None, error, external_id=name), HALTED, CLOSED, SPENT, NOW)
        assert "\x1b" not in sentence
        assert len(sentence.splitlines()) == 1


class TestQueued:
    @pytest.mark.parametrize(
        ("connector", "closed", "spent", "words"),
        [
            (CONNECTOR, CLOSED, None, "until 14:05 UTC because Zentrik asked for it (429: too many requests)."),
            (CONNECTOR, None, ROOM, "as soon as syncd runs"),
            (
                CONNECTOR,
                None,
                SPENT,
                "until 2026-11-03 00:00 UTC because the day's budget of survey is spent (500 of 500 signals).",
            ),
            (CONNECTOR, CLOSED, SPENT, "until 2026-11-03 00:00 UTC because the day's budget"),
            (
                HALTED,
                CLOSED,
                SPENT,
                "Zentrik refused 30 of the last 40 records) until its settings change or `syncd retry",
            ),
            (CONNECTOR, Closed(NOW, "over"), None, "as soon as syncd runs"),
        ],
    )
    def test_the_reason_that_lasts_longest_is_told(
        self, connector: ConnectorRow, closed: Closed | None, spent: Spent | None, words: str
    ) -> None:
        """Of several reasons to wait the sentence names the one that is over last, and none that is over."""
        assert words in waits_for(row(State.QUEUED, NOW), connector, closed, spent, NOW)


class TestHeld:
    @pytest.mark.parametrize(("due", "when"), [(SOON, "at 14:05 UTC"), (NOW, "as soon as syncd runs")])
    def test_it_says_which_account_is_missing(self, due: datetime, when: str) -> None:
        """Whoever asks after a held signal reads which account Zentrik lacks, and when it is asked again."""
        hold = Hold(1, "survey", (("externalId", "crm-1"), ("domain", "acme.com")), due)
        assert waits_for(row(State.QUEUED), CONNECTOR, None, None, NOW, hold) == (
            f"Queued; held until Zentrik has an account for externalId crm-1 or domain acme.com; asked again {when}."
        )

    def test_of_many_accounts_the_most_wanted_are_named(self) -> None:
        """A dry run says which account to create first, on one line however many there are."""
        assert held_for({"domain a.test": 1}) == "1 record is held until Zentrik has the account: domain a.test (1)"
        many = {f"domain a{number}.test": number for number in range(1, 8)}
        assert held_for(many) == (
            "28 records are held until Zentrik has the account: domain a7.test (7), domain a6.test (6), "
            "domain a5.test (5), domain a4.test (4), domain a3.test (3), and 2 more"
        )


class TestBudget:
    def test_a_spent_one_names_what_waits_and_until_when(self) -> None:
        """Whoever sees that a budget is spent sees how much waits, and when it goes on."""
        assert over_budget("survey", SPENT, 1234) == (
            "survey: the day's budget is spent (500 of 500 signals); 1 234 signals wait until 2026-11-03 00:00 UTC"
        )
        assert "1 signal waits" in over_budget("survey", SPENT, 1)

    def test_one_that_nears_its_end_says_how_far_it_is(self) -> None:
        """The warning before the end has the share and both limits."""
        spent = Spent(Budget(500, 100_000), MIDNIGHT, 300, 81_000)
        assert near_budget("survey", spent) == (
            "survey: 81% of the day's budget is spent (300 of 500 signals, 81 000 of 100 000 characters); "
            "the next day begins at 2026-11-03 00:00 UTC"
        )
