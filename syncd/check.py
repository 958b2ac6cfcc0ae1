"""Check: see with one cheap call each that the sources can be read and Zentrik takes our key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta

from syncd import __version__, http_client
from syncd.app import utc_now
from syncd.config import Config
from syncd.connector import Source
from syncd.errors import DestinationError, SourceError
from syncd.fates import Blocked
from syncd.ledger import Database, report
from syncd.logs import redact
from syncd.pull import explain
from syncd.shape import account_file
from syncd.workspace import Kind, Workspace
from syncd.zentrik import Troubled, Zentrik


async def check(config: Config, sources: Sequence[Source]) -> tuple[list[tuple[str, bool, str]], int]:
    """What was found, by name, and the exit code: 3 for Zentrik's trouble, 1 for a source's, else 0."""
    results = [await _source(source) for source in sources]
    results += _namespaces(config, sources)
    results += await _lookups(config, sources)
    destination = await _destination(config, [source.name for source in sources if source.edits.needs_deleting])
    code = 3 if not destination[1] else 1 if not all(well for _, well, _ in results) else 0
    return [*results, destination], code


async def _source(source: Source) -> tuple[str, bool, str]:
    patience = timedelta(seconds=10)
    lent = http_client.lend(
        source.connector,
        clock=utc_now,
        sleep=asyncio.sleep,
        draw=random.random,
        allow_http=source.allow_http,
        patience=patience,
    )
    try:
        async with lent as http:
            seen = await source.connector.check(http)
        reach = source.connector.out_of_reach(source.since, utc_now())
        return source.name, True, redact(f"{seen}; {reach}" if reach else seen)
    except Exception as error:  # noqa: BLE001 - whatever a connector does, the others are checked too
        code, message = explain(error, source)
        return source.name, False, f"[{code}] {message}"


def _namespaces(config: Config, sources: Sequence[Source]) -> list[tuple[str, bool, str]]:
    """Namespaces that differ from those of earlier runs: every record would count as a new one."""
    ledger = Database.open_existing(config.ledger)
    if ledger is None:
        return []
    try:
        with ledger.read() as db:
            rows = report.connector_rows(db)
    finally:
        ledger.close()
    return [
        (
            source.name,
            False,
            f"its namespace was {rows[source.name].namespace} and is now {source.namespace}: every record would be "
            f"posted again under a new externalId. To keep them: namespace: {rows[source.name].namespace}",
        )
        for source in sources
        if source.name in rows and rows[source.name].namespace != source.namespace
    ]


async def _lookups(config: Config, sources: Sequence[Source]) -> list[tuple[str, bool, str]]:
    """What keeps records from their accounts and products: a file that cannot be read, a scope the key lacks."""
    found: list[tuple[str, bool, str]] = []
    asked: dict[Kind, Blocked | Troubled | None] = {}
    base, key = config.zentrik.api_base, config.zentrik.require_key().get_secret_value()
    async with Zentrik(base, key, timeout=timedelta(seconds=10), user_agent=f"syncd/{__version__}") as zentrik:
        for source in sources:
            files = [rule.file for rule in source.mapping.account if rule.file is not None]
            try:
                for file in files:
                    account_file(file)
            except SourceError as error:
                found.append((source.name, False, f"[{error.code}] {error}"))
            kinds: tuple[tuple[Kind, str, bool], ...] = (
                ("accounts", "account", bool(source.mapping.account)),
                ("products", "products", bool(source.mapping.products)),
            )
            for kind, setting, is_wanted in kinds:
                if is_wanted and kind not in asked:
                    answer = await Workspace(zentrik).find(kind, "externalId", "syncd-check")
                    asked[kind] = answer if isinstance(answer, Blocked | Troubled) else None
                if is_wanted and (trouble := asked[kind]):
                    told = f"its setting {setting} has no effect: {trouble.reason}"
                    found.append((source.name, False, redact(told)))
    return found


async def _destination(config: Config, deleting: Sequence[str]) -> tuple[str, bool, str]:
    """Whether Zentrik is ready and takes our key; `deleting` are connectors that want a key which may delete."""
    base = config.zentrik.api_base
    key = config.zentrik.require_key().get_secret_value()
    async with Zentrik(base, key, timeout=timedelta(seconds=10), user_agent=f"syncd/{__version__}") as zentrik:
        try:
            answer = await zentrik.ready() or await zentrik.list(limit=1)
            allowed = await zentrik.may_delete() if deleting else None
        except DestinationError as error:
            return "zentrik", False, str(error)
    if isinstance(answer, Troubled):
        return "zentrik", False, f"{base} is not ready: {answer.reason}"
    if isinstance(allowed, Blocked):
        wants = f"on_change: replace and on_delete: delete of {', '.join(deleting)} do nothing"
        return "zentrik", False, f"{base} is ready and takes the key, but {allowed.reason}; until then {wants}"
    return "zentrik", True, f"{base} is ready and takes the key"
