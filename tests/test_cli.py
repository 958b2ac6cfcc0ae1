"""The commands, as far as they can be looked at within this process; tests/stories runs them as processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from syncd.cli import cli
from syncd.sandbox import Faults, Sandbox

CONFIG = """
ledger: sqlite:///{folder}/syncd.db
zentrik: {{poll_interval: 100ms, ready_timeout: 1s}}
connectors:
  survey: {{type: csv, path: {folder}/inbox, id: "{{{{ row.id }}}}", text: "{{{{ row.comment }}}}", settle: 0s}}
  notes: {{type: csv, path: {folder}/notes, every: 1d, settle: 0s}}
"""


class Terminal:
    """Runs commands in a folder with a configuration, against a sandbox."""

    def __init__(self, folder: Path, api_base: str) -> None:
        self.folder = folder
        self.environment = {"ZENTRIK_API_BASE": api_base, "ZENTRIK_API_KEY": "sandbox-key"}
        for name in ("inbox", "notes"):
            (folder / name).mkdir()
        (folder / "inbox" / "nps.csv").write_text("id,comment\n1,Too slow.\n2,\n3,Fine.\n", encoding="utf-8")
        (folder / "config.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        """Run a command that is to end with that exit code."""
        config = str(self.folder / "config.yaml")
        self.environment.setdefault("COLUMNS", "80")
        result = CliRunner().invoke(cli, ["--config", config, *arguments], env=self.environment)
        assert result.exit_code == code, (result.output, result.exception)
        assert "Traceback" not in result.output
        return result

    def lines(self, *arguments: str, code: int = 0) -> list[dict[str, object]]:
        """The JSON lines a command prints."""
        return [json.loads(line) for line in self(*arguments, "--json", code=code).stdout.splitlines()]


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(processing_takes=timedelta(milliseconds=100))


@pytest.fixture
def terminal(tmp_path: Path, sandbox: Sandbox) -> Iterator[Terminal]:
    with sandbox.in_thread() as api_base:
        yield Terminal(tmp_path, api_base)
    structlog.reset_defaults()


class TestRunOnce:
    def test_the_closing_table_shows_what_was_read_and_what_became_of_it(self, terminal: Terminal) -> None:
        """An operator sees in one screen what was fetched, what was skipped and why, and where the signals stand."""
        output = terminal("run-once").stdout
        assert "2 processed" in output
        assert "nps.csv:3" in output

    def test_only_the_connectors_named_are_read(self, terminal: Terminal) -> None:
        """`run-once NAME` leaves the other connectors alone."""
        [figures] = terminal.lines("run-once", "notes")
        assert figures["connectors"].keys() == {"notes"}  # type: ignore[attr-defined]

    def test_a_name_that_is_not_configured_is_refused(self, terminal: Terminal) -> None:
        """A mistyped name is told, with the names there are."""
        assert "survey, notes" in terminal("run-once", "surveys", code=2).stderr

    def test_no_wait_ends_before_the_outcomes_and_the_next_run_gets_them(self, terminal: Terminal) -> None:
        """`--no-wait` posts and goes; nothing is forgotten for it."""
        [figures] = terminal.lines("run-once", "--no-wait")
        assert figures["signals"]["processing"] == 2  # type: ignore[index]
        [figures] = terminal.lines("run-once")
        assert (figures["posted"], figures["signals"]["processed"]) == (0, 2)  # type: ignore[index]

    def test_waiting_ends_when_the_wait_is_over(self, tmp_path: Path) -> None:
        """`--wait 0.3` does not hang on a slow Zentrik; what is still processing is no failure."""
        with Sandbox(processing_takes=timedelta(hours=1)).in_thread() as api_base:
            [figures] = Terminal(tmp_path, api_base).lines("run-once", "--wait", "0.3")
        assert figures["signals"]["processing"] == 2  # type: ignore[index]
        structlog.reset_defaults()

    def test_a_dry_run_prints_the_bodies_and_leaves_no_trace(self, terminal: Terminal, sandbox: Sandbox) -> None:
        """`--dry-run --json` shows body for body what would be sent; nothing is sent and no ledger appears."""
        shown = terminal.lines("run-once", "--dry-run")
        assert [line["externalId"] for line in shown] == ["csv:survey:1", "csv:survey:3"]
        assert shown[0].keys() == {"connector", "externalId", "body"}
        assert not (terminal.folder / "syncd.db").exists()
        assert len(sandbox.books) == 0
        terminal("run-once", "--no-wait")
        sent = {sandbox.books.get(f"SIGNAL-{n}")["externalId"] for n in (1, 2)}
        assert sent == {"csv:survey:1", "csv:survey:3"}
        assert terminal.lines("run-once", "--dry-run") == []

    def test_limit_sends_a_small_batch_first(self, terminal: Terminal) -> None:
        """`--limit 1` takes one record, and the rest come with the next run."""
        [figures] = terminal.lines("run-once", "--limit", "1", "--no-wait")
        assert figures["posted"] == 1
        [figures] = terminal.lines("run-once", "--no-wait")
        assert figures["posted"] == 1

    def test_a_window_in_words_that_are_no_date_is_refused(self, terminal: Terminal) -> None:
        """A mistyped date is told before anything is read."""
        assert "write for example 2026-01-31" in terminal("run-once", "--since", "last week", code=2).stderr
        assert "before" in terminal("run-once", "--since", "2026-02-01", "--until", "2026-01-01", code=2).stderr

    def test_slices_that_make_no_sense_are_refused(self, terminal: Terminal) -> None:
        """A window without a beginning has nothing to count slices from, and slices of minutes are a slip."""
        assert "--slice needs --since" in terminal("run-once", "--slice", "7d", code=2).stderr
        window = ("run-once", "--since", "2026-01-01", "--slice")
        assert "an hour or more" in terminal(*window, "5m", code=2).stderr
        assert "write for example 30s, 10m, 2h or 7d" in terminal(*window, "weekly", code=2).stderr

    def test_a_source_read_in_one_piece_says_what_slice_does(self, terminal: Terminal, sandbox: Sandbox) -> None:
        """An option without effect is not taken in silence; the window is read all the same, and nobody is asked."""
        done = terminal("run-once", "--since", "2020-01-01", "--slice", "7d", "--no-wait")
        assert "a csv source is read in one piece; --slice does nothing for it" in done.stderr
        assert len(sandbox.books) == 2

    def test_a_key_that_is_refused_midway_is_told_with_what_was_done(
        self, terminal: Terminal, sandbox: Sandbox
    ) -> None:
        """A script gets the figures even of a run that Zentrik put an end to, and the exit code that says so."""
        sandbox.faults = Faults(scopes=("signals:read",))
        [figures] = terminal.lines("run-once", code=3)
        assert figures["connectors"]["survey"]["new"] == 2  # type: ignore[index]
        assert figures["signals"]["queued"] == 2  # type: ignore[index]

    def test_a_connector_that_stops_makes_the_exit_code_one(self, terminal: Terminal) -> None:
        """A script notices that one source could not be read, though the other was delivered."""
        (terminal.folder / "notes").rmdir()
        [figures] = terminal.lines("run-once", code=1)
        connectors = figures["connectors"]
        assert connectors["notes"]["error"]["message"]  # type: ignore[index]
        assert connectors["survey"]["error"] is None  # type: ignore[index]
        assert figures["signals"]["processed"] == 2  # type: ignore[index]


class TestLooking:
    def test_status_shows_each_connector_before_and_after_it_ran(self, terminal: Terminal) -> None:
        """One look tells what is configured, how it went, and when it goes on."""
        [before] = terminal.lines("status")
        assert before["connectors"]["survey"]["state"] == "new"  # type: ignore[index]
        terminal("run-once", "survey")
        [after] = terminal.lines("status")
        survey = after["connectors"]["survey"]  # type: ignore[index]
        assert (survey["state"], survey["signals"]["processed"], survey["skipped"]) == ("ok", 2, 1)
        assert datetime.fromisoformat(survey["nextRun"]) > datetime.now(UTC)
        assert "survey" in terminal("status").stdout

    def test_a_dry_runs_figures_add_up(self, terminal: Terminal) -> None:
        """Nobody's first look at syncd ends with a complaint about its own sums."""
        shown = terminal("run-once", "--dry-run").stdout
        assert "nothing was sent, nothing stored" in shown
        assert "do not add up" not in shown

    def test_a_connector_is_paused_and_resumed(self, terminal: Terminal) -> None:
        """While somebody mends a source it is left alone, and `status` says so; the others are read as ever."""
        assert "survey is paused" in terminal("pause", "survey").stdout
        [figures] = terminal.lines("run-once", "--no-wait")
        assert figures["connectors"].keys() == {"notes"}  # type: ignore[attr-defined]
        [shown] = terminal.lines("status")
        survey = shown["connectors"]["survey"]  # type: ignore[index]
        assert (survey["state"], survey["nextRun"]) == ("paused", None)
        assert "survey is read again" in terminal("resume", "survey").stdout
        [figures] = terminal.lines("run-once", "--no-wait")
        assert figures["connectors"].keys() == {"notes", "survey"}  # type: ignore[attr-defined]
        assert "there is no connector" in terminal("pause", "nobody", code=2).stderr

    def test_signals_can_be_narrowed_down(self, terminal: Terminal) -> None:
        """Of a large ledger an operator sees just what they ask for."""
        terminal("run-once", "--no-wait")
        assert len(terminal.lines("signals", "--state", "processing")) == 2
        assert terminal.lines("signals", "--state", "failed") == []
        assert terminal.lines("signals", "--connector", "notes") == []
        assert "csv:survey:1" in terminal("signals").stdout
        assert "queued" in terminal("signals", "--state", "lost", code=2).stderr

    def test_show_tells_the_story_of_one_signal(self, terminal: Terminal) -> None:
        """Everything known of a record is on one page, by either of its names."""
        terminal("run-once")
        assert "nps.csv:2" in terminal("show", "csv:survey:1").stdout
        assert "nps.csv" in terminal("show", "SIGNAL-1").stdout
        assert "knows no signal" in terminal("show", "csv:survey:99", code=1).stderr

    def test_skipped_lists_what_to_mend(self, terminal: Terminal) -> None:
        """Each row that could not be used is listed with its place and its reason, until it is mended."""
        terminal("run-once", "--no-wait")
        [row] = terminal.lines("skipped")
        assert (row["place"], row["connector"]) == ("nps.csv:3", "survey")
        assert "text" in str(row["reason"])
        assert "nps.csv:3" in terminal("skipped").stdout

    @pytest.mark.parametrize("command", [["status"], ["signals"], ["skipped"]])
    def test_looking_at_a_ledger_that_is_not_there_makes_none(self, terminal: Terminal, command: list[str]) -> None:
        """Looking changes nothing: no ledger appears because somebody asked for one."""
        terminal(*command)
        terminal(*command, "--json")
        assert not (terminal.folder / "syncd.db").exists()


