"""`syncd check`: what it finds, and the exit code it ends with."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from syncd.check import check
from syncd.config import Config, ConnectorSettings, ZentrikSettings
from syncd.connector import Source
from syncd.errors import ConfigError, CredentialsRefused, LedgerUnusable
from syncd.ledger import Database, Ledger
from syncd.mapping import AccountRule, ProductRule
from syncd.sandbox import Faults, Sandbox
from tests.conftest import Clock, Listed, record


class Refusing(Listed):
    """A source that refuses our credentials."""

    async def check(self, http: httpx.AsyncClient) -> str:
        raise CredentialsRefused("g2 refused the token; make a new one")


class Broken(Listed):
    """A source whose connector has a defect."""

    async def check(self, http: httpx.AsyncClient) -> str:
        answer: dict[str, str] = {}
        return answer["status"]


def entry(connector: Listed, name: str = "reviews", namespace: str = "g2:acme") -> ConnectorSettings:
    return ConnectorSettings(type="g2", name=name, namespace=namespace, connector=connector)


class ShortSighted(Listed):
    """A source that shows its last week only."""

    def out_of_reach(self, since: datetime | None, now: datetime) -> str | None:
        return "it shows one week only" if since is None or now - since > timedelta(days=7) else None


WELL = entry(Listed(pages=((record(1),), (record(2),))))


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
async def api_base(sandbox: Sandbox) -> AsyncIterator[str]:
    async with sandbox.serve() as served:
        yield served


def config(folder: Path, api_base: str, *entries: ConnectorSettings, key: str = "sandbox-key") -> Config:
    return Config(
        zentrik=ZentrikSettings(api_base=api_base, api_key=SecretStr(key)),
        ledger=f"sqlite:///{folder / 'ledger.db'}",
        connectors={entry.name: entry for entry in entries},
    )


def sources(config: Config) -> list[Source]:
    return [entry.source for entry in config.connectors.values()]


async def test_all_is_well(tmp_path: Path, api_base: str, sandbox: Sandbox) -> None:
    """After a good check a run will start: every source and Zentrik were asked, with one cheap call or two each."""
    settings = config(tmp_path, api_base, WELL)
    results, code = await check(settings, sources(settings))
    assert code == 0
    assert results == [("reviews", True, "2 pages"), ("zentrik", True, f"{api_base} is ready and takes the key")]
    assert sandbox.calls.by_status() == {"200": 2}
    assert Database.open_existing(settings.ledger) is None, "a check makes no ledger"


async def test_one_bad_source_does_not_hide_the_others(tmp_path: Path, api_base: str) -> None:
    """All that is wrong is told in one go, in words, each under the connector's name; the exit code is 1."""
    settings = config(
        tmp_path,
        api_base,
        entry(Refusing(), "refusing", "a"),
        entry(Broken(), "broken", "b"),
        WELL,
    )
    results, code = await check(settings, sources(settings))
    assert code == 1
    assert [(name, well) for name, well, _ in results] == [
        *(("refusing", False), ("broken", False), ("reviews", True), ("zentrik", True)),
    ]
    assert results[0][2] == "[credentials_refused] g2 refused the token; make a new one"
    assert results[1][2].startswith("[connector_error] the g2 connector failed on something it does not know: KeyError")


async def test_only_the_sources_asked_for_are_asked(tmp_path: Path, api_base: str) -> None:
    """`syncd check NAME` is not held up by another connector's trouble."""
    settings = config(tmp_path, api_base, entry(Refusing(), "refusing", "a"), WELL)
    results, code = await check(settings, [WELL.source])
    assert (code, [name for name, _, _ in results]) == (0, ["reviews", "zentrik"])


@pytest.mark.parametrize(
    ("faults", "key", "words"),
    [
        (Faults(), "another-key", "refused the API key"),
        (Faults(scopes=("signals:write",)), "sandbox-key", "signals:read"),
        (Faults(ready=False), "sandbox-key", '"workspaceQueue": "unavailable"'),
        (Faults(next_reads=("html_404",)), "sandbox-key", "check api_base"),
        (Faults(next_reads=("500",)), "sandbox-key", "500: something went wrong"),
    ],
)
async def test_zentriks_trouble_is_exit_code_3(
    tmp_path: Path, api_base: str, sandbox: Sandbox, faults: Faults, key: str, words: str
) -> None:
    """A wrong key, a missing scope and an unwell Zentrik are each told before a single record is read."""
    sandbox.faults = faults
    settings = config(tmp_path, api_base, entry(Refusing(), "refusing", "a"), WELL, key=key)
    results, code = await check(settings, sources(settings))
    assert code == 3, "Zentrik's trouble counts for more than a source's"
    name, well, told = results[-1]
    assert (name, well) == ("zentrik", False)
    assert words in told
    assert key not in told


