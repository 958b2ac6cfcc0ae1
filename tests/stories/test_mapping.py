"""Evidence on the right account, told from outside: a configuration with a mapping, and what arrives at Zentrik."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncd.sandbox import Faults, Sandbox
from syncd.sandbox.faults import SCOPES
from tests.stories.conftest import CONFIG, Operator, moved_in

MAPPED = (
    CONFIG
    + """
    title: "{{{{ row.id }}}}"
    external_data: {{company: "{{{{ row.company }}}}"}}
    context: "Said at {{{{ record.attributes.company | default('no company') }}}}"
    account: {{domain: "{{{{ record.attributes.company | default('') }}}}", on_missing: create}}
    products: [{{when: "'export' in record.text", product: mobile}}]
"""
)
ROWS = (
    "id,comment,company\n1,The export takes long.,acme.test\n2,Dark mode please.,acme.test\n3,Fine.,beta.test\n4,Hm.,\n"
)


@pytest.fixture
def operator(tmp_path: Path, sandbox: Sandbox) -> Any:
    with sandbox.in_thread() as api_base:
        home = moved_in(tmp_path / "home", api_base, MAPPED)
        home.drop("october.csv", ROWS)
        yield home


def of(sandbox: Sandbox) -> dict[str, Any]:
    """The signals at Zentrik, by the last part of their externalId."""
    return {one["externalId"].rpartition(":")[2]: one for one in sandbox.books.page(100, 0)}


def test_records_hang_on_their_accounts_and_products(operator: Operator, sandbox: Sandbox) -> None:
    """What a customer said is found under that customer; an account that was missing is there once, whatever ran how
    often; what was shown before is what arrives."""
    sandbox.accounts.create({"name": "Acme", "domain": "acme.test", "externalId": "crm-acme"})
    mobile = sandbox.products.create({"name": "Mobile", "externalId": "mobile"})["id"]
    shown = operator.syncd("run-once", "--dry-run", "--json")
    bodies = {
        line["externalId"].rpartition(":")[2]: line["body"] for line in map(json.loads, shown.stdout.splitlines())
    }
    assert bodies["1"]["accountExternalId"] == bodies["2"]["accountExternalId"] == "crm-acme"
    assert (bodies["1"]["productIds"], "productIds" in bodies["2"]) == ([mobile], False)
    assert bodies["4"]["additionalContext"] == "Said at no company"
    assert not {"accountId", "accountExternalId"} & {*bodies["3"], *bodies["4"]}
    assert "an account would be created" in shown.stderr
    assert len(sandbox.accounts) == 1

    assert operator.run_once()["signals"]["processed"] == 4
    found = of(sandbox)
    assert {name: one["accountExternalId"] for name, one in found.items()}["1"] == "crm-acme"
    [beta] = sandbox.accounts.find({"domain": "beta.test"})
    assert found["3"]["accountIds"] == [beta["id"]]
    assert found["4"]["accountIds"] == []

    looks = sandbox.calls.count("GET", "/accounts")
    operator.drop("november.csv", "id,comment,company\n5,Again.,beta.test\n")
    operator.run_once()
    assert of(sandbox)["5"]["accountIds"] == [beta["id"]]
    assert (sandbox.calls.count("GET", "/accounts"), sandbox.calls.count("POST", "/accounts")) == (looks, 1)


def test_a_key_without_scopes_is_told_of_and_posts_all_the_same(operator: Operator, sandbox: Sandbox) -> None:
    """Nobody has to widen a key to deliver; whoever wants the accounts reads which scope it is."""
    sandbox.faults = Faults(scopes=tuple(scope for scope in SCOPES if scope.startswith("signals")))
    checked = operator.syncd("check")
    assert checked.returncode == 1
    assert "accounts:read" in checked.stdout + checked.stderr
    assert "products:read" in checked.stdout + checked.stderr
    done = operator.syncd("run-once", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["signals"]["processed"] == 4
    assert done.stderr.count("accounts and products are left out") == 2
    assert len(sandbox.accounts) == 0


def test_records_wait_until_their_account_is_there(operator: Operator, sandbox: Sandbox) -> None:
    """Evidence of a customer whom sales enters later hangs on that customer, and nothing else waits for it."""
    config = operator.folder / "config.yaml"
    config.write_text(config.read_text().replace("on_missing: create", "on_missing: hold"), encoding="utf-8")
    sandbox.accounts.create({"name": "Beta", "domain": "beta.test", "externalId": "crm-beta"})
    shown = operator.syncd("run-once", "--dry-run")
    assert "2 records are held until Zentrik has the account: domain acme.test (2)" in " ".join(shown.stdout.split())
    assert "Dark mode" not in shown.stdout

    first = operator.syncd("run-once", "--json")
    assert first.returncode == 1, first.stderr
    figures = json.loads(first.stdout)["signals"]
    assert (figures["processed"], figures["queued"]) == (2, 2)
    assert of(sandbox).keys() == {"3", "4"}
    assert operator.connector("survey")["held"] == 2
    assert "2 held for an account" in " ".join(operator.syncd("status").stdout.split())
    told = json.loads(operator.syncd("show", "csv:survey:1", "--json").stdout)
    assert told["waitsFor"].startswith(
        "Queued; held until Zentrik has an account for domain acme.test; asked again at "
    )
    again = operator.syncd("run-once", "--dry-run")
    assert "2 records are held" in " ".join(again.stdout.split())

    sandbox.accounts.create({"name": "Acme", "domain": "acme.test", "externalId": "crm-acme"})
    an_hour_later(operator)
    assert operator.run_once()["signals"]["processed"] == 2
    assert {of(sandbox)[name]["accountExternalId"] for name in ("1", "2")} == {"crm-acme"}
    assert len(of(sandbox)) == 4
    assert "held" not in operator.connector("survey")


def an_hour_later(operator: Operator) -> None:
    """What was asked for was asked for an hour earlier."""
    with closing(sqlite3.connect(operator.folder / "syncd.db")) as db, db:
        hour = 3600 * 10**6
        db.execute("UPDATE holds SET due_at = due_at - ?", [hour])
        db.execute("UPDATE lookups SET looked_at = looked_at - ?", [hour])


def test_a_template_that_cannot_work_is_found_before_anything_runs(operator: Operator) -> None:
    """A misspelt name in a template is told with its line, and nothing is read."""
    config = operator.folder / "config.yaml"
    config.write_text(config.read_text().replace("record.text", "record.txt"), encoding="utf-8")
    refused = operator.syncd("run-once")
    line = next(n for n, text in enumerate(config.read_text().splitlines(), 1) if "record.txt" in text)
    assert refused.returncode == 2
    assert f"config.yaml:{line}" in refused.stderr
    assert "record has no 'txt'" in refused.stderr
