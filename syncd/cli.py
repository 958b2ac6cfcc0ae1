"""The commands, thin: read what was asked, call, print.

Only what every command needs is imported up here; each command imports its own parts, so that `syncd --help` is quick.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from syncd import __version__
from syncd.errors import ConfigError, DestinationError, LedgerError, SyncdError
from syncd.interrupts import INTERRUPTED, stop_on_signal

if TYPE_CHECKING:
    from rich.console import Console

    from syncd.app import House
    from syncd.config import Config
    from syncd.connector import Source
    from syncd.ledger import Backfill, Database
    from syncd.ledger.report import SignalRow
    from syncd.pull import Span

T = TypeVar("T")


class _Commands(click.Group):
    """Turns the errors syncd has words for into one message and their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SyncdError as error:
            _say(f"syncd: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of the file, which is the order of use."""
        return list(self.commands)


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A date or a date and time; UTC unless it says otherwise."""
    from syncd.dates import UnreadableDate, instant

    try:
        return None if value is None else instant(value)
    except UnreadableDate as error:
        hint = "write for example 2026-01-31 or 2026-01-31T09:00:00Z"
        raise click.BadParameter(f"{value!r} is not a date; {hint}", ctx, param) from error


def _length(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """A span of time of an hour or more."""
    from syncd.fields import duration

    try:
        length = None if value is None else duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error
    if length is not None and length < timedelta(hours=1):
        raise click.BadParameter("a slice lasts an hour or more; write for example 12h or 7d", ctx, param)
    return length


def _address(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A ledger's address, as the configuration takes it."""
    from syncd.settings import ledger_address

    try:
        return ledger_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "path",
    default="config.yaml",
    envvar="SYNCD_CONFIG",
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration (or SYNCD_CONFIG).",
)
@click.option("-v", "--verbose", count=True, help="Log more; twice for everything.")
@click.version_option(__version__, prog_name="syncd")
@click.pass_context
def cli(ctx: click.Context, path: Path, verbose: int) -> None:
    """Pull customer evidence from where it lives, and deliver it to Zentrik, once."""
    ctx.obj = {"path": path, "verbose": verbose}


@cli.command()
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep everything in this folder, to look into."
)
@click.pass_context
def demo(ctx: click.Context, keep: Path | None) -> None:
    """Show the whole of it, with sample data and an imitation of Zentrik. Needs no key."""
    from syncd.demo import run_demo

    _log(ctx, "ERROR")
    ctx.exit(run_demo(_console(), keep))


@cli.command()
@click.argument("path", default="config.yaml", type=click.Path(path_type=Path, dir_okay=False))
def init(path: Path) -> None:
    """Write a commented configuration to PATH (config.yaml)."""
    from syncd.config import example

    try:
        private = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # keys are written into it
        with os.fdopen(private, "w", encoding="utf-8") as file:
            file.write(example())
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; name another path, or move it away") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    click.echo(f"Wrote {path}. Next: set ZENTRIK_API_KEY, look through the file, then run `syncd check`.")