async def test_a_key_that_may_not_delete_is_told_where_that_is_wanted(
    tmp_path: Path, api_base: str, sandbox: Sandbox
) -> None:
    """Who wants changes to replace signals learns before the first one that the key has no scope for it."""
    sandbox.faults = Faults(scopes=("signals:read", "signals:write"))
    plain = config(tmp_path, api_base, WELL)
    assert (await check(plain, sources(plain)))[1] == 0
    settings = config(tmp_path, api_base, WELL.model_copy(update={"on_change": "replace"}))
    results, code = await check(settings, sources(settings))
    assert code == 3
    assert "signals:delete" in results[-1][2]
    assert "of reviews" in results[-1][2]
    sandbox.faults = Faults()
    assert (await check(settings, sources(settings)))[1] == 0


async def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    """A mistyped address is told at once, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings = config(tmp_path, f"http://127.0.0.1:{port}/api", WELL)
    results, code = await check(settings, sources(settings))
    assert code == 3
    assert "cannot be reached" in results[-1][2]


async def test_a_changed_namespace_is_warned_of(tmp_path: Path, api_base: str, clock: Clock) -> None:
    """Before every record is posted a second time under a new name, the operator reads how to keep the old ones."""
    settings = config(tmp_path, api_base, WELL)
    ledger = Ledger(Database(settings.ledger))
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(WELL.source, run, clock())
    await ledger.finish_pull(WELL.source, run, None, clock())
    ledger.close()
    assert (await check(settings, sources(settings)))[1] == 0
    renamed = config(tmp_path, api_base, entry(WELL.connector, namespace="g2:acme-eu"))  # type: ignore[arg-type]
    results, code = await check(renamed, sources(renamed))
    assert code == 1
    [warning] = [told for _, well, told in results if not well]
    assert "was g2:acme and is now g2:acme-eu" in warning
    assert warning.endswith("To keep them: namespace: g2:acme")


async def test_a_ledger_that_cannot_be_opened_is_a_mistake_in_the_configuration(tmp_path: Path, api_base: str) -> None:
    """A `ledger:` that names a folder is told by the check, not by the first run at night."""
    (tmp_path / "ledger.db").mkdir()
    settings = config(tmp_path, api_base, WELL)
    with pytest.raises(LedgerUnusable):
        await check(settings, sources(settings))


async def test_without_a_key_there_is_nothing_to_check(tmp_path: Path, api_base: str) -> None:
    """A forgotten key is told by the name of the variable to set."""
    settings = Config(zentrik=ZentrikSettings(api_base=api_base), ledger=f"sqlite:///{tmp_path / 'ledger.db'}")
    with pytest.raises(ConfigError, match="ZENTRIK_API_KEY"):
        await check(settings, [])


async def test_what_keeps_records_from_their_accounts_is_told(tmp_path: Path, api_base: str, sandbox: Sandbox) -> None:
    """A scope the key lacks is named with the setting that wants it, and a file that is away by its path; a key that
    may look costs one call a kind."""
    file = tmp_path / "accounts.csv"
    ways = (AccountRule(file=file),)
    mapped = WELL.model_copy(update={"account": ways, "products": (ProductRule(product="app"),)})
    settings = config(tmp_path, api_base, mapped)
    sandbox.faults = Faults(scopes=("signals:read", "signals:write"))
    results, code = await check(settings, sources(settings))
    told = [words for name, well, words in results if name == "reviews" and not well]
    assert code == 1
    assert [word in line for line, word in zip(told, (str(file), "accounts:read", "products:read"), strict=True)] == [
        True, True, True,
    ]  # fmt: skip
    assert "its setting account has no effect" in told[1]

    file.write_text("match,externalId\n")
    sandbox.faults = Faults()
    before = sandbox.calls.count("GET")
    results, code = await check(settings, sources(settings))
    assert code == 0
    assert sandbox.calls.count("GET") - before == 4


async def test_a_source_that_cannot_go_back_so_far_says_so(tmp_path: Path, api_base: str) -> None:
    """Before the first run one knows what will be missing of the past; whoever wants no more than there is, is not
    bothered."""
    source = entry(ShortSighted()).source
    recent = replace(source, since=datetime.now(UTC) - timedelta(days=3))
    results, code = await check(config(tmp_path, api_base), [source, recent])
    assert [words for name, _, words in results if name == "reviews"] == [
        "0 pages; it shows one week only",
        "0 pages",
    ]
    assert code == 0
