"""`syncd demo`, the first thing a newcomer runs."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from syncd.ledger import State, report
from syncd.records import KINDS
from tests.stories.conftest import Operator


def test_the_demo_shows_every_signal_type_to_its_outcome_within_twenty_seconds(tmp_path: Path) -> None:
    """Whoever tries syncd sees the whole of it at once, with no key, and is told what to do next."""
    newcomer = Operator(tmp_path, api_base="http://127.0.0.1:1/api", key="")
    began = time.monotonic()
    shown = newcomer.syncd("demo", "--keep", str(tmp_path / "demo"))
    assert time.monotonic() - began < 20
    assert shown.returncode == 0, shown.stderr
    assert "now 14 processed" in shown.stdout
    assert "SIGNAL-14" in shown.stdout
    assert "syncd init" in shown.stdout
    assert "2026-10-32" in shown.stdout  # a row that cannot be used is told with its reason
    assert shown.stderr == ""

    with closing(Operator(tmp_path / "demo", "").ledger()) as ledger, ledger.read() as db:
        rows = list(report.find(db))
    assert {row.signal_type for row in rows} == set(KINDS)
    assert {row.state for row in rows} == {State.PROCESSED}

    around = newcomer.syncd("--config", str(tmp_path / "demo" / "config.yaml"), "status")
    assert around.returncode == 0, around.stderr
    assert "4 processed" in around.stdout


def test_the_demo_overwrites_nothing(tmp_path: Path) -> None:
    """A folder that holds something is left as it is."""
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    refused = Operator(tmp_path, api_base="").syncd("demo", "--keep", str(tmp_path))
    assert refused.returncode == 2
    assert "not empty" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
