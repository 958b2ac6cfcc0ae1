"""Opening the ledger's database, on SQLite and on PostgreSQL, and what is said when that does not work."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import syncd.ledger.database as module
from syncd.errors import LedgerError, LedgerUnusable
from syncd.ledger import Database
from syncd.ledger.database import SCHEMA
from syncd.ledger.tables import metadata, runs

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

OPEN = """
import sys
from syncd.errors import LedgerError
from syncd.ledger import Database
{before}
try:
    Database(sys.argv[1]).close()
    print("open")
except LedgerError as error:
    print(error.exit_code, error)
"""


AS_NOBODY = """
import os, tempfile
with tempfile.TemporaryDirectory() as folder:
    Database(f"sqlite:///{folder}/ledger.db").close()  # so that all is imported while it can be
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
"""


def opening(url: str, before: str = "") -> subprocess.Popen[str]:
    """Another process that opens this ledger, and says how that went."""
    return subprocess.Popen(
        [sys.executable, "-c", OPEN.format(before=before), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def address(path: Path) -> str:
    return f"sqlite:///{path}"


def rows(database: Database) -> int:
    """How many runs the ledger knows."""
    with database.read() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(runs)) or 0


def add_runs(database: Database, *commands: str | None) -> None:
    """Note these runs, in one step."""
    with database.write() as db:
        for command in commands:
            db.execute(sa.insert(runs).values(command=command, started_at=NOW))


@pytest.fixture
def database(ledger_url: str) -> Iterator[Database]:
    opened = Database(ledger_url)
    yield opened
    opened.close()


@pytest.fixture
def bare(ledger_url: str) -> Iterator[sa.Engine]:
    """The same place without syncd."""
    engine = sa.create_engine(ledger_url)
    yield engine
    engine.dispose()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A SQLite ledger with one run in it, closed."""
    database = Database(address(tmp_path / "ledger.db"))
    add_runs(database, "test")
    database.close()
    return tmp_path / "ledger.db"


class TestMigrations:
    def test_the_code_knows_the_newest_one(self) -> None:
        """A release cannot go out that refuses the ledgers it makes itself."""
        config = Config()
        config.set_main_option("script_location", str(ROOT / "syncd/ledger/migrations"))
        assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]

    def test_they_make_exactly_the_tables_of_the_code(self, database: Database) -> None:
        """No statement of the code meets a ledger without the column or the index it counts on."""
        with database.engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, metadata) == []

    def test_what_the_comparison_cannot_see_is_the_same_too(self, database: Database) -> None:
        """The index on what is due stays small, and a deleted signal takes its body and history along."""
        inspector = sa.inspect(database.engine)
        [due] = [index for index in inspector.get_indexes("signals") if index["name"] == "signals_due"]
        [condition] = [value for key, value in due["dialect_options"].items() if key.endswith("_where")]
        assert "due_at IS NOT NULL" in str(condition)
        for table in ("bodies", "events"):
            [key] = inspector.get_foreign_keys(table)
            assert key["options"] == {"ondelete": "CASCADE"}