class TestCheck:
    def test_what_is_well_is_said(self, terminal: Terminal) -> None:
        """A new operator sees that sources and key are right before anything is sent."""
        output = terminal("check").stdout
        assert output.count("✓") == 3

    def test_what_is_wrong_is_said_with_its_exit_code(self, terminal: Terminal, sandbox: Sandbox) -> None:
        """A missing folder, a wrong key and a Zentrik that is not ready are told apart."""
        (terminal.folder / "notes").rmdir()
        assert "✗  notes" in terminal("check", code=1).stdout
        sandbox.faults = Faults(ready=False)
        assert "not ready" in terminal("check", code=3).stdout
        sandbox.faults = Faults()
        terminal.environment["ZENTRIK_API_KEY"] = "mistyped"
        assert "refused the API key" in terminal("check", code=3).stdout

    def test_a_changed_namespace_is_warned_of(self, terminal: Terminal) -> None:
        """Renaming a namespace would post everything again; `check` says so while nothing has happened."""
        terminal("run-once", "--no-wait")
        config = terminal.folder / "config.yaml"
        config.write_text(config.read_text().replace("type: csv, path", "type: csv, namespace: new, path", 1))
        assert "To keep them: namespace: csv:survey" in " ".join(terminal("check", code=1).stdout.split())


