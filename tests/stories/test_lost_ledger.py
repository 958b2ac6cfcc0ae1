"""A ledger that was lost comes back from Zentrik, and one that no longer tells the truth is put right."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.sandbox import Sandbox
from tests.conftest import MOSTLY_ON_SQLITE
from tests.stories.conftest import CONFIG, Operator, moved_in

ROWS = "id,comment\n1,The export takes too long.\n2,Dark mode please.\n3,Onboarding was easy.\n"
READY_MADE = (
    '{"kind": "external_text", "externalId": "interviews:alder", "text": "Fine.", "signalType": "review"}\n'
    '{"kind": "external_text", "externalId": "q3", "text": "Slow.", "signalType": "review"}\n'
)


@pytest.fixture
def operator(tmp_path: Path, sandbox: Sandbox, ledger_url: str) -> Any:
    """An operator whose ledger is on either database."""
    config = CONFIG.replace("sqlite:///{folder}/syncd.db", ledger_url)
    with sandbox.in_thread() as api_base:
        yield moved_in(tmp_path / "home", api_base, config)


def lose(ledger_url: str) -> None:
    """The ledger is gone: its file and what belongs to it, or every table of its database."""
    address = sa.make_url(ledger_url)
    if address.get_backend_name() == "sqlite":
        database = Path(str(address.database))
        for path in (database, *database.parent.glob(f"{database.name}-*")):
            if "-run-" not in path.name:
                path.unlink(missing_ok=True)
        return
    engine = sa.create_engine(address)
    with engine.begin() as db:
        db.execute(sa.text("DROP SCHEMA public CASCADE"))
        db.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()


def printed(operator: Operator, *arguments: str, code: int = 0) -> Any:
    """The object that a command prints with --json, ending with that code."""
    done = operator.syncd(*arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


@MOSTLY_ON_SQLITE
def test_after_a_rebuild_the_next_run_posts_only_what_is_new(
    operator: Operator, sandbox: Sandbox, ledger_url: str
) -> None:
    """The ledger is deleted; after the rebuild every record is known again, those with names of their own too."""
    operator.drop("october.csv", ROWS)
    operator.drop("ready-made.jsonl", READY_MADE)
    assert operator.run_once()["posted"] == 5
    before = {row["externalId"]: row for row in operator.signals()}
    lose(ledger_url)

    figures = printed(operator, "ledger", "rebuild", "--from-remote")
    assert figures == {
        "found": 5, "entered": 3, "connectors": {"survey": 3}, "remembered": 2,
        "accepted": 0, "known": 0, "doubled": 0, "withoutExternalId": 0, "error": None,
    }  # fmt: skip
    figures = operator.run_once()
    assert (figures["posted"], figures["connectors"]["survey"]["unchanged"]) == (0, 5)
    operator.drop("october.csv", ROWS + "4,Prices are fair.\n")
    assert operator.run_once()["posted"] == 1
    assert (len(sandbox.books), sandbox.books.duplicates()) == (6, 0)

    after = {row["externalId"]: row for row in operator.signals()}
    for name, row in before.items():
        same = ("externalId", "connector", "state", "publicId", "jobId", "name", "sourceUrl")
        assert [after[name][key] for key in same] == [row[key] for key in same]
    assert printed(operator, "audit")["counts"] == {"missing": 0, "unknown_here": 0, "doubled": 0, "changed": 0}


@MOSTLY_ON_SQLITE
def test_a_run_that_came_before_the_rebuild_is_made_good(operator: Operator, sandbox: Sandbox, ledger_url: str) -> None:
    """Even when the loss was noticed late, the rebuild enters what is there, and the audit clears the doubled away."""
    operator.drop("october.csv", ROWS)
    operator.run_once()
    lose(ledger_url)
    operator.drop("october.csv", ROWS.replace("3,", "4,"))
    assert operator.run_once()["posted"] == 3
    figures = printed(operator, "ledger", "rebuild", "--from-remote")
    assert (figures["found"], figures["entered"], figures["known"], figures["doubled"]) == (6, 1, 3, 2)
    assert printed(operator, "audit", code=1)["counts"]["doubled"] == 2
    assert printed(operator, "audit", "--apply")["applied"]["done"]["doubled"] == 2
    assert (len(sandbox.books), sandbox.books.duplicates()) == (4, 0)
    assert operator.syncd("audit").returncode == 0


def test_an_audit_tells_and_mends(operator: Operator, sandbox: Sandbox) -> None:
    """What somebody deleted, doubled and added at Zentrik is told in a plan; nothing happens before `--apply`."""
    operator.drop("october.csv", ROWS)
    operator.run_once()
    public_ids = {row["externalId"]: row["publicId"] for row in operator.signals()}
    sandbox.books.delete(public_ids["csv:survey:1"])
    sandbox.books.create({"text": "Again.", "signalType": "review", "externalId": "csv:survey:2"})
    sandbox.books.create({"text": "By hand.", "signalType": "review", "externalId": "csv:survey:7"})
    before = operator.signals()
    plan = operator.syncd("audit")
    assert plan.returncode == 1
    assert "`syncd retry csv:survey:1` posts it again" in plan.stdout
    assert "delete it at Zentrik, keep " + public_ids["csv:survey:2"] in plan.stdout
    assert "enter it as one of survey" in plan.stdout
    assert "syncd audit --apply" in plan.stdout
    assert operator.signals() == before
    done = operator.syncd("audit", "--apply")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert {row["externalId"]: row["state"] for row in operator.signals()}["csv:survey:1"] == "deleted"
    assert "They agree." in operator.syncd("audit").stdout
    figures = operator.run_once()
    assert figures["posted"] == 0


def test_nothing_is_rebuilt_under_a_running_daemon(operator: Operator, sandbox: Sandbox, ledger_url: str) -> None:
    """A daemon that still runs is to be stopped first, also when its ledger was deleted under it."""
    operator.drop("october.csv", ROWS)
    with operator.started("run") as daemon:
        for _ in range(200):
            if len(sandbox.books) == 3:
                break
            time.sleep(0.1)
        for _ in range(2):
            refused = operator.syncd("ledger", "rebuild", "--from-remote")
            assert refused.returncode == 1, refused.stdout
            assert "Stop it" in refused.stderr
            if ledger_url.startswith("sqlite"):
                lose(ledger_url)
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=30)
    assert operator.syncd("ledger", "rebuild", "--from-remote").returncode == 0
    assert operator.run_once()["posted"] == 0


def test_the_commands_explain_themselves(operator: Operator) -> None:
    """Without its flag a rebuild only says what it would do; without a ledger an audit says how to get one back, and
    makes none."""
    told = operator.syncd("ledger", "rebuild")
    assert told.returncode == 2
    assert "--from-remote" in told.stderr
    assert "Stop every other syncd" in " ".join(told.stderr.split())
    lost = operator.syncd("audit")
    assert lost.returncode == 1
    assert "syncd ledger rebuild --from-remote" in lost.stderr
    assert operator.signals() == []
    assert not list(operator.folder.parent.glob("ledger.db*"))