class TestOpening:
    def test_a_ledger_is_opened_again_as_it_was_left(self, ledger_url: str) -> None:
        """Every start finds what earlier ones stored, and migrates nothing a second time."""
        for number in range(3):
            database = Database(ledger_url)
            assert rows(database) == number
            add_runs(database, "test")
            with database.read() as db:
                assert db.scalars(sa.text("SELECT version_num FROM alembic_version")).all() == [SCHEMA]
            database.close()

    def test_looking_for_a_ledger_makes_none(self, ledger_url: str, bare: sa.Engine, tmp_path: Path) -> None:
        """`syncd status` and a dry run before the first run leave no trace."""
        assert Database.open_existing(ledger_url) is None
        assert not (tmp_path / "ledger.db").exists()
        assert sa.inspect(bare).get_table_names() == []
        assert Database.open_existing(ledger_url) is None, "an empty database, or file, is no ledger either"
        Database(ledger_url).close()
        found = Database.open_existing(ledger_url)
        assert found is not None
        assert rows(found) == 0
        found.close()

    def test_two_processes_may_open_a_new_one_at_once(self, ledger_url: str) -> None:
        """Two services that start together on a fresh ledger both start: neither trips over the other's tables."""
        opened = [opening(ledger_url, before="print('ready', flush=True); sys.stdin.readline()") for _ in range(3)]
        for process in opened:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in opened:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate(timeout=30)[0] for process in opened] == ["open\n"] * 3

    def test_the_file_and_its_log_are_for_the_owner_alone(self, tmp_path: Path) -> None:
        """Other users of the machine cannot read what customers said."""
        before = os.umask(0)
        try:
            database = Database(address(tmp_path / "ledger.db"))
            add_runs(database, "test")
        finally:
            os.umask(before)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        database.close()
        assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}

    def test_a_commit_survives_a_power_cut(self, tmp_path: Path) -> None:
        """What was stored before a POST is on the disk before the POST, as far as the disk keeps its word."""
        database = Database(address(tmp_path / "ledger.db"))
        for connection in (database.read(), database.write()):
            with connection as db:
                told = [
                    db.scalar(sa.text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
                ]
                assert told == ["wal", 2, 1]
        database.close()


class TestRefusals:
    def test_a_newer_schema_is_refused_and_left_alone(self, ledger_url: str, bare: sa.Engine, tmp_path: Path) -> None:
        """After a downgrade the old code says so, instead of writing into tables it does not know."""
        Database(ledger_url).close()
        with bare.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        before = kept(bare, tmp_path)
        with pytest.raises(LedgerUnusable, match=f"newer syncd .schema 9999; this one knows up to {SCHEMA}") as refused:
            Database(ledger_url)
        assert "Upgrade syncd" in str(refused.value)
        assert refused.value.exit_code == 2
        assert kept(bare, tmp_path) == before

    def test_somebody_elses_database_is_refused_and_left_alone(
        self, ledger_url: str, bare: sa.Engine, tmp_path: Path
    ) -> None:
        """A wrong address in the configuration costs nobody their data, nor so much as a setting of their file."""
        with bare.begin() as connection:
            connection.execute(sa.text("CREATE TABLE notes (id INTEGER, alembic_version TEXT)"))
        before = kept(bare, tmp_path)
        with pytest.raises(LedgerUnusable, match=r"holds something else .* Name another one") as refused:
            Database(ledger_url)
        assert refused.value.exit_code == 2
        assert kept(bare, tmp_path) == before

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        """A `ledger:` that names the wrong file is answered with the file's name, and the file is kept."""
        letter = tmp_path / "letter.txt"
        letter.write_text("Dear customer, " * 500, encoding="utf-8")
        before = letter.read_bytes()
        with pytest.raises(LedgerUnusable, match=r"not a database\. It is damaged, or not a syncd ledger") as refused:
            Database(address(letter))
        assert str(letter) in str(refused.value)
        assert letter.read_bytes() == before

    def test_a_torn_file(self, file: Path) -> None:
        """A ledger that lost its end, to a full disk or a bad copy, is not taken for a fresh one."""
        file.write_bytes(file.read_bytes()[:5000])
        with pytest.raises(LedgerUnusable, match="restore it from a copy"):
            Database(address(file))

    @pytest.mark.parametrize("path", ["folder", "missing/ledger.db", "letter.txt/ledger.db"])
    def test_a_path_that_can_be_no_file(self, tmp_path: Path, path: str) -> None:
        """A folder that was not made yet, or named in place of a file, is named with what to do."""
        (tmp_path / "folder").mkdir()
        (tmp_path / "letter.txt").touch()
        with pytest.raises(LedgerUnusable, match="path that this user may write, or make the folder") as refused:
            Database(address(tmp_path / path))
        assert str(tmp_path / path) in str(refused.value)
        assert not (tmp_path / "missing").exists()

    @pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o755, 0o444), (0o555, 0o666)])
    def test_what_this_user_may_not_write(self, file: Path, folder_mode: int, file_mode: int) -> None:
        """A service under the wrong user says so at the start, and not after reading for an hour."""
        folder = Path(tempfile.mkdtemp())  # not in tmp_path, which other users cannot even look into
        try:
            shutil.copy(file, folder / "ledger.db")
            (folder / "ledger.db").chmod(file_mode)
            folder.chmod(folder_mode)
            said, _ = opening(address(folder / "ledger.db"), before=AS_NOBODY).communicate(timeout=30)
        finally:
            folder.chmod(0o755)
            shutil.rmtree(folder)
        assert said.startswith("2 ledger ")
        assert "ritable for this user" in said or "a path that this user may write" in said

    def test_a_server_that_is_not_there(self) -> None:
        """A database that is down is named without its password."""
        with pytest.raises(LedgerUnusable) as refused:
            Database("postgresql+psycopg://syncd:hunter2@127.0.0.1:1/ledger")
        assert "See that the database is up" in str(refused.value)
        assert "127.0.0.1:1/ledger" in str(refused.value)
        assert "hunter2" not in str(refused.value)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("url", ["mysql://host/db", "nonsense://host/db", "ledger.db"])
    def test_an_address_nobody_can_use(self, url: str) -> None:
        """An unknown kind of database is answered with the two that can be used."""
        with pytest.raises(LedgerUnusable, match=r"Write sqlite:///syncd\.db, or postgresql\+psycopg://"):
            Database(url)