@cli.command()
@click.argument("names", nargs=-1)
@click.pass_context
def check(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Check the configuration, the sources (or only NAMES), and Zentrik's key."""
    from syncd import check as checking
    from syncd import screens

    config = _config(ctx)
    config.zentrik.require_key()
    results, code = _run(checking.check(config, _sources(config, names)))
    _console().print(screens.checks(results))
    ctx.exit(code)


@cli.command("alert-test")
@click.pass_context
def alert_test(ctx: click.Context) -> None:
    """Send one alert by every way that is set up, and say which of them took it."""
    from syncd import alerting, screens

    settings = _config(ctx).alerts
    results = _run(alerting.try_out(settings, datetime.now(UTC)))
    if not results:
        raise ConfigError("no alerts are set up; write alerts.webhook or alerts.email.to in the configuration")
    _console().print(screens.checks(results))
    ctx.exit(0 if all(well for _, well, _ in results) else 1)


@cli.command()
@click.pass_context
def run(ctx: click.Context) -> None:
    """Run for ever: every connector at its times, until a SIGTERM. A SIGHUP has the configuration read again."""
    from syncd.daemon import Daemon
    from syncd.notify import Notify

    notify = Notify.from_environ(os.environ, os.getpid())
    ctx.exit(_run(Daemon(lambda: _config(ctx, level="INFO"), notify).run()))


@cli.command("run-once")
@click.argument("names", nargs=-1)
@click.option(
    "--since", metavar="TIME", callback=_moment, help="Only records from this time on; leaves the checkpoint alone."
)
@click.option(
    "--until", metavar="TIME", callback=_moment, help="Only records before this time; leaves the checkpoint alone."
)
@click.option(
    "--slice",
    "length",
    metavar="SPAN",
    callback=_length,
    help="Read the window in parts so long, where it can be (30d).",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many records from each connector.")
@click.option("--dry-run", is_flag=True, help="Show what would be posted; send nothing, store nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before a long window is read.")
@click.option("--allow-deletes", is_flag=True, help="Delete at Zentrik what NAMES deleted, however much it is.")
@click.option("--no-wait", is_flag=True, help="Do not wait for outcomes.")
@click.option("--wait", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait so long for outcomes (300).")
@click.option("--json", "as_json", is_flag=True, help="Print figures, or bodies, as JSON.")
@click.pass_context
def run_once(
    ctx: click.Context,
    names: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    length: timedelta | None,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    allow_deletes: bool,
    no_wait: bool,
    wait: float | None,
    as_json: bool,
) -> None:
    """Read every connector (or NAMES) once, post what is new, and wait for the outcomes.

    With --since or --until that window of the past is read. Broken off, and asked for again, it goes on where it was.
    """
    from syncd.pull import Span

    if no_wait and wait is not None:
        raise click.UsageError("--no-wait and --wait do not go together")
    if since and until and since >= until:
        raise click.UsageError("--since must come before --until")
    if length and not since:
        raise click.UsageError("--slice needs --since: the slices are counted from there")
    if allow_deletes and not names:
        raise click.UsageError("--allow-deletes wants the NAMES of the connectors it is for")
    config = _config(ctx)
    sources = _sources(config, names)
    span = Span(since, until, limit, length)
    if span.is_look_back:
        _tell_limits(sources, span)
    if dry_run:
        ctx.exit(_run(_dry_run(config, sources, span, as_json)))
    if not (yes or _run(_agreed(config, sources, span))):
        return
    patience = timedelta(0) if no_wait else None if wait is None else timedelta(seconds=wait)
    one_round = _one_round(
        config, sources, span, patience, only=bool(names), as_json=as_json, allow_deletes=allow_deletes
    )
    ctx.exit(_run(one_round))


@cli.command()
@click.option(
    "--by", type=click.Choice(["connector", "type", "account"]), help="What became of the signals of each instead."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def status(ctx: click.Context, by: str | None, as_json: bool) -> None:
    """Show every connector: last and next run, counts by state, lag."""
    from syncd.status import status as status_of

    config = _config(ctx)
    if by is not None:
        _weigh(_ledger(config), by, as_json=as_json)
        return
    now = datetime.now(UTC)
    report = status_of(config, _ledger(config), now)
    if as_json:
        _print_json(report.as_json())
    elif not report.connectors:
        click.echo("No connectors are configured yet; `syncd connectors` lists the types there are.")
    else:
        from syncd import screens

        _console().print(screens.status(now, report))


def _weigh(database: Database | None, name: str, *, as_json: bool) -> None:
    """Show which source is worth its budget."""
    from syncd.ledger.worth import By, worths

    by, found = By(name), []
    if database is not None:
        with database.read() as db:
            found = worths(db, by)
    if as_json:
        _print_json({"by": str(by), "groups": [each.as_json() for each in found]})
    elif not found:
        click.echo("There are no signals yet. `syncd run-once` does one round.")
    else:
        from syncd import screens

        _console().print(screens.worths(by, found))


@cli.command()
@click.option("--state", "states", multiple=True, help="Only in this state; may be given again.")
@click.option("--connector", help="Only of this connector.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many (a table shows 50).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def signals(
    ctx: click.Context, states: tuple[str, ...], connector: str | None, limit: int | None, as_json: bool
) -> None:
    """List the signals in the ledger, newest first."""
    from syncd.ledger import State, report

    known = [str(state) for state in State]
    for state in states:
        if state not in known:
            raise click.BadParameter(f"{state!r} is none of {', '.join(known)}", param_hint="--state")
    database = _ledger(_config(ctx))
    if database is None:
        _nothing_yet(as_json)
        return
    wanted = [State(state) for state in states]
    with database.read() as db:
        if as_json:
            for row in report.find(db, states=wanted, connector=connector, limit=limit):
                _print_json(row.as_json())
            return
        from syncd import screens

        most = limit or 50
        rows = report.find(db, states=wanted, connector=connector, limit=most + 1)
        shown = list(rows)
        console = _console()
        console.print(screens.signals(shown[:most], console.width))
        if len(shown) > most:
            click.echo("... and more; --limit or --json shows them", err=True)


@cli.command()
@click.argument("name", metavar="EXTERNAL_ID|SIGNAL-n|SOURCE_URL|INSIGHT_ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show everything known of one signal: where it came from, each step, and what it waits for.

    It may be named by its externalId, its publicId, the address of its original, or an insight that was drawn from it.
    """
    from syncd.ledger import holds, report, revisions, tracing
    from syncd.waiting import waits_for

    config, now = _config(ctx), datetime.now(UTC)
    database = _ledger(config)
    missing = ConfigError(
        f"the ledger knows no signal {name!r}; name one by its externalId, its SIGNAL-n, the address of its original, "
        "or the id of an insight drawn from it. `syncd signals` lists them"
    )
    missing.exit_code = 1
    if database is None:
        raise missing
    with database.read() as db:
        found = tracing.named(db, name)
        if not found:
            raise missing
        if len(found) > 1:
            _choose_from(name, found, as_json=as_json)
            ctx.exit(1)
        [row] = found
        history, body, origin = report.history(db, row), report.body(db, row), tracing.origin(db, row)
        waits = waits_for(row, *tracing.standing(db, row, config.budgets, now), now, holds.of_signal(db, row.id))
        under_way = revisions.under_way(db, row.id)
    if as_json:
        _print_json(
            {
                **row.as_json(),
                "place": row.place,
                "firstSeenAt": report.iso(row.first_seen_at),
                "acceptedAt": report.iso(row.accepted_at),
                "processingStartedAt": report.iso(row.processing_started_at),
                "settledAt": report.iso(row.settled_at),
                "dueAt": report.iso(row.due_at),
                **({"redacted": row.redacted} if row.redacted else {}),
                "body": json.loads(body) if body else None,
                "history": [
                    {"at": report.iso(event.at), "event": event.event, "detail": event.detail} for event in history
                ],
                "account": origin.account,
                "characters": origin.characters,
                "origin": origin.as_json(),
                "waitsFor": waits,
                "revisions": [
                    {"step": step, "dueAt": report.iso(due_at), "detail": told} for step, due_at, told in under_way
                ],
            }
        )
    else:
        from syncd import screens

        _console().print(screens.signal(row, history, body, now, origin, waits, [told for *_, told in under_way]))


def _choose_from(name: str, found: Sequence[SignalRow], *, as_json: bool) -> None:
    """Several signals go by that name: list them."""
    if as_json:
        _print_json({"signals": [row.as_json() for row in found]})
        return
    from syncd import screens

    console = _console()
    console.print(screens.signals(found, console.width))
    _say(f"{len(found)} signals go by {name}; `syncd show EXTERNAL_ID` shows one of them", err=True)


@cli.command()
@click.option("--connector", help="Only of this connector.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def skipped(ctx: click.Context, connector: str | None, as_json: bool) -> None:
    """List what could not become a signal: where it stands, and why not."""
    from syncd.ledger import report

    database = _ledger(_config(ctx))
    if database is None:
        _nothing_yet(as_json)
        return
    with database.read() as db:
        rows = report.aside(db, connector)
        if as_json:
            for row in rows:
                _print_json(row.as_json())
        else:
            from syncd import screens

            _console().print(screens.skipped(rows, datetime.now(UTC)))


@cli.command()
@click.argument("external_ids", nargs=-1)
@click.option("--state", type=click.Choice(["failed", "rejected"]), help="All in this state.")
@click.option("--connector", help="Only of this connector.")
@click.pass_context
def retry(ctx: click.Context, external_ids: tuple[str, ...], state: str | None, connector: str | None) -> None:
    """Try again: rejected signals are queued anew, failed ones are processed anew by Zentrik.

    Without EXTERNAL_IDS, all that failed or were rejected.
    """
    from syncd.app import open_house
    from syncd.ledger import State

    config = _config(ctx)
    states = [State(state)] if state else [State.FAILED, State.REJECTED] if not external_ids else []

    async def try_again() -> int:
        async with open_house(config, "retry") as house:
            done = await house.rerun(external_ids, states, connector)
        click.echo(f"queued again: {done.queued}; being processed again: {done.processing}")
        for name, why in done.left:
            _say(f"left as it is: {name}: {why}", err=True)
        if done.queued or done.processing:
            click.echo("The daemon goes on with them; without one, `syncd run-once` does.")
        return 1 if done.left else 0

    ctx.exit(_run(try_again()))


@cli.command()
@click.pass_context
def reconcile(ctx: click.Context) -> None:
    """Settle signals whose answer was lost, by looking for them at Zentrik."""
    from syncd.app import open_house

    config = _config(ctx)

    async def settle() -> int:
        async with open_house(config, "reconcile") as house:
            done = await house.reconcile_now()
        click.echo(f"found at Zentrik: {done.found}; not there, queued again: {done.requeued}")
        if done.unsearchable:
            click.echo(f"without an externalId, left unknown: {done.unsearchable} (`syncd signals --state unknown`)")
        if done.trouble:
            _say(f"syncd: not finished: {done.trouble.reason}; run it again", err=True)
        return 1 if done.trouble or done.unsearchable else 0

    ctx.exit(_run(settle()))


@cli.command()
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def pause(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Have connectors not read by themselves, also by a daemon that runs, until `syncd resume`."""
    _pause(ctx, names, is_pause=True)


@cli.command()
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def resume(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Have paused connectors read at their times again."""
    _pause(ctx, names, is_pause=False)


def _pause(ctx: click.Context, names: tuple[str, ...], *, is_pause: bool) -> None:
    from syncd.ledger import Database, Ledger

    config = _config(ctx)
    sources = _sources(config, names)
    book = Ledger(Database(config.ledger))
    try:
        _run(book.pause(sources, datetime.now(UTC) if is_pause else None))
    finally:
        book.close()
    for source in sources:
        click.echo(f"{source.name} is {'paused; what it has read is still delivered' if is_pause else 'read again'}")


@cli.group()
def ledger() -> None:
    """Mend the ledger itself, or move it."""


@ledger.command("rebuild")
@click.option("--from-remote", is_flag=True, help="From what Zentrik has: the only source there is.")
@click.option("--json", "as_json", is_flag=True, help="Print figures as JSON.")
@click.pass_context
def rebuild_ledger(ctx: click.Context, from_remote: bool, as_json: bool) -> None:
    """Reconstruct a lost ledger, so that the next run posts nothing that is at Zentrik already.

    What the ledger still knows stays as it is.
    """
    from syncd import screens
    from syncd.app import open_house

    if not from_remote:
        raise click.UsageError(
            "a lost ledger is rebuilt from what Zentrik has: every signal there is read, and those of the configured "
            "connectors are entered. Stop every other syncd on this ledger, then say `syncd ledger rebuild "
            "--from-remote`."
        )
    config = _config(ctx)

    async def reconstruct() -> int:
        async with open_house(config, "ledger rebuild") as house:
            done = await house.rebuild()
        if as_json:
            _print_json(done.as_json())
        elif not done.trouble:
            _console().print(screens.rebuilt(done))
        if done.trouble:
            _say(
                f"syncd: not finished: {done.trouble.reason}. Nothing was entered; run it again before anything is "
                "posted.",
                err=True,
            )
        return 1 if done.trouble else 0

    ctx.exit(_run(reconstruct()))


@ledger.command("copy")
@click.option("--to", required=True, metavar="URL", callback=_address, help="The address of a new, empty database.")
@click.option("--json", "as_json", is_flag=True, help="Print figures as JSON.")
@click.pass_context
def copy_ledger(ctx: click.Context, to: str, as_json: bool) -> None:
    """Copy the ledger into a new database, from SQLite to PostgreSQL or back, and compare the two.

    The old one is left as it is.
    """
    from rich.console import Console

    from syncd import screens
    from syncd.ledger.copy import CopyRefused, copy
    from syncd.logs import conceal, redact

    config = _config(ctx)
    conceal(config.model_copy(update={"ledger": to}).secrets())
    database = _ledger(config)
    if database is None:
        raise CopyRefused("there is no ledger yet to copy. Set `ledger:` to the new address, and start with that.")
    try:
        with screens.spinner(Console(stderr=True)) as watch:
            done = copy(database, to, watch)
    finally:
        database.close()
    if as_json:
        _print_json(done.as_json())
    else:
        _console().print(screens.copied(done))
    if done.differing:
        raise LedgerError(
            f"ledger {done.place}: the copy is not the same in {', '.join(done.differing)}. Do not use it; the old "
            "ledger is as it was. See that nothing else writes there, and copy it into another, empty database."
        )
    if not as_json:
        click.echo(
            f"\nNext: set `ledger:` in {ctx.obj['path']} (or SYNCD_LEDGER) to {redact(done.place)}, and start syncd.\n"
            f"The old ledger, {redact(database.place)}, is left as it is; start nothing on it any more."
        )


@cli.command()
@click.option("--apply", "applies", is_flag=True, help="Carry the plan out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def audit(ctx: click.Context, applies: bool, as_json: bool) -> None:
    """Compare the ledger with Zentrik: what is missing there, unknown here, doubled or changed, and what to do."""
    from syncd import screens
    from syncd.app import open_house

    config = _config(ctx)
    database = _ledger(config)
    if database is None:
        raise LedgerError(
            "there is no ledger yet to compare with Zentrik. If one was lost, `syncd ledger rebuild --from-remote` "
            "reconstructs it."
        )
    database.close()

    async def compare() -> int:
        async with open_house(config, "audit") as house:
            found, applied = await house.audit(applies=applies)
        if as_json:
            _print_json(found.as_json() | ({"applied": applied.as_json()} if applied else {}))
        elif not found.trouble:
            _console().print(screens.audit(found, applied))
        if found.trouble:
            _say(f"syncd: not finished: {found.trouble.reason}; nothing was changed, run it again", err=True)
        left = applied.left if applied else found.differences
        return 1 if found.trouble or left else 0

    ctx.exit(_run(compare()))


@cli.command()
@click.option("--external-id", "external_ids", multiple=True, metavar="ID", help="This signal; may be given again.")
@click.option("--email", "emails", multiple=True, metavar="ADDRESS", help="All that speak of it; may be given again.")
@click.option("--account", "accounts", multiple=True, metavar="ID", help="All of that account; may be given again.")
@click.option("--yes", "acts", is_flag=True, help="Do it; without, what would be done is listed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def forget(
    ctx: click.Context,
    external_ids: tuple[str, ...],
    emails: tuple[str, ...],
    accounts: tuple[str, ...],
    acts: bool,
    as_json: bool,
) -> None:
    """Erase what is known of a record, a person or an account, here and at Zentrik, and keep it from coming back."""
    from syncd import screens
    from syncd.app import open_house
    from syncd.forget import Certificate, Order
    from syncd.ledger import erasure
    from syncd.subjects import of_address

    if not (external_ids or emails or accounts):
        raise click.UsageError("say what is to be forgotten: --external-id, --email or --account")
    for email in emails:
        if of_address(email) is None:
            raise click.BadParameter(f"{email!r} is no e-mail address", param_hint="--email")
    order = Order(tuple(dict.fromkeys(external_ids)), tuple(dict.fromkeys(emails)), tuple(dict.fromkeys(accounts)))
    config = _config(ctx)
    database = _ledger(config)
    if database is None:
        raise LedgerError("there is no ledger yet: syncd knows nothing that could be forgotten.")
    with closing(database), database.read() as db:
        done = Certificate.of(order, erasure.look_up(db, order.external_ids, order.subjects), datetime.now(UTC))

    async def act() -> Certificate:
        async with open_house(config, "forget") as house:
            return await house.forget(order)

    if acts:
        done = _run(act())
    if as_json:
        _print_json(done.as_json())
    else:
        _console().print(screens.certificate(done))
    ctx.exit(0 if done.is_done or done.is_dry else 1)


@cli.command()
@click.argument("type", required=False)
def connectors(type: str | None) -> None:  # noqa: A002 - the configuration's own word for it
    """List the connector types there are, or the settings of TYPE."""
    from syncd import catalogue, screens

    if type is None:
        _console().print(screens.types(catalogue.types()))
    else:
        words, rows = catalogue.settings(type)
        click.echo(words + "\n")
        _console().print(screens.settings(rows))
        click.echo(
            "\nEvery connector also takes type, every, cron, timezone, since, namespace, enabled, allow_http and "
            "budget."
        )


@cli.command("new-connector")
@click.argument("name")
@click.option(
    "--into",
    default=".",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder to write into, if not this one.",
)
def new_connector(name: str, into: Path) -> None:
    """Write a new connector of type NAME to begin with, an imitation of its vendor, and tests that pass."""
    from syncd.scaffold import scaffold

    written = scaffold(name, into)
    for path in written:
        click.echo(f"wrote {path}")
    if written[0].name == "pyproject.toml":
        works = f"It works as it stands: pip install -e '{written[0].parent}[test]' && pytest {written[0].parent}"
    else:
        works = f"It wants a row in README.md and a block in config.example.yaml, and works: pytest -k {name}"
    click.echo(f"\n{works}\nNow make it speak to its vendor: docs/writing-a-connector.md")


@cli.command()
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--faults", "faults_json", metavar="JSON", help="How to misbehave, e.g. '{\"failing\": 0.1}'.")
@click.pass_context
def sandbox(ctx: click.Context, port: int, faults_json: str | None) -> None:
    """Serve an imitation of the Signals API on loopback, to try things against."""
    from pydantic import ValidationError

    from syncd.sandbox import Faults, Sandbox

    _log(ctx, "INFO")
    key = "sandbox-key"
    try:
        faults = Faults.model_validate_json(faults_json) if faults_json else Faults()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise click.BadParameter(f"{place}: {first['msg']}", param_hint="--faults") from error

    def started(api_base: str) -> None:
        click.echo(f"The sandbox listens. In another terminal:\n\n  export ZENTRIK_API_BASE={api_base}")
        click.echo(f"  export ZENTRIK_API_KEY={key}\n\nCtrl-C ends it.")

    async def serve() -> int:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await Sandbox(key=key, faults=faults).serve_forever(stop, port, started=started)
        return 0

    ctx.exit(_run(serve()))


def main() -> None:
    """The `syncd` command. An error that nobody foresaw ends it with exit code 1."""
    sys.excepthook = lambda kind, error, trace: _crashed(error)  # noqa: ARG005 - Python's signature
    threading.excepthook = lambda told: _crashed(told.exc_value)
    sys.unraisablehook = lambda told: _crashed(told.exc_value)
    cli(prog_name="syncd")


def _crashed(error: BaseException | None) -> None:
    """Python's own words for an error that nobody caught, without the secrets in them, and what to do."""
    from syncd.logs import traceback_of

    if error is None or isinstance(error, SystemExit):
        return
    click.echo(traceback_of(error), err=True, nl=False)
    click.echo(
        "syncd: this is a defect in syncd. What was done until then is in the ledger, and the next run goes on from "
        "there; please report it with the lines above, which hold no secret of the configuration.",
        err=True,
    )


# Shared by the commands


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, in the quicker of the event loops.

    What is imported by then stays: collecting garbage among it would hold everything up for a tenth of a second.
    """
    import gc

    import uvloop

    gc.freeze()
    return uvloop.run(work)


def _config(ctx: click.Context, level: str = "WARNING") -> Config:
    """The configuration; from here on its secrets are kept out of everything that is printed."""
    from syncd.config import load

    config = load(ctx.obj["path"], os.environ)
    _log(ctx, level, config.secrets())
    return config


def _log(ctx: click.Context, level: str, secrets: Sequence[str] = ()) -> None:
    from syncd.logs import configure

    verbose = ctx.obj["verbose"]
    configure(stream=sys.stderr, level="DEBUG" if verbose > 1 else "INFO" if verbose else level, secrets=secrets)


def _sources(config: Config, names: Sequence[str]) -> list[Source]:
    """The connectors of these names, or every enabled one."""
    unknown = [name for name in names if name not in config.connectors]
    if unknown:
        known = ", ".join(config.connectors) or "none yet"
        raise ConfigError(f"there is no connector {unknown[0]!r} in the configuration (there are: {known})")
    chosen = [config.connectors[name] for name in dict.fromkeys(names)]
    return [entry.source for entry in chosen or config.connectors.values() if names or entry.enabled]


def _ledger(config: Config) -> Database | None:
    """The ledger to read from, if there is one yet."""
    from syncd.ledger import Database

    return Database.open_existing(config.ledger)


def _nothing_yet(as_json: bool) -> None:
    if not as_json:
        click.echo("The ledger is empty: nothing has run yet. `syncd run-once` does one round.")


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False)  # what is shown comes from outside, and is no markup of ours
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 140  # in a file or a pipe there is no edge to wrap at
    return console


def _print_json(value: object) -> None:
    from syncd.logs import holds_secret, redact_json

    text = json.dumps(value, ensure_ascii=False)
    click.echo(json.dumps(redact_json(json.loads(text)), ensure_ascii=False) if holds_secret(text) else text)


def _say(text: str, *, err: bool = False) -> None:
    """Print what others wrote: it is shown without secrets, and steers no terminal."""
    from syncd.logs import printable, redact

    click.echo(printable(redact(text), keep="\n"), err=err)


def _tell_limits(sources: Sequence[Source], span: Span) -> None:
    """Say of each source what it cannot do of what is asked of it."""
    now = datetime.now(UTC)
    for source in sources:
        if words := source.connector.out_of_reach(span.since or source.since, now):
            _say(f"{source.name}: {words}. It is read as far back as it goes.", err=True)
        if span.length and not source.connector.windowed:
            _say(f"{source.name}: a {source.type} source is read in one piece; --slice does nothing for it.", err=True)


async def _agreed(config: Config, sources: Sequence[Source], span: Span) -> bool:
    """Whether a long window is to be read; asked on a terminal only, with an estimate."""
    from rich.console import Console

    from syncd import screens
    from syncd.estimate import estimates, is_large

    now = datetime.now(UTC)
    is_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if not is_terminal or not any(is_large(source, span, now) for source in sources):
        return True
    console = Console(stderr=True, highlight=False, markup=False)
    with console.status("looking how much that is"):
        found = await estimates(config, sources, span, lambda: datetime.now(UTC))
    console.print(screens.estimates(found))
    return click.confirm("\nRead and post that?", err=True)


async def _one_round(
    config: Config,
    sources: Sequence[Source],
    span: Span,
    wait: timedelta | None,
    *,
    only: bool,
    as_json: bool,
    allow_deletes: bool,
) -> int:
    from syncd.app import open_house
    from syncd.backfill import unread

    trouble: DestinationError | None = None
    left: list[Backfill] = []
    async with open_house(config, "run-once") as house:
        came = stop_on_signal(house.stop.set)
        with _progress(house):
            try:
                await house.run_once(sources, span, wait, only=only, allow_deletes=allow_deletes)
            except DestinationError as error:  # what was done before it is told all the same
                trouble = error
        if span.is_look_back:
            left = await unread(house.ledger, sources, span)
    if as_json:
        _print_json(house.figures.as_json())
    elif house.figures.connectors or not trouble:
        from syncd import screens

        _console().print(screens.closing(house.figures))
    for each in left:
        _say(
            f"{each.connector}: {each.read} of {each.slices} parts of this window are read to their end; the same "
            "command goes on from here",
            err=True,
        )
    if trouble:
        raise trouble
    if came:
        return INTERRUPTED
    return 0 if house.figures.is_clean else 1


@contextmanager
def _progress(house: House) -> Iterator[None]:
    """A line that follows the run while it lasts, on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    from syncd import screens

    with screens.progress(Console(stderr=True)) as house.on_change:
        yield


async def _dry_run(config: Config, sources: Sequence[Source], span: Span, as_json: bool) -> int:
    from syncd import screens
    from syncd.app import preview_all
    from syncd.figures import Figures
    from syncd.logs import redact_json
    from syncd.redaction import summary
    from syncd.waiting import held_for

    figures = Figures()
    async for shown in preview_all(config, sources, span, figures):
        if as_json:
            _print_json({"connector": shown.connector, "externalId": shown.external_id, "body": json.loads(shown.body)})
        else:
            taken_out = f"\n# {summary(shown.redacted)}" if shown.redacted else ""
            heading = f"# {shown.connector}: {shown.external_id}{taken_out}"
            click.echo(redact_json(f"{heading}\n{screens.pretty(shown.body)}"))
    if not as_json:
        _console().print(screens.closing(figures, lists_all=True))
        for name, pulled in figures.connectors.items():
            if pulled.held:
                click.echo(f"{name}: {held_for(pulled.held)}")
        click.echo("\nThis was a dry run: nothing was sent, nothing stored.")
    for name, pulled in figures.connectors.items():
        if pulled.error and as_json:
            _say(f"syncd: {name}: {pulled.error[1]}", err=True)
    return 1 if any(pulled.error for pulled in figures.connectors.values()) else 0
