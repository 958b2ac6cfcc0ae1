"""An operator asks what became of a record, which source is worth it, and keeps one within its bounds."""

from __future__ import annotations

import json
import re

import pytest

from syncd.sandbox import Sandbox
from tests.stories.conftest import Operator

ROWS = "id,comment,link\n" + "".join(
    f"{number},The export takes too long.,https://acme.example/t/{number}\n" for number in range(1, 6)
)


@pytest.fixture
def mapped(operator: Operator) -> Operator:
    """An operator whose rows carry the way to their original."""
    config = operator.folder / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8") + '    url: "{{ row.link }}"\n', encoding="utf-8")
    return operator


def budget(operator: Operator, text: str) -> None:
    """Set the budget of the survey."""
    config = operator.folder / "config.yaml"
    before = re.sub(r"\n    budget: .*", "", config.read_text(encoding="utf-8")).rstrip()
    config.write_text(f"{before}\n    budget: {text}\n", encoding="utf-8")


def test_a_signal_is_found_by_any_of_its_names(mapped: Operator) -> None:
    """From the record's address to its insights, and from an insight back to its record: one page both ways."""
    mapped.drop("october.csv", ROWS)
    mapped.run_once()
    with_insights = next(row for row in mapped.signals() if row["insightIds"])
    names = [with_insights[name] for name in ("externalId", "publicId", "sourceUrl")] + with_insights["insightIds"]
    shown = [json.loads(mapped.syncd("show", name, "--json").stdout) for name in names]
    assert all(each == shown[0] for each in shown)
    assert (
        shown[0]["origin"].items() >= {"run": 1, "command": "run-once", "page": 1, "settingsAreCurrent": True}.items()
    )
    assert shown[0]["waitsFor"].startswith("Nothing: Zentrik processed it")
    assert shown[0]["characters"] == len("The export takes too long.")

    page = mapped.syncd("show", with_insights["insightIds"][0]).stdout
    assert "run 1, `syncd run-once` of" in page
    assert "as they are now" in page
    assert "Nothing: Zentrik processed it" in page


def test_a_name_of_several_lists_them_and_one_of_none_says_what_can_be_given(mapped: Operator) -> None:
    """Nobody is shown one of two by chance, and a name that is wrong steers no terminal."""
    mapped.drop("october.csv", "id,comment,link\n1,Slow.,https://acme.example/t/\n2,Fast.,https://acme.example/t\n")
    mapped.run_once()
    several = mapped.syncd("show", "https://acme.example/t#x")
    assert several.returncode == 1
    assert all(f"csv:survey:{number}" in several.stdout for number in (1, 2))
    assert "2 signals go by https://acme.example/t#x" in several.stderr
    listed = json.loads(mapped.syncd("show", "https://acme.example/t#x", "--json").stdout)
    assert [row["externalId"] for row in listed["signals"]] == ["csv:survey:2", "csv:survey:1"]

    missing = mapped.syncd("show", "\x1b[2Jnone")
    assert missing.returncode == 1
    assert "\x1b" not in missing.stderr
    for word in ("externalId", "SIGNAL-n", "original", "insight"):
        assert word in missing.stderr


def test_the_worth_of_each_source(mapped: Operator) -> None:
    """An operator sees which source gives the most insights for each signal, as a table and as JSON."""
    assert json.loads(mapped.syncd("status", "--by", "type", "--json").stdout) == {"by": "type", "groups": []}
    mapped.drop("october.csv", ROWS)
    mapped.run_once()
    told = json.loads(mapped.syncd("status", "--by", "connector", "--json").stdout)
    [group] = told["groups"]
    insights = sum(len(row["insightIds"]) for row in mapped.signals())
    assert (told["by"], group["name"], group["total"], group["insights"]) == ("connector", "survey", 5, insights)
    assert (group["processedShare"], group["insightsPerSignal"]) == (1.0, insights / 5)
    assert 0 < group["medianSeconds"] < 30
    assert "survey" in mapped.syncd("status", "--by", "connector").stdout
    assert "feedback_record" in mapped.syncd("status", "--by", "type").stdout


def test_what_is_over_the_budget_waits_and_is_told(operator: Operator, sandbox: Sandbox) -> None:
    """A source is kept within its day; what is over it is in the ledger, said in one line, and goes when it may."""
    budget(operator, "{signals: 3}")
    operator.drop("october.csv", ROWS)
    done = operator.syncd("run-once")
    assert done.returncode == 1
    assert "survey: the day's budget is spent (3 of 3 signals); 2 signals wait until" in done.stdout
    assert "the day's budget is spent; what is over it waits" in done.stderr
    assert len(sandbox.books) == 3

    again = operator.syncd("run-once", "--json")
    figures = json.loads(again.stdout)
    assert (again.returncode, figures["posted"], figures["left"]) == (1, 0, 2)
    assert figures["waits"].keys() == {"survey"}
    assert "the day's budget is spent" not in again.stderr

    assert "2 signals wait until" in operator.syncd("status").stdout
    assert operator.connector("survey")["budget"]["signals"] == {"spent": 3, "limit": 3}
    [waiting, _] = [row for row in operator.signals() if row["state"] == "queued"]
    told = json.loads(operator.syncd("show", waiting["externalId"], "--json").stdout)
    assert "because the day's budget of survey is spent (3 of 3 signals)." in told["waitsFor"]

    budget(operator, "{signals: 100, characters: 2000000}")
    assert operator.run_once()["posted"] == 2
    assert len(sandbox.books) == 5


def test_a_budget_of_nothing_is_refused(operator: Operator) -> None:
    """A budget without a limit, or of no signals at all, is a mistake, and said with its line."""
    budget(operator, "{}")
    assert "limits nothing; write for example {signals: 500}" in operator.syncd("check").stderr
    budget(operator, "{signals: 0}")
    assert "must be 1 or more" in operator.syncd("check").stderr
