"""The main job, told from outside: a file is dropped in a folder and becomes processed signals in Zentrik."""

from __future__ import annotations

import json
from pathlib import Path

from syncd.sandbox import Faults, Sandbox
from tests.stories.conftest import Operator, moved_in, quick_sandbox

ROWS = "id,comment\n1,The export takes too long.\n2,Dark mode please.\n3,Onboarding was easy.\n"
NAMES = ["survey:1", "survey:2", "survey:3"]


def test_a_row_becomes_a_processed_signal_and_is_never_sent_again(operator: Operator, sandbox: Sandbox) -> None:
    """What is dropped in the folder is in Zentrik when the command ends, once, and the ledger can tell its story."""
    operator.drop("october.csv", ROWS)
    figures = operator.run_once()
    assert figures == {
        "connectors": {
            "survey": {"fetched": 3, "new": 3, "changed": 0, "unchanged": 0, "skipped": 0, "error": None}
        },
        "posted": 3,
        "accepted": 3,
        "signals": {
            "queued": 0, "sending": 0, "unknown": 0, "processing": 0, "processed": 3, "failed": 0, "rejected": 0,
        },
    }  # fmt: skip
    assert {row["externalId"]: row["state"] for row in operator.signals()} == {
        f"csv:{name}": "processed" for name in NAMES
    }
    told = json.loads(operator.syncd("show", "csv:survey:1", "--json").stdout)
    assert [event["event"] for event in told["history"]] == ["queued", "accepted", "processed"]
    assert told["place"] == "october.csv:2"
    assert told["body"]["text"] == "The export takes too long."

    again = operator.run_once()
    assert (again["posted"], again["connectors"]["survey"]["fetched"]) == (0, 0)
    operator.drop("october.csv", ROWS + "4,Prices are fair.\n")
    grown = operator.run_once()
    assert (grown["posted"], grown["connectors"]["survey"]["new"]) == (1, 1)
    assert len(sandbox.books) == 4


def test_a_wrong_key_is_said_in_one_line(operator: Operator, sandbox: Sandbox) -> None:
    """An operator with a mistyped key learns that, not a stack of frames; nothing was read in vain."""
    operator.drop("october.csv", ROWS)
    operator.key = "mistyped"
    refused = operator.syncd("run-once")
    assert refused.returncode == 3
    assert len(refused.stderr.splitlines()) == 1
    assert "refused the API key" in refused.stderr
    assert "mistyped" not in refused.stderr + refused.stdout
    operator.key = "sandbox-key"
    assert operator.run_once()["signals"]["processed"] == 3


def test_an_unreachable_zentrik_costs_nothing_but_time(tmp_path: Path) -> None:
    """When Zentrik is away the run ends with 3, and the next one delivers everything."""
    sandbox = quick_sandbox()
    with sandbox.in_thread() as api_base:
        operator = moved_in(tmp_path / "home", api_base)
    operator.drop("october.csv", ROWS)
    away = operator.syncd("run-once")
    assert away.returncode == 3
    assert "not ready after 2 s" in away.stderr
    assert "Traceback" not in away.stderr
    with sandbox.in_thread(int(api_base.split(":")[2].split("/")[0])):
        assert operator.run_once()["signals"]["processed"] == 3


def test_a_refused_record_does_not_hold_up_the_others(operator: Operator, sandbox: Sandbox) -> None:
    """One record Zentrik does not want is kept with its words; mended by retry, the rest long since delivered."""
    operator.drop(
        "ready-made.jsonl",
        '{"kind": "external_text", "externalId": "a:1", "text": "Fine.", "signalType": "review"}\n'
        '{"kind": "external_text", "externalId": "a:2", "text": "Fine.", "signalType": "poem"}\n',
    )
    done = operator.syncd("run-once", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["signals"] == {
        "queued": 0, "sending": 0, "unknown": 0, "processing": 0, "processed": 1, "failed": 0, "rejected": 1,
    }  # fmt: skip
    [rejected] = (row for row in operator.signals() if row["state"] == "rejected")
    assert "signalType" in rejected["lastError"]
    assert operator.syncd("retry").stdout.startswith("queued again: 1")
    assert operator.syncd("run-once", "--json").returncode == 1
    assert len(sandbox.books) == 1


def test_a_failed_signal_is_processed_again_and_not_created_again(operator: Operator, sandbox: Sandbox) -> None:
    """What Zentrik could not process is tried again by one command, under the publicId it has."""
    sandbox.faults = Faults(failing=1)
    operator.drop("october.csv", ROWS)
    assert operator.syncd("run-once").returncode == 1
    assert {row["state"] for row in operator.signals()} == {"failed"}
    sandbox.faults = Faults()
    retried = operator.syncd("retry", "--state", "failed")
    assert "being processed again: 3" in retried.stdout
    assert operator.run_once()["signals"]["processed"] == 3
    assert len(sandbox.books) == 3


def test_lost_answers_are_looked_for_and_not_posted_again(operator: Operator, sandbox: Sandbox) -> None:
    """A connection that breaks after Zentrik stored the record doubles nothing, in one run, with exit code 0."""
    sandbox.faults = Faults(next_posts=("cut_after", "cut_before", "garbled"))
    operator.drop("october.csv", ROWS)
    figures = operator.run_once()
    assert (figures["accepted"], figures["signals"]["processed"]) == (3, 3)
    assert len(sandbox.books) == 3
