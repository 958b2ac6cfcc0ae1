"""Somebody asks to be forgotten, and the operator does it with one command, whatever else goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from syncd.sandbox import Sandbox
from tests.conftest import MOSTLY_ON_SQLITE
from tests.stories.conftest import CONFIG, Operator, moved_in

ROWS = (
    "id,comment\n1,The export takes too long. bob@example.com\n2,Dark mode please.\n"
    "3,As Bob@Example.com said: it is slow.\n"
)


@pytest.fixture
def operator(tmp_path: Path, sandbox: Sandbox, ledger_url: str) -> Any:
    """An operator whose ledger is on either database."""
    config = CONFIG.replace("sqlite:///{folder}/syncd.db", ledger_url)
    with sandbox.in_thread() as api_base:
        yield moved_in(tmp_path / "home", api_base, config)


def forget(operator: Operator, *arguments: str, code: int = 0) -> Any:
    """The object that `forget --json` prints, ending with that code."""
    done = operator.syncd("forget", *arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


@MOSTLY_ON_SQLITE
def test_a_person_is_forgotten_and_stays_so(operator: Operator, sandbox: Sandbox) -> None:
    """Dry at first, then for good; the file that is read anew, an audit and a rebuild bring nothing of it back."""
    operator.drop("october.csv", ROWS)
    assert operator.run_once()["posted"] == 3
    before = {row["externalId"]: row for row in operator.signals()}

    dry = forget(operator, "--email", "bob@example.com")
    assert (dry["dryRun"], dry["predating"]) == (True, 0)
    assert sorted(each["externalId"] for each in dry["signals"]) == ["csv:survey:1", "csv:survey:3"]
    assert len(sandbox.books) == 3
    assert {row["externalId"]: row for row in operator.signals()} == before

    done = forget(operator, "--email", "bob@example.com", "--yes")
    assert done["done"] is True
    assert {each["fate"] for each in done["signals"]} == {"forgotten"}
    wanted = {id_ for name in ("csv:survey:1", "csv:survey:3") for id_ in before[name]["insightIds"]}
    assert set(done["insightsForReview"]) == wanted
    assert len(sandbox.books) == 1

    operator.drop("october.csv", ROWS + "4,Prices are fair.\n")
    operator.drop("november.csv", ROWS.replace("slow", "very slow"))
    figures = operator.run_once()
    assert (figures["posted"], figures["connectors"]["survey"]["new"]) == (1, 1)
    rebuilt = operator.syncd("ledger", "rebuild", "--from-remote")
    assert rebuilt.returncode == 0, rebuilt.stderr
    audited = operator.syncd("audit")
    assert audited.returncode == 0, audited.stdout
    assert operator.syncd("retry", "csv:survey:1").returncode == 1
    assert len(sandbox.books) == 2
    assert forget(operator, "--external-id", "csv:survey:1", "--yes")["alreadyForgotten"] == ["csv:survey:1"]
    shown = json.loads(operator.syncd("show", "csv:survey:1", "--json").stdout)
    assert (shown["state"], shown["name"], shown["body"]) == ("forgotten", None, None)
    states = [row["state"] for row in operator.signals()]
    assert sorted(states) == ["forgotten", "forgotten", "processed", "processed"]


def test_it_works_beside_a_daemon(operator: Operator, sandbox: Sandbox) -> None:
    """Nothing has to be stopped: the daemon goes on, and does not bring back what was forgotten under it."""
    operator.drop("october.csv", ROWS)
    operator.run_once()
    with operator.started("run"):
        assert forget(operator, "--external-id", "csv:survey:1", "--yes")["done"] is True
        for number in range(5, 300):  # a daemon that is slow to start has not seen the first
            operator.drop("october.csv", ROWS + f"4,Prices are fair.\n{number},More.\n")
            if sandbox.books.with_external_id("csv:survey:4"):
                break
            time.sleep(0.1)
    assert sandbox.books.with_external_id("csv:survey:4")
    assert sandbox.books.with_external_id("csv:survey:1") == []


def test_people_read_a_certificate(operator: Operator) -> None:
    """On a terminal it says what was asked, what became of each signal, and which insights somebody should look at."""
    operator.drop("october.csv", ROWS)
    operator.run_once()
    dry = operator.syncd("forget", "--external-id", "csv:survey:1")
    assert (dry.returncode, "Nothing was changed" in dry.stdout) == (0, True)
    done = operator.syncd("forget", "--external-id", "csv:survey:1", "--external-id", "csv:survey:9", "--yes")
    assert done.returncode == 1
    for words in ("Certificate of erasure", "csv:survey:1", "forgotten", "not in the ledger: csv:survey:9"):
        assert words in done.stdout
    assert operator.syncd("forget", "--yes").returncode == 2
    assert operator.syncd("forget", "--email", "bob").returncode == 2