class TestRetryAndReconcile:
    def test_retry_says_what_it_left_alone(self, terminal: Terminal) -> None:
        """A signal that is delivered, or not known, is not tried again, and the operator is told."""
        terminal("run-once")
        result = terminal("retry", "csv:survey:1", "csv:survey:99", code=1)
        assert "it is processed" in result.stderr
        assert "knows no such signal" in result.stderr

    def test_reconcile_settles_lost_answers_at_once(self, terminal: Terminal, sandbox: Sandbox) -> None:
        """An operator need not wait for the next run to know whether Zentrik has a record."""
        sandbox.faults = Faults(next_posts=("cut_after", "cut_before"))
        terminal("run-once", "--wait", "0.1", code=1)
        assert terminal("reconcile").stdout.startswith("found at Zentrik: 1; not there, queued again: 1")


class TestWithoutLedger:
    def test_init_writes_a_configuration_that_loads_and_never_overwrites(self, tmp_path: Path) -> None:
        """A new operator starts from a working file, and never loses one."""
        path = tmp_path / "config.yaml"
        assert CliRunner().invoke(cli, ["init", str(path)]).exit_code == 0
        (tmp_path / "inbox").mkdir()
        told = CliRunner().invoke(cli, ["init", str(path)])
        assert told.exit_code == 2
        assert "is there already" in told.output
        status = CliRunner().invoke(cli, ["--config", str(path), "status"], env={"ZENTRIK_API_KEY": "k" * 20})
        assert status.exit_code == 0, status.output
        structlog.reset_defaults()

    def test_connectors_lists_types_and_their_settings(self) -> None:
        """What can be configured can be read off the command line."""
        assert "csv" in CliRunner().invoke(cli, ["connectors"]).output
        settings = CliRunner().invoke(cli, ["connectors", "csv"]).output
        assert "settle" in settings
        assert "2s" in settings
        unknown = CliRunner().invoke(cli, ["connectors", "cvs"])
        assert unknown.exit_code == 2
        assert "csv" in unknown.output

    def test_a_missing_configuration_says_how_to_make_one(self, tmp_path: Path) -> None:
        """The first command a newcomer types in the wrong folder tells them what to do."""
        told = CliRunner().invoke(cli, ["--config", str(tmp_path / "config.yaml"), "status"])
        assert told.exit_code == 2
        assert "syncd init" in told.output

    def test_help_imports_nothing_heavy(self) -> None:
        """`syncd --help` answers at once: no database, no HTTP, no templates are loaded for it."""
        heavy = "sqlalchemy, httpx, pydantic, jinja2, rich, apscheduler, structlog, alembic, starlette"
        program = f"""
import sys
from click.testing import CliRunner
from syncd.cli import cli
assert CliRunner().invoke(cli, ["--help"]).exit_code == 0
found = [name for name in {heavy.split(", ")!r} if name in sys.modules]
assert not found, found
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TestEdits:
    """What becomes of a record that changed, as the commands tell it."""

    def test_a_changed_row_replaces_its_signal_and_show_tells_so(self, terminal: Terminal, sandbox: Sandbox) -> None:
        """An operator who edits a row finds one signal with the new text, and its history in `show`."""
        (terminal.folder / "config.yaml").write_text(
            CONFIG.format(folder=terminal.folder).replace("settle: 0s}", "settle: 0s, on_change: replace}", 1)
        )
        terminal("run-once", "survey", "--json")
        (terminal.folder / "inbox" / "nps.csv").write_text("id,comment\n1,Much faster.\n", encoding="utf-8")
        terminal("run-once", "survey", "--json")
        told = json.loads(terminal("show", "csv:survey:1", "--json").stdout)
        assert [each["step"] for each in told["revisions"]] == ["settling"]
        assert "has not changed again for a while" in " ".join(terminal("show", "csv:survey:1").stdout.split())
        settings = terminal.folder / "config.yaml"
        settings.write_text(settings.read_text().replace("replace}", "replace, settle_changes: 0s}"))
        (terminal.folder / "inbox" / "nps.csv").write_text("id,comment\n1,Fast.\n", encoding="utf-8")
        terminal("run-once", "survey", "--json")
        told = json.loads(terminal("show", "csv:survey:1", "--json").stdout)
        assert (told["state"], told["revisions"]) == ("processed", [])
        assert told["history"][-1]["event"] == "replaced"
        [there] = sandbox.books.with_external_id("csv:survey:1")
        assert sandbox.books.text(there["publicId"]) == "Fast."

    def test_allow_deletes_names_whom_it_is_for(self, terminal: Terminal) -> None:
        """No slip of the pen lets every connector delete without its guard."""
        assert "NAMES" in terminal("run-once", "--allow-deletes", code=2).stderr