class TestReadingAndWriting:
    def test_a_step_is_stored_whole_or_not_at_all(self, database: Database) -> None:
        """Whatever breaks in the middle of a step leaves the ledger as it was before it."""
        with suppress(ZeroDivisionError), database.write() as db:
            db.execute(sa.insert(runs).values(command="lost", started_at=NOW))
            raise ZeroDivisionError
        assert rows(database) == 0

    def test_what_the_database_refuses_is_told_in_words(self, database: Database) -> None:
        """A defect surfaces as the ledger's own error, which stops the engine, with the assurance that counts."""
        with pytest.raises(LedgerError, match="Nothing of this step was stored") as refused:
            add_runs(database, "first", None)
        assert database.place in str(refused.value)
        assert rows(database) == 0
        with pytest.raises(LedgerError), database.read() as db:
            db.execute(sa.text("SELECT nothing FROM nowhere"))

    def test_a_step_undone_for_anothers_sake_is_done_again(self, database: Database, ledger_url: str) -> None:
        """Two syncds that wait for each other in a ring both get through: the one PostgreSQL undoes begins afresh."""
        if ledger_url.startswith("sqlite"):
            pytest.skip("SQLite lets one write at a time: there is no ring")
        add_runs(database, "one", "other")
        other = Database(ledger_url)
        both_hold_one = Barrier(2)
        began: list[int] = []

        def rename(first: int, second: int, to: str) -> Callable[[sa.Connection], None]:
            def work(db: sa.Connection) -> None:
                began.append(first)
                db.execute(sa.update(runs).where(runs.c.id == first).values(command=runs.c.command + to))
                if began.count(first) == 1:
                    both_hold_one.wait(30)
                db.execute(sa.update(runs).where(runs.c.id == second).values(command=runs.c.command + to))

            return work

        with ThreadPoolExecutor(2) as threads:
            for step in [
                threads.submit(database.change, rename(1, 2, "a")),
                threads.submit(other.change, rename(2, 1, "b")),
            ]:
                step.result(30)
        assert sorted(began) in ([1, 1, 2], [1, 2, 2])
        with database.read() as db:
            assert {frozenset(name[-2:]) for name in db.scalars(sa.select(runs.c.command))} == {frozenset("ab")}
        other.close()

    def test_a_step_that_is_always_undone_is_given_up(self, database: Database, ledger_url: str) -> None:
        """A conflict that never ends is told after a few tries, and any other trouble after the first."""
        tries = 0

        def work(db: sa.Connection) -> None:
            nonlocal tries
            tries += 1
            if ledger_url.startswith("sqlite"):
                db.execute(sa.text("SELECT nothing FROM nowhere"))
            db.execute(sa.text("DO $$ BEGIN RAISE 'again and again' USING ERRCODE = '40001'; END $$"))

        with pytest.raises(LedgerError, match="Nothing of this step was stored"):
            database.change(work)
        assert tries == (1 if ledger_url.startswith("sqlite") else 4)

    def test_a_reader_sees_one_moment_and_holds_nobody_up(self, database: Database, ledger_url: str) -> None:
        """A status page that is read while the daemon writes adds up, and costs the daemon no wait."""
        add_runs(database, "test")
        other = Database(ledger_url)
        with database.read() as db:
            count = sa.select(sa.func.count()).select_from(runs)
            assert db.scalar(count) == 1
            add_runs(other, "test")
            assert db.scalar(count) == 1
        assert rows(database) == 2
        other.close()

    def test_a_full_disk_stores_nothing_by_halves(self, tmp_path: Path) -> None:
        """A disk that fills up stops the engine with what to do, and the next start goes on where this one stood."""
        database = Database(address(tmp_path / "ledger.db"))
        with database.write() as db:
            pages = db.scalar(sa.text("PRAGMA page_count")) or 0
            db.execute(sa.text(f"PRAGMA max_page_count = {pages + 2}"))
        with pytest.raises(LedgerError, match=r"full\. Free some space .* Nothing of this step") as refused:
            add_runs(database, *["x" * 1000] * 100)
        assert refused.value.exit_code == 1
        assert rows(database) == 0
        database.close()
        again = Database(address(tmp_path / "ledger.db"))
        add_runs(again, "test")
        assert rows(again) == 1
        again.close()

    def test_a_disk_without_room_for_a_ledger(self, tmp_path: Path) -> None:
        """A start on a full disk says so, and what it left behind does not stop the next one."""
        full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"
        said, _ = opening(address(tmp_path / "ledger.db"), before=full).communicate(timeout=30)
        assert said.startswith("2 ledger ")
        assert "Free some space" in said
        Database(address(tmp_path / "ledger.db")).close()

    def test_a_ledger_kept_by_somebody_else(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A backup tool that locks the file for too long is named as the cause, and costs nothing."""
        monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
        database = Database(address(file))
        with closing(sqlite3.connect(file)) as greedy:
            greedy.execute("BEGIN IMMEDIATE")
            assert rows(database) == 1, "a reader does not wait for it"
            with pytest.raises(LedgerError, match=r"locked\. Another process has kept it"):
                add_runs(database, "test")
        add_runs(database, "test")
        assert rows(database) == 2
        database.close()


def kept(engine: sa.Engine, folder: Path) -> object:
    """All that a refusal must leave as it was: the file to the byte, or the server's tables and their version."""
    engine.dispose()
    if engine.dialect.name == "sqlite":
        return {path.name: path.read_bytes() for path in folder.iterdir()}
    tables = sa.inspect(engine).get_table_names()
    with engine.connect() as connection:
        versions = "alembic_version" in tables and connection.scalars(sa.text("SELECT * FROM alembic_version")).all()
        return tables, versions
