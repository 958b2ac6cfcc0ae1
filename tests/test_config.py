"""The configuration: what wins, what is refused and in which words, and that secrets stay secret."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import httpx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, SecretStr, ValidationError

from syncd import cron, registry
from syncd.config import Config, ConnectorSettings, Retention, WebSettings, ZentrikSettings, load
from syncd.connector import Checkpoint, Connector, Page, Settings, Source, Window
from syncd.detectors import Kind
from syncd.errors import ConfigError
from syncd.mistakes import known_names, nearest
from syncd.redaction import Redaction
from syncd.settings import Entry

PLANTED = "planted-s3cret-value"


class Region(Settings):
    """A group of settings within a connector's."""

    name: str
    weight: Annotated[int, Field(ge=1)] = 1


def _no_spaces(text: str) -> str:
    if " " in text:
        raise ValueError(f"{text!r} has spaces")
    return text


def _temperamental(text: str) -> str:
    if text == "crash":
        raise RuntimeError("it fell over")
    return text


class Desk(Connector):
    """A connector with one setting of each kind."""

    provider: ClassVar[str] = "desk"

    subdomain: Annotated[str, AfterValidator(_no_spaces)] = "acme"
    api_token: SecretStr | None = None
    teams: tuple[str, ...] = ()
    users: str | list[str] | None = None
    region: Region | None = None
    labels: dict[str, str] = {}  # noqa: RUF012 - pydantic copies defaults
    timezone: str = "UTC"
    mood: Annotated[str, AfterValidator(_temperamental)] = "calm"

    def default_namespace(self, name: str) -> str:
        return f"desk:{name}"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        yield Page()

    async def check(self, http: httpx.AsyncClient) -> str:
        return "fine"


KNOWN = ", ".join(sorted({*known_names(Entry), *known_names(Desk)}))
"""What may stand in an entry of the type desk."""


class Account(Desk):
    """A connector that names itself after the account."""

    def default_namespace(self, name: str) -> str:
        return f"account:{self.subdomain}"


TYPES: dict[str, type[Connector]] = {"desk": Desk, "account": Account}


def lookup(name: str) -> type[Connector]:
    """The registry's stand-in."""
    if name not in TYPES:
        raise ConfigError(f"there is no type {name!r}; {nearest(name, TYPES)}")
    return TYPES[name]


class Loads(Protocol):
    """Load a text as config.yaml."""

    def __call__(self, text: str, **environ: str) -> Config: ...


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loads:
    """Load a text as config.yaml in an empty working folder, with those variables and no others."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str, **environ: str) -> Config:
        Path("config.yaml").write_text(text, encoding="utf-8")
        return load("config.yaml", environ, lookup)

    return load_text


def refusal(loads: Loads, text: str, **environ: str) -> str:
    """The words a configuration is refused with."""
    with pytest.raises(ConfigError) as caught:
        loads(text, **environ)
    return str(caught.value)


# What is read


def test_an_empty_file_gives_the_defaults(loads: Loads) -> None:
    """Nobody has to write down what is as it should be."""
    config = loads("")
    assert config == Config()
    assert config.zentrik.api_base == "https://zentrik.ai/api"
    assert config.zentrik.concurrency == 16
    assert config.zentrik.timeout == timedelta(seconds=60)
    assert config.zentrik.ready_timeout == timedelta(seconds=30)
    assert config.zentrik.max_attempts == 8
    assert config.zentrik.poll_interval == timedelta(seconds=2)
    assert config.ledger == "sqlite:///syncd.db"
    assert config.web == WebSettings(host="127.0.0.1", port=8787)
    assert config.retention == Retention(bodies=timedelta(days=30))
    assert config.shutdown_timeout == timedelta(seconds=20)
    assert config.connectors == {}


def test_a_whole_file(loads: Loads) -> None:
    """What the documentation shows is what is read."""
    config = loads(
        """
zentrik:
  api_base: http://127.0.0.1:8080/api/
  api_key: ${KEY}
  concurrency: 4
ledger: postgresql+psycopg://syncd@db/syncd
web: {host: "::1", port: 0}
retention: {bodies: 7d}
shutdown_timeout: 5s
connectors:
  support:
    type: desk
    every: 10m
    subdomain: globex
    api_token: ${TOKEN}
    teams: [one, no]
    region: {name: eu, weight: 2}
    since: 2026-01-31
  calls:
    type: account
    cron: "*/10 * * * mon-fri"
    timezone: Europe/Berlin
    namespace: calls-2026
    enabled: false
""",
        KEY="zk-12345",
        TOKEN="t0ken",
    )
    assert config.zentrik.api_base == "http://127.0.0.1:8080/api"
    assert config.zentrik.require_key().get_secret_value() == "zk-12345"
    assert config.web == WebSettings(host="::1", port=0)
    support, calls = config.connectors["support"], config.connectors["calls"]
    assert (support.every, support.cron, support.enabled) == (timedelta(minutes=10), None, True)
    assert support.connector == Desk(
        subdomain="globex", api_token=SecretStr("t0ken"), teams=("one", "no"), region=Region(name="eu", weight=2)
    )
    assert support.source == Source(
        "support", "desk", "desk:support", support.connector, datetime(2026, 1, 31, tzinfo=UTC)
    )
    assert (calls.every, calls.cron, calls.enabled) == (None, "*/10 * * * mon-fri", False)
    assert calls.timezone == "Europe/Berlin"
    assert calls.connector == Account(timezone="Europe/Berlin")
    assert calls.source.namespace == "calls-2026"


def test_a_connector_is_read_hourly_unless_told(loads: Loads) -> None:
    """An entry of two lines is complete."""
    entry = loads("connectors: {a: {type: account}}").connectors["a"]
    assert (entry.every, entry.cron, entry.timezone) == (timedelta(hours=1), None, "UTC")
    assert entry.source.namespace == "account:acme"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31 10:30", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("2026-01-31T10:30:00Z", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("2026-01-31T10:30:00+02:00", datetime(2026, 1, 31, 8, 30, tzinfo=UTC)),
    ],
)
def test_since_is_an_instant(loads: Loads, written: str, meant: datetime) -> None:
    """How far back to go does not depend on the machine's time zone."""
    since = loads(f"connectors: {{a: {{type: desk, since: {written}}}}}").connectors["a"].since
    assert since == meant
    assert since.tzinfo is UTC


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (date(2026, 1, 31), datetime(2026, 1, 31, tzinfo=UTC)),
        (datetime(2026, 1, 31, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 1, 31, tzinfo=UTC)),
    ],
)
def test_since_made_by_hand(given: date, meant: datetime) -> None:
    """Code that builds an entry itself gets the same instant as a file."""
    entry = ConnectorSettings(name="a", type="desk", namespace="a", connector=Desk(), since=given)
    assert entry.since == meant


def test_words_stay_words(loads: Loads) -> None:
    """Norway is not false, half past ten is not 630, and a date is the text it was."""
    config = loads("connectors: {a: {type: desk, teams: [no, on, 10:30, 2026-01-01, 1_000, 'true', '7', null_]}}")
    connector = config.connectors["a"].connector
    assert isinstance(connector, Desk)
    assert connector.teams == ("no", "on", "10:30", "2026-01-01", "1_000", "true", "7", "null_")


def test_numbers_and_switches(loads: Loads) -> None:
    """Numbers may be written as YAML writes them, or come as text from a variable."""
    config = loads(
        "zentrik: {concurrency: 0x10, timeout: 1.5, max_attempts: '${N}'}\nconnectors: {a: {type: desk, enabled: off}}",
        N="3",
    )
    assert (config.zentrik.concurrency, config.zentrik.max_attempts) == (16, 3)
    assert config.zentrik.timeout == timedelta(seconds=1.5)
    assert not config.connectors["a"].enabled


def test_json_is_yaml(loads: Loads) -> None:
    """A configuration written by a program loads too."""
    assert loads(json.dumps({"zentrik": {"concurrency": 2}, "web": None})) == Config(
        zentrik=ZentrikSettings(concurrency=2), web=None
    )


def test_a_commented_out_section_is_no_section(loads: Loads) -> None:
    """Commenting out every line of a section leaves its defaults, and never turns the status page off."""
    assert loads("zentrik:\n  #concurrency: 3\nweb:\nconnectors:\nledger:\n") == Config()


def test_null_turns_the_status_page_off(loads: Loads) -> None:
    """A machine where nothing may listen needs one word."""
    assert loads("web: null").web is None
    assert loads("web: ~").web is None
    assert loads("", SYNCD_WEB="null").web is None


def test_anchors_and_merge_keys(loads: Loads) -> None:
    """What many entries have in common is written once; an entry's own word counts for more."""
    config = loads(
        """
x-common: &common
  type: desk
  every: 5m
  teams: &teams [one, two]
  api_token: ${NOT_SET}
connectors:
  a: {<<: *common, api_token: x}
  b: {<<: [{subdomain: globex}, *common], cron: "0 6 * * *", api_token_file: token}
  c: {type: desk, teams: *teams}
""",
        **_token_file(),
    )
    a, b, c = (config.connectors[name] for name in "abc")
    assert (a.every, b.every, b.cron) == (timedelta(minutes=5), None, "0 6 * * *")
    assert a.connector == Desk(teams=("one", "two"), api_token=SecretStr("x"))
    assert b.connector == Desk(subdomain="globex", teams=("one", "two"), api_token=SecretStr("from-file"))
    assert c.connector == Desk(teams=("one", "two"))


def _token_file() -> dict[str, str]:
    Path("token").write_text("from-file\n")
    return {}


# The environment


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(loads: Loads) -> None:
    """One variable changes one setting of a file that is shared by many machines."""
    config = loads(
        """
zentrik: {concurrency: 4, max_attempts: 5}
ledger: sqlite:///file.db
connectors:
  support: {type: desk, subdomain: from-file, every: 5m}
""",
        SYNCD_ZENTRIK__CONCURRENCY="7",
        SYNCD_LEDGER="sqlite:////var/lib/syncd.db",
        SYNCD_WEB__PORT="9000",
        SYNCD_SHUTDOWN_TIMEOUT="3s",
        SYNCD_CONNECTORS__SUPPORT__API_TOKEN="123456",
        SYNCD_CONNECTORS__SUPPORT__TEAMS='["a", "b"]',
        SYNCD_CONNECTORS__SUPPORT__USERS='["u"]',
        SYNCD_CONNECTORS__SUPPORT__LABELS='{"k": "v"}',
        SYNCD_CONNECTORS__SUPPORT__MOOD='["text", "all the same"]',
        SYNCD_CONNECTORS__SUPPORT__REGION__NAME="us",
        SYNCD_CONNECTORS__EXTRA__TYPE="desk",
    )
    assert (config.zentrik.concurrency, config.zentrik.max_attempts) == (7, 5)
    assert config.ledger == "sqlite:////var/lib/syncd.db"
    assert config.web == WebSettings(port=9000)
    assert config.shutdown_timeout == timedelta(seconds=3)
    assert config.connectors["support"].every == timedelta(minutes=5)
    assert config.connectors["support"].connector == Desk(
        subdomain="from-file",
        api_token=SecretStr("123456"),
        teams=("a", "b"),
        users=["u"],
        labels={"k": "v"},
        mood='["text", "all the same"]',
        region=Region(name="us"),
    )
    assert config.connectors["extra"].connector == Desk()


def test_sections_as_json(loads: Loads) -> None:
    """A platform that hands over one variable per section can do so."""
    config = loads(
        "zentrik: {concurrency: 2, max_attempts: 3}",
        SYNCD_ZENTRIK='{"concurrency": 5}',
        SYNCD_CONNECTORS='{"a": {"type": "desk", "teams": ["x"]}}',
    )
    assert (config.zentrik.concurrency, config.zentrik.max_attempts) == (5, 3)
    assert config.connectors["a"].connector == Desk(teams=("x",))


def test_zentriks_own_variables(loads: Loads) -> None:
    """Whoever has used the Signals API before has these set already."""
    config = loads(
        "zentrik: {api_key: '${ZENTRIK_API_KEY}'}", ZENTRIK_API_BASE="http://localhost:1/api", ZENTRIK_API_KEY="zk-1"
    )
    assert config.zentrik == ZentrikSettings(api_base="http://localhost:1/api", api_key=SecretStr("zk-1"))
    both = loads("", ZENTRIK_API_KEY="zk-1", SYNCD_ZENTRIK__API_KEY="zk-2")
    assert both.zentrik.require_key().get_secret_value() == "zk-2"


def test_a_secret_in_a_file(loads: Loads) -> None:
    """Container platforms mount secrets as files; the newline at the end is not part of one."""
    Path("key").write_text("zk-file\n")
    assert loads("zentrik: {api_key_file: key}").zentrik.require_key().get_secret_value() == "zk-file"
    unset = "zentrik: {api_key: '${ZENTRIK_API_KEY}'}\nconnectors: {my-desk: {type: desk, api_token: '${NOT_SET}'}}"
    config = loads(unset, ZENTRIK_API_KEY_FILE="key", SYNCD_CONNECTORS__MY_DESK__API_TOKEN_FILE="key")
    assert config.zentrik.require_key().get_secret_value() == "zk-file"
    assert config.connectors["my-desk"].connector == Desk(api_token=SecretStr("zk-file"))


def test_a_variable_replaces_the_other_spelling_in_the_file(loads: Loads) -> None:
    """Overriding a schedule or a secret works whichever way the file gives it."""
    Path("key").write_text("zk-file\n")
    config = loads(
        "zentrik: {api_key_file: key}\nconnectors: {a: {type: desk, cron: '0 6 * * *'}}",
        ZENTRIK_API_KEY="zk-1",
        SYNCD_CONNECTORS__A__EVERY="20s",
    )
    assert config.zentrik.require_key().get_secret_value() == "zk-1"
    assert (config.connectors["a"].every, config.connectors["a"].cron) == (timedelta(seconds=20), None)


def test_empty_and_foreign_variables_are_nothing(loads: Loads) -> None:
    """What compose files pass on empty, and what Kubernetes sets for a service called syncd, breaks nothing."""
    foreign = {"SYNCD_PORT": "tcp://10.0.0.1:80", "SYNCD_SERVICE_HOST": "10.0.0.1", "SYNCD_PORT_8787_TCP_ADDR": "x"}
    config = loads("", ZENTRIK_API_KEY="", SYNCD_LEDGER="", SYNCD_CONFIG="elsewhere.yaml", **foreign)
    assert config == Config()


def test_only_the_environment_handed_over_counts(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test or a program that builds a configuration gets the same one on every machine."""
    monkeypatch.setenv("SYNCD_ZENTRIK__CONCURRENCY", "99")
    monkeypatch.setenv("SYNCD_LEDGER", "sqlite:///other.db")
    assert loads("").zentrik.concurrency == 16
    assert Config().ledger == "sqlite:///syncd.db"


def test_what_is_filled_in_is_data(loads: Loads) -> None:
    """A password may hold any sign, and a variable cannot smuggle settings in."""
    odd = "a: {b}\n- ${KEY} *x # no"
    connector = (
        loads(
            "connectors: {a: {type: desk, subdomain: 'x-${ONE}${TWO}', mood: '$${HOME} $5', api_token: '${ODD}'}}",
            ONE="1",
            TWO="2",
            ODD=odd,
        )
        .connectors["a"]
        .connector
    )
    assert connector == Desk(subdomain="x-12", mood="${HOME} $5", api_token=SecretStr(odd))


# What is refused


def entry(lines: str) -> str:
    """A file whose line 3 is the first of an entry's after its type."""
    return f"connectors:\n  a: {{type: desk,\n    {lines}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "- one\n", "config.yaml:1: the file must be a mapping of settings (lines of key: value)", id="list"
        ),
        pytest.param("hello", "config.yaml:1: the file must be a mapping of settings (lines of key: value)", id="text"),
        pytest.param(
            "zentrik:\n  api_key: [\n",
            "config.yaml:3:1: is not YAML: while parsing a flow node, expected the node content, "
            "but found '<stream end>'",
            id="syntax",
        ),
        pytest.param(
            "zentrik: {api_key: ${KEY}}\n",
            "config.yaml:1:21: is not YAML: while parsing a flow mapping, expected ',' or '}', but got '{'; "
            'inside { } or [ ] put "${NAME}" in quotes',
            id="variable-in-braces",
        ),
        pytest.param(
            "zentrik: {api_key: *planted-s3cret-value }\n",
            "config.yaml:1:20: is not YAML: found undefined alias '...'",
            id="alias",
        ),
        pytest.param(
            "zentrik: {api_key: !planted-s3cret-value x}\n",
            "config.yaml:1: zentrik.api_key: starts with a tag (an exclamation mark); put the value in quotes, or "
            "remove the tag",
            id="tag",
        ),
        pytest.param("a\0b: 1", "config.yaml: holds a character that YAML does not allow (#x0000)", id="nul"),
        pytest.param(
            "zentrik: {}\nledger: sqlite:///a.db\nledger: sqlite:///b.db\n",
            "config.yaml:3: ledger: given twice, first on line 2; keep one",
            id="twice",
        ),
        pytest.param("[1, 2]: x\n", "config.yaml:1: a key must be plain text", id="key"),
        pytest.param(
            "connectors:\n  <<: 5\n",
            "config.yaml:2: connectors: << merges a mapping; write <<: *name, or <<: [*one, *other]",
            id="merge",
        ),
        pytest.param(
            "\nzentrik:\n  api_kee: planted\n",
            "config.yaml:3: zentrik.api_kee: unknown setting; did you mean api_key?",
            id="near",
        ),
        pytest.param(
            "zentrik: {api_key_fil: x}",
            "config.yaml:1: zentrik.api_key_fil: unknown setting; did you mean api_key_file?",
            id="near-twin",
        ),
        pytest.param(
            "web: {zzz: 1}",
            "config.yaml:1: web.zzz: unknown setting; known here: host, port, token, token_file",
            id="nothing-near",
        ),
        pytest.param("leger: x", "config.yaml:1: leger: unknown setting; did you mean ledger?", id="section"),
        pytest.param(
            "_env_prefix: x",
            "config.yaml:1: _env_prefix: unknown setting; known here: alerts, connectors, lease, ledger, "
            "redact, retention, shutdown_timeout, web, zentrik",
            id="library-parameter",
        ),
        pytest.param(
            "zentrik: {api_key:planted-s3cret-value}",
            "config.yaml:1: zentrik.api_key: unknown setting; did you mean api_key?",
            id="colon",
        ),
        pytest.param(
            "zentrik: 5",
            "config.yaml:1: zentrik: must be a mapping of settings (lines of key: value)",
            id="mapping",
        ),
        pytest.param("web: on", "config.yaml:1: web: must be a mapping of settings (lines of key: value)", id="web"),
        pytest.param(
            "zentrik: {concurrency: 0}", "config.yaml:1: zentrik.concurrency: must be 1 or more", id="too-few"
        ),
        pytest.param(
            "zentrik: {concurrency: 257}", "config.yaml:1: zentrik.concurrency: must be 256 or less", id="too-many"
        ),
        pytest.param(
            "zentrik: {concurrency: many}", "config.yaml:1: zentrik.concurrency: must be a whole number", id="number"
        ),
        pytest.param(
            f"zentrik: {{concurrency: {'9' * 5000}}}",
            "config.yaml:1: zentrik.concurrency: is not a number that can be read",
            id="endless-number",
        ),
        pytest.param(
            "zentrik: {timeout: 5 parsecs}",
            "config.yaml:1: zentrik.timeout: '5parsecs' is not a duration; write for example 30s, 10m, 2h or 7d",
            id="duration",
        ),
        pytest.param(
            "zentrik: {timeout: []}",
            "config.yaml:1: zentrik.timeout: must be a duration; write for example 30s, 10m, 2h or 7d",
            id="no-duration",
        ),
        pytest.param(
            "zentrik: {timeout: 0s}", "config.yaml:1: zentrik.timeout: 0s is too short; write 10ms or more", id="zero"
        ),
        pytest.param(
            "retention: {bodies: 101y}", "config.yaml:1: retention.bodies: is too long; write 36500d or less", id="long"
        ),
        pytest.param(
            "zentrik: {api_base: zentrik.ai/api}",
            "config.yaml:1: zentrik.api_base: must be an http or https address with nothing after its path, "
            "like https://zentrik.ai/api",
            id="address",
        ),
        pytest.param(
            "zentrik: {api_key: ' '}",
            "config.yaml:1: zentrik.api_key: is empty; make a key in Zentrik under Settings > API keys",
            id="blank-key",
        ),
        pytest.param(
            'zentrik: {api_key: "planted-s3cret-value\\nX: y"}',
            "config.yaml:1: zentrik.api_key: holds a character that no key has; was it copied whole, and nothing "
            "beside it?",
            id="header",
        ),
        pytest.param(
            "zentrik:\n  api_key: planted-s3cret-value\n  api_key_file: x",
            "config.yaml:3: zentrik.api_key_file: api_key is given as well (config.yaml:2); keep one of them",
            id="both-secrets",
        ),
        pytest.param("web: {host: ''}", "config.yaml:1: web.host: must not be empty", id="empty"),
        pytest.param("web: {port: 99999}", "config.yaml:1: web.port: must be 65535 or less", id="port"),
        pytest.param(
            "connectors: [a]",
            "config.yaml:1: connectors: must be a mapping from your name for each source to its settings",
            id="connectors",
        ),
        pytest.param(
            "connectors:\n  Big Desk: {type: desk}",
            "config.yaml:2: connectors.Big Desk: a name is made of a-z, 0-9, - and _, and starts with a letter or a "
            "digit",
            id="name",
        ),
        pytest.param(
            "connectors:\n  a:\n",
            "config.yaml:2: connectors.a: must be a mapping of settings; the first to give is its type",
            id="blank-entry",
        ),
        pytest.param(
            "connectors:\n  a:\n    every: 1h\n",
            f"config.yaml:2: connectors.a.type: missing; say what kind of source it is: {', '.join(registry.types())}",
            id="no-type",
        ),
        pytest.param(
            "connectors:\n  a:\n    type:\n",
            f"config.yaml:3: connectors.a.type: missing; say what kind of source it is: {', '.join(registry.types())}",
            id="blank-type",
        ),
        pytest.param(
            "connectors: {a: {type: dekс}}".replace("с", "s"),
            "config.yaml:1: connectors.a.type: there is no type 'deks'; did you mean desk?",
            id="type",
        ),
        pytest.param(
            "connectors: {a: {type: [desk]}}",
            "config.yaml:1: connectors.a.type: must be text; if it looks like a number or true/false, put it in quotes",
            id="type-list",
        ),
        pytest.param(
            entry("every: 5s"), "config.yaml:3: connectors.a.every: 5s is too short; write 10s or more", id="every"
        ),
        pytest.param(
            entry("every: 5m, cron: '* * * * *'"),
            "config.yaml:3: connectors.a.cron: every is given as well (config.yaml:3); keep one of them",
            id="both-schedules",
        ),
        pytest.param(
            entry("cron: '@daily'"),
            "config.yaml:3: connectors.a.cron: a cron expression has five fields (minute hour day month weekday), "
            'not 1; write for example "*/10 * * * *"',
            id="cron-fields",
        ),
        pytest.param(
            entry("cron: '61 * * * *'"),
            "config.yaml:3: connectors.a.cron: its minute '61' is not one of 0 to 59",
            id="cron",
        ),
        pytest.param(
            entry("timezone: Europe/Berln"),
            "config.yaml:3: connectors.a.timezone: is no time zone of the IANA database; did you mean Europe/Berlin?",
            id="timezone",
        ),
        pytest.param(
            entry("since: yesterday"),
            "config.yaml:3: connectors.a.since: is no date; write for example 2026-01-31 or 2026-01-31T09:00:00Z",
            id="since",
        ),
        pytest.param(
            entry("namespace: my desk"),
            "config.yaml:3: connectors.a.namespace: must be letters, digits and signs without spaces, like nps-2026 "
            "or zendesk:acme",
            id="namespace",
        ),
        pytest.param(
            'connectors:\n  a: {type: account, subdomain: "a\\u0007b"}',
            "config.yaml:2: connectors.a.namespace: must be letters, digits and signs without spaces, like nps-2026 "
            "or zendesk:acme",
            id="default-namespace",
        ),
        pytest.param(entry("enabled: maybe"), "config.yaml:3: connectors.a.enabled: must be true or false", id="bool"),
        pytest.param(
            entry("api_tokn: planted-s3cret-value"),
            "config.yaml:3: connectors.a.api_tokn: unknown setting; did you mean api_token?",
            id="connector-setting",
        ),
        pytest.param(
            entry("delete_guard: {share: lots}"),
            "config.yaml:3: connectors.a.delete_guard.share: is no share; write it in whole percent, like 5%",
            id="share",
        ),
        pytest.param(
            entry("on_change: overwrite"),
            "config.yaml:3: connectors.a.on_change: must be one of 'ignore', 'append' or 'replace'",
            id="on-change",
        ),
        pytest.param(
            entry("evry: 5m"),
            "config.yaml:3: connectors.a.evry: unknown setting; did you mean every?",
            id="house-setting",
        ),
        pytest.param(
            entry("connector: x"),
            f"config.yaml:3: connectors.a.connector: unknown setting; known here: {KNOWN}",
            id="not-a-setting",
        ),
        pytest.param(
            entry("teams: [one,\n  2]"),
            "config.yaml:4: connectors.a.teams[1]: must be text; if it looks like a number or true/false, put it in "
            "quotes",
            id="list-item",
        ),
        pytest.param(
            entry("teams: one"), "config.yaml:3: connectors.a.teams: must be a list, like [one, two]", id="no-list"
        ),
        pytest.param(
            entry("users: 5"),
            "config.yaml:3: connectors.a.users: must be text; if it looks like a number or true/false, put it in "
            "quotes, or must be a list, like [one, two]",
            id="union",
        ),
        pytest.param(
            entry("region: {}"), "config.yaml:3: connectors.a.region.name: missing; it has to be given", id="missing"
        ),
        pytest.param(
            entry("region: {nam: eu}"),
            "config.yaml:3: connectors.a.region.name: missing; it has to be given\n"
            "config.yaml:3: connectors.a.region.nam: unknown setting; did you mean name?",
            id="nested",
        ),
        pytest.param(
            entry("subdomain: 'a b'"), "config.yaml:3: connectors.a.subdomain: 'a b' has spaces", id="own-check"
        ),
        pytest.param(
            entry("mood: crash"), "config.yaml:2: connectors.a: cannot be used: RuntimeError: it fell over", id="crash"
        ),
        pytest.param(
            "connectors:\n  a: {type: account}\n  b: {type: desk}\n  c: {type: account, enabled: false}\n",
            "config.yaml:4: connectors.c: its records would be taken for those of a (config.yaml:2): both have the "
            "namespace account:acme; give one of them a namespace of its own",
            id="one-namespace",
        ),
        pytest.param(
            "\nzentrik:\n  api_key: ${KEY_NOT_SET}",
            "config.yaml:3: zentrik.api_key: the environment has no variable KEY_NOT_SET; set it "
            "(export KEY_NOT_SET=...), or write the value here",
            id="variable",
        ),
        pytest.param(
            "ledger: 'sqlite:///${not a name}'",
            "config.yaml:1: ledger: ${...} must hold the name of a variable; write $${ for a plain ${",
            id="no-variable",
        ),
        pytest.param(
            "ledger: 'sqlite:///${OPEN'",
            "config.yaml:1: ledger: ${...} must hold the name of a variable; write $${ for a plain ${",
            id="open-variable",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_its_remedy(loads: Loads, text: str, message: str) -> None:
    """Whoever wrote the file can mend it from the message alone, and the message betrays no secret."""
    assert refusal(loads, text) == message


@pytest.mark.parametrize(
    ("ledger", "message"),
    [
        ("postgresql://u:planted@h/d", "instead of postgresql:// write postgresql+psycopg://"),
        ("postgres://u:planted@h/d", "instead of postgres:// write postgresql+psycopg://"),
        ("postgresql+asyncpg://u:planted@h/d", "instead of postgresql:// write postgresql+psycopg://"),
        (
            "postgresql+psycopg://u:planted@h",
            "names no database that can be reached; write postgresql+psycopg://user@host/database",
        ),
        ("sqlite://syncd.db", "a SQLite ledger is written with three slashes before its path, like sqlite:///syncd.db"),
        ("sqlite:///:memory:", "a ledger in memory would forget everything; name a file, like sqlite:///syncd.db"),
        (
            "planted.db",
            "is not the address of a ledger; write sqlite:///syncd.db or postgresql+psycopg://user@host/database",
        ),
        (
            "mysql://u:planted@h/d",
            "the ledger is kept in SQLite or PostgreSQL; write sqlite:///syncd.db or "
            "postgresql+psycopg://user@host/database",
        ),
    ],
)
def test_the_ledgers_address(loads: Loads, ledger: str, message: str) -> None:
    """A near miss of a database address is put right without showing the password in it."""
    assert refusal(loads, f"ledger: '{ledger}'") == f"config.yaml:1: ledger: {message}"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SYNCD_ZENTRIK__CONCURRENCY", "many", "zentrik.concurrency: must be a whole number"),
        ("SYNCD_ZENTRIK__CONCURENCY", "4", "zentrik.concurency: unknown setting; did you mean concurrency?"),
        ("SYNCD_ZENTRIK", "[broken", "zentrik: must be a mapping of settings (lines of key: value)"),
        ("SYNCD_ZENTRIK", '{"concurrency": 0}', "zentrik.concurrency: must be 1 or more"),
        ("SYNCD_WEB", "off", "web: must be a mapping of settings (lines of key: value)"),
        ("SYNCD_LEDGER", "x.db", None),
        ("ZENTRIK_API_BASE", "x", None),
        ("SYNCD_LEGER", "sqlite:///x.db", "is no setting; did you mean SYNCD_LEDGER?"),
        ("SYNCD_LEDGER__PATH", "x", "is no setting; did you mean SYNCD_LEDGER?"),
        ("SYNCD_CONECTORS__A__EVERY", "5m", "is no setting; did you mean SYNCD_CONNECTORS?"),
        ("SYNCD_CONNECTORS__A__TEAMS", "one", "connectors.a.teams: must be a list, like [one, two]"),
        ("SYNCD_CONNECTORS__A__TEAMS", "[one", 'connectors.a.teams: is not JSON; write for example ["one", "two"]'),
        ("SYNCD_CONNECTORS__A__TEEMS", "x", "connectors.a.teems: unknown setting; did you mean teams?"),
        (
            "SYNCD_CONNECTORS__B__EVERY",
            "5m",
            f"connectors.b.type: missing; say what kind of source it is: {', '.join(registry.types())}",
        ),
    ],
)
def test_a_mistake_in_a_variable_is_told_by_its_name(
    loads: Loads, variable: str, value: str, message: str | None
) -> None:
    """A mistake in the environment is not looked for in the file."""
    told = refusal(loads, "connectors: {a: {type: desk}}", **{variable: value})
    assert "config.yaml" not in told
    if message is None:
        assert told.startswith(f"{variable}: ")
    else:
        assert told == f"{variable}: {message}"


def test_what_is_missing_in_an_entry_is_looked_for_in_the_file(loads: Loads) -> None:
    """One variable for an entry does not move the entry's other mistakes into the environment."""
    told = refusal(loads, "connectors:\n  a: {every: 5m}\n", SYNCD_CONNECTORS__A__SUBDOMAIN="x")
    assert told.startswith("config.yaml:2: connectors.a.type: missing")


def test_every_mistake_is_told_at_once(loads: Loads) -> None:
    """Mending a file takes one round, not one for every mistake."""
    told = refusal(
        loads,
        """\
connectors:
  one: {type: dsek}
  two: {type: desk, every: 1s, teams: x, colour: red}
zentrik:
  concurrency: 0
ledger: nowhere
""",
        SYNCD_WEB__PORT="x",
        SYNCD_LEGER="x",
    )
    assert told.splitlines() == [
        "config.yaml:2: connectors.one.type: there is no type 'dsek'; did you mean desk?",
        "config.yaml:3: connectors.two.every: 1s is too short; write 10s or more",
        "config.yaml:3: connectors.two.teams: must be a list, like [one, two]",
        f"config.yaml:3: connectors.two.colour: unknown setting; known here: {KNOWN}",
        "config.yaml:5: zentrik.concurrency: must be 1 or more",
        "config.yaml:6: ledger: is not the address of a ledger; write sqlite:///syncd.db or "
        "postgresql+psycopg://user@host/database",
        "SYNCD_LEGER: is no setting; did you mean SYNCD_LEDGER?",
        "SYNCD_WEB__PORT: web.port: must be a whole number",
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The first thing a newcomer sees says how to begin."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "nowhere.yaml", {})
    assert str(caught.value) == (
        f"{tmp_path}/nowhere.yaml: there is no such file; `syncd init` writes one to start from, --config names another"
    )


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder, a photograph, or another encoding in place of the file is called what it is."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})
    file = tmp_path / "config.yaml"
    file.write_bytes(b"zentrik: {}\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:2: is not UTF-8; save it in that encoding"):
        load(file, {})
    file.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="is larger than a megabyte"):
        load(file, {})


@pytest.mark.parametrize(
    "text",
    [
        "x-a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"x-{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "x-a: &a {k: *a}\n",
        "x-a: &a [*a, *a]\n",
        "x-a: &a {<<: *a}\n",
        "x-a: &a {" + ", ".join(f"k{n}: 1" for n in range(500)) + "}\n"
        "x-b: &b {<<: [" + ", ".join(["*a"] * 500) + "]}\n",
        "x-a: " + "[" * 100 + "]" * 100,
        "x-a: " + "[" * 20_000,
    ],
    ids=["laughs", "circle", "circles", "merged-circle", "merged-laughs", "deep", "deeper"],
)
def test_a_file_cannot_unfold_without_end(loads: Loads, text: str) -> None:
    """A few lines of aliases cannot use up the memory of the machine."""
    assert "unfolds to more than a configuration can be" in (told := refusal(loads, text)) or "too deeply" in told


def test_a_secret_file_that_cannot_be_read_is_named(loads: Loads) -> None:
    """A secret that was not mounted is found by the path it should have."""
    told = refusal(loads, "zentrik:\n  api_key_file: nowhere")
    assert told.startswith("config.yaml:2: zentrik.api_key_file: cannot read nowhere: ")


# What travels in the open


@pytest.mark.parametrize("base", ["http://zentrik.lan/api", "HTTP://10.0.0.7:8080/api", "http://127.0.0.1.nip.io/api"])
def test_the_key_is_not_sent_in_the_open_unless_somebody_says_so(loads: Loads, base: str) -> None:
    """A forgotten s in an address does not publish the key and every record; the message names the way out."""
    told = refusal(loads, f"zentrik:\n  api_key: k\n  api_base: {base}\n")
    assert told.startswith("config.yaml:3: zentrik.api_base: over http the key and every record can be read")
    assert "allow_http: true" in told
    assert "ZENTRIK_API_BASE: zentrik.api_base: over http" in refusal(loads, "zentrik: {}", ZENTRIK_API_BASE=base)
    assert loads(f"zentrik: {{api_base: '{base}', allow_http: true}}").zentrik.api_base == base
    assert loads("zentrik: {}", ZENTRIK_API_BASE=base, SYNCD_ZENTRIK__ALLOW_HTTP="true").zentrik.allow_http


@pytest.mark.parametrize(
    "base", ["http://localhost:8080/api", "http://127.0.0.1/api", "http://[::1]:80/api", "https://z/api"]
)
def test_this_machine_may_be_spoken_to_without_encryption(loads: Loads, base: str) -> None:
    """The sandbox needs no setting to be tried."""
    assert loads(f"zentrik: {{api_base: '{base}'}}").zentrik.api_base == base


class SelfHosted(Desk):
    """A source at an address of the operator's own."""

    subdomain: str = "acme"
    base_url: str | None = None
    token_url: str | None = None


@pytest.mark.parametrize("setting", ["base_url", "token_url"])
def test_a_sources_credentials_are_not_sent_in_the_open_unless_somebody_says_so(tmp_path: Path, setting: str) -> None:
    """What holds for Zentrik's key holds for those of every source, each by itself."""

    def read(**more: object) -> Config:
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({"connectors": {"desk": {"type": "desk", **more}}}))
        return load(file, {}, lambda _: SelfHosted)

    with pytest.raises(ConfigError, match=rf"connectors\.desk\.{setting}: over http .* allow_http: true"):
        read(**{setting: "http://desk.lan/x"})
    assert read(**{setting: "http://desk.lan/x"}, allow_http=True).connectors["desk"].source.allow_http
    assert not read(**{setting: "http://localhost/x"}).connectors["desk"].source.allow_http
    assert read(**{setting: "https://desk.lan/x"})
    assert read(**{setting: "http://[nowhere"})  # it leads nowhere; that is for its connector to say


# Secrets, and what cannot be changed


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://user:pass-word-1@host/db",
        "postgresql+psycopg://user:12/pass-word-1@host/db",
        "postgresql+psycopg://user:%70ass-word-1@host/db",
        "postgresql+psycopg://user@host/db?password=pass-word-1&sslmode=require",
        "postgresql+psycopg://host/db?user=x&sslpassword=pass-word-1",
    ],
)
def test_the_ledgers_password_is_a_secret_wherever_it_stands(address: str) -> None:
    """A password in the ledger's address is known as one, in the place where the database's driver looks for it."""
    assert any("pass-word-1" in secret for secret in Config(ledger=address).secrets())


def test_an_address_without_a_password_has_no_secret() -> None:
    """A file's path is none, whatever signs are in it."""
    assert Config(ledger="sqlite:////var/lib/a:b@c/syncd.db").secrets() == ()
    assert Config(ledger="postgresql+psycopg://user@host/db?sslmode=require").secrets() == ()


@pytest.mark.parametrize(
    "key", ["type", "every", "cron", "timezone", "since", "namespace", "enabled", "subdomain", "mood", "teams", "users"]
)
@pytest.mark.parametrize("written", ["${PLANTED}", "x ${PLANTED} y"])
def test_a_secret_in_the_wrong_place_is_not_shown(loads: Loads, key: str, written: str) -> None:
    """A variable named in the wrong line does not carry a secret into a log."""
    values: dict[str, Any] = {"type": "desk", "region": {"weight": 1}, key: written}
    told = refusal(loads, yaml.safe_dump({"connectors": {"a": values}}), PLANTED=PLANTED)
    assert PLANTED not in told


def test_secrets_are_not_shown(loads: Loads) -> None:
    """Printing the configuration, or what is wrong with it, betrays nothing."""
    Path("key").write_text("file-s3cret\n")
    text = f"""
zentrik: {{api_key: '{PLANTED}'}}
ledger: postgresql+psycopg://u:p%40ss-w0rd@h/d
connectors:
  a: {{type: desk, api_token: '${{TOKEN}}', mood: calm}}
  b: {{type: desk, api_token_file: key}}
"""
    config = loads(text, TOKEN="t0ken-value")
    secrets = {PLANTED, "t0ken-value", "file-s3cret", "p%40ss-w0rd", "p@ss-w0rd"}
    assert set(config.secrets()) == secrets
    assert not [secret for secret in secrets if secret in repr(config) or secret in str(config)]
    told = refusal(
        loads,
        text.replace("calm", "'t0ken-value crash'").replace(
            "type: desk, api_token:", "type: desk, subdomain: 'my t0ken-value', api_token:"
        ),
        TOKEN="t0ken-value",
    )
    assert told == "config.yaml:5: connectors.a.subdomain: 'my ***' has spaces"


def test_the_cause_of_a_refusal_holds_no_secret(loads: Loads) -> None:
    """A traceback printed by accident shows no value either."""
    with pytest.raises(ConfigError) as caught:
        loads(f"zentrik: {{api_key: {PLANTED}, concurrency: 0}}")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_key_has_to_be_given_before_it_is_needed() -> None:
    """Commands that send nothing work without a key; the others say how to give one."""
    with pytest.raises(ConfigError) as caught:
        ZentrikSettings().require_key()
    assert str(caught.value) == (
        "there is no key for Zentrik; set the variable ZENTRIK_API_KEY, or write zentrik.api_key or "
        "zentrik.api_key_file in the configuration (keys are made in Zentrik under Settings > API keys)"
    )


def test_a_configuration_stays_as_it_was_read(loads: Loads) -> None:
    """No part of the program can change what another one works by."""
    config = loads("connectors: {a: {type: desk}}")
    entry = config.connectors["a"]
    for owner, name in [
        (config, "ledger"),
        (config.zentrik, "concurrency"),
        (entry, "every"),
        (entry.connector, "mood"),
    ]:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(owner, name, None)
    with pytest.raises(TypeError):
        config.connectors["b"] = entry  # type: ignore[index]


# Whatever comes

WORDS = [
    *Config.model_fields,
    *ZentrikSettings.model_fields,
    *ConnectorSettings.model_fields,
    *Desk.model_fields,
    *(
        "a",
        "b",
        "<<",
        "x-a",
        "api_key_file",
        "_env_file",
        "desk",
        "account",
        "null",
        "${A}",
        "${NOT_SET}",
        "$${",
        "1h",
        "-1",
    ),
]
scalars = st.one_of(
    st.sampled_from(WORDS), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates()
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {"type": st.sampled_from(["desk", "account"])},
    optional=dict.fromkeys({*ConnectorSettings.model_fields, *Desk.model_fields} - {"type"}, trees),
)
documents = st.one_of(
    trees,
    st.fixed_dictionaries(
        {},
        optional={name: trees for name in Config.model_fields if name != "connectors"}
        | {
            "zentrik": st.fixed_dictionaries({}, optional=dict.fromkeys(ZentrikSettings.model_fields, trees)),
            "connectors": st.dictionaries(st.sampled_from(["a", "b-c", "d"]), entries | trees, max_size=3),
        },
    ),
)


def accepted_or_refused(path: Path, content: bytes, environ: Mapping[str, str]) -> None:
    """Either a configuration or a refusal in words, and nothing else."""
    path.write_bytes(content)
    try:
        config = load(path, environ, lookup)
    except ConfigError as error:
        words = str(error)
    else:
        words = repr(config)
    assert words


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, written over and over."""
    return tmp_path_factory.mktemp("any") / "config.yaml"


@settings(max_examples=300, deadline=None)
@given(document=documents)
def test_any_document_is_accepted_or_refused(file: Path, document: object) -> None:
    """No file, however odd, ends in a traceback."""
    content = yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")
    accepted_or_refused(file, content, {"A": "a"})


@settings(max_examples=200, deadline=None)
@given(
    content=st.one_of(st.binary(max_size=60), st.text("ab:&*{}[]<>-!|'\"#%\n \t,?$~0.", max_size=60).map(str.encode))
)
def test_any_bytes_are_accepted_or_refused(file: Path, content: bytes) -> None:
    """A file that is no YAML at all ends in a message too."""
    accepted_or_refused(file, content, {})


@settings(max_examples=200, deadline=None)
@given(
    environ=st.dictionaries(
        st.lists(st.sampled_from([word.upper() for word in WORDS]), min_size=1, max_size=4).map(
            lambda words: "SYNCD_" + "__".join(words)
        )
        | st.sampled_from(["ZENTRIK_API_KEY", "ZENTRIK_API_BASE", "ZENTRIK_API_KEY_FILE", "SYNCD_", "SYNCD___"]),
        st.one_of(scalars.map(str), trees.map(lambda tree: json.dumps(tree, default=str)), st.just("[" * 9999)),
        max_size=4,
    )
)
def test_any_environment_is_accepted_or_refused(file: Path, environ: dict[str, str]) -> None:
    """No variable, however odd, ends in a traceback."""
    accepted_or_refused(file, b"connectors: {a: {type: desk}, b: {type: account}}", environ)


# Cron


def test_cron_is_read_as_crontab_reads_it() -> None:
    """A schedule copied from a crontab runs when it did there: Sunday is 0 and 7, steps and names are understood."""
    assert cron.parse("*/20 8-10,22 1 jan,JUN-aug sun,1,5-7") == cron.Cron(
        minutes=(0, 20, 40), hours=(8, 9, 10, 22), days=(1,), months=(1, 6, 7, 8), weekdays=(0, 1, 5, 6)
    )
    assert cron.parse("5/15 0 * * *").minutes == (5, 20, 35, 50)
    assert cron.parse("0 0 29 2 *").days == (29,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("* * * * * *", "a cron expression has five fields (minute hour day month weekday), not 6; "
         'write for example "*/10 * * * *"'),
        ("5-1 * * * *", "its minute '5-1' names no minute at all"),
        ("*/0 * * * *", "its minute '*/0' names no minute at all"),
        ("* 24 * * *", "its hour '24' is not one of 0 to 23"),
        ("* * 0 * *", "its day '0' is not one of 1 to 31"),
        ("* * * foo *", "its month 'foo' is not one of 1 to 12"),
        ("* * * * L", "its weekday 'L' is not one of 0 to 7"),
        ("1,,2 * * * *", "its minute '1,,2' is not a cron field; write for example *, */5, 1-5 or 1,15"),
        ("0 0 31 2,4 *", "that day never comes in those months"),
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_be_meant_is_refused(text: str, message: str) -> None:
    """A connector is not silently left unread because of a slip in its schedule."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        cron.parse(text)


def test_a_bound_of_a_connectors_duration_is_told_as_one_is_written(tmp_path: Path) -> None:
    """Whoever wrote too short a span reads what to write, not how Python prints it."""
    path = tmp_path / "config.yaml"
    path.write_text("connectors: {apple: {type: app_store_rss, app_id: 64, reread: 1h}}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"reread: 1h is too short; write 1d or more"):
        load(path, {})


ALERTS = """
alerts:
  name: acme
  webhook_file: hook
  email: {host: smtp.example.com, port: 465, tls: tls, username: ops, password: planted-mail-pass, to: ops@example.com}
  ping: http://127.0.0.1:9/planted-ping
  lag_over: null
"""


def test_alerts(loads: Loads) -> None:
    """Every way of being told is set up as it is written; the addresses and the password are secrets."""
    Path("hook").write_text("https://hooks.example.com/planted-hook\n", encoding="utf-8")
    config = loads(ALERTS, SYNCD_ALERTS__STOPPED_AFTER="5m", SYNCD_ALERTS__EMAIL__HOST="mail.example.com")
    alerts = config.alerts
    assert alerts.webhook is not None
    assert alerts.webhook.get_secret_value() == "https://hooks.example.com/planted-hook"
    assert (alerts.email.to, alerts.email.host, alerts.email.port) == (("ops@example.com",), "mail.example.com", 465)
    assert (alerts.stopped_after, alerts.lag_over) == (timedelta(minutes=5), None)
    assert "planted" not in repr(config)
    assert {"https://hooks.example.com/planted-hook", "planted-mail-pass", "http://127.0.0.1:9/planted-ping"} <= {
        *config.secrets()
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("webhook: hooks.planted/x", "alerts.webhook: must be a whole address, like https://hooks.example.com/"),
        ("ping: http://planted.example/x", "alerts.ping: must begin with https: whoever reads this address on the way"),
        ("webhook: 'https://planted.example/a b'", "alerts.webhook: must be a whole address"),
        ("ping: https://planted.example:0/", "alerts.ping: must be a whole address"),
        ("email: {to: [planted]}", "alerts.email.to[0]: is no e-mail address; write for example ops@example.com"),
        ("email: {sender: 'a@b.c, d@e.f'}", "alerts.email.sender: is no e-mail address"),
        ('email: {sender: "a@b.c\\nBcc: planted@e.f"}', "alerts.email.sender: is no e-mail address"),
        ("email: {tls: ssl}", "alerts.email.tls: must be one of 'starttls', 'tls' or 'none'"),
        ("email: {username: planted}", "alerts.email: username and password go together; give both or neither"),
        ("email: {host: x.example, tls: none, username: x, password: planted}", "alerts.email.tls: without encryption"),
        ("email: {pasword: planted}", "alerts.email.pasword: unknown setting; did you mean password?"),
        ("webhoook: planted", "alerts.webhoook: unknown setting; did you mean webhook?"),
        ("ping_every: 1s", "alerts.ping_every: 1s is too short; write 10s or more"),
        ("email: off", "alerts.email: must be a mapping of settings"),
    ],
)
def test_a_mistake_in_the_alerts_is_told_and_betrays_nothing(loads: Loads, text: str, message: str) -> None:
    """An address is as good as a password: it is not in the message, nor is what was meant to be one."""
    told = refusal(loads, f"alerts:\n  {text}")
    assert message in told
    assert "planted" not in told


class TestWebToken:
    """Who may see the page is settled before anything listens."""

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "syncd.acme.example"])
    def test_none_is_needed_here_and_one_is_needed_beyond(self, loads: Loads, host: str) -> None:
        """No page is opened to a network by leaving something out."""
        assert (web := loads("web: {host: localhost}").web) is not None
        assert web.token is None
        with pytest.raises(ConfigError, match=r"config.yaml:1: web\.host: .* the page wants a token; set web\.token"):
            loads(f"web: {{host: '{host}'}}")
        web = loads(f"web: {{host: '{host}', token: 0123456789abcdef}}").web
        assert web is not None
        assert web.token is not None
        assert web.token.get_secret_value() == "0123456789abcdef"

    def test_it_can_stand_in_a_file_or_a_variable(self, loads: Loads, tmp_path: Path) -> None:
        """As every other secret can."""
        (tmp_path / "token").write_text("0123456789abcdef\n", encoding="utf-8")
        for config in (
            loads(f"web: {{token_file: {tmp_path / 'token'}}}"),
            loads("", SYNCD_WEB__TOKEN="0123456789abcdef"),
        ):
            assert config.web is not None
            assert config.web.token == SecretStr("0123456789abcdef")
            assert "0123456789abcdef" in config.secrets()

    @pytest.mark.parametrize("token", ["short", "0123456789 abcdef", "0123456789abcdeü", "''"])
    def test_one_that_protects_nobody_is_refused(self, loads: Loads, token: str) -> None:
        """A token that is guessed, or that no header can carry, is told at the start, and not repeated."""
        with pytest.raises(ConfigError, match="16 or more letters") as refused:
            loads(f"web: {{token: {token}}}")
        assert token not in str(refused.value)


class TestRedact:
    """What is taken out of records: said once for all, or by each connector."""

    @pytest.mark.parametrize(
        "written", ["mask", "{}", "true", "{mode: mask, kinds: [email, phone, card, iban, key, participant]}"]
    )
    def test_a_word_is_enough(self, loads: Loads, written: str) -> None:
        """Whoever wants it on without reading further writes one word, and gets all of it."""
        entry = loads(f"redact: {written}\nconnectors:\n  a: {{type: account}}\n").connectors["a"]
        assert entry.source.redaction == Redaction()

    @pytest.mark.parametrize("written", ["null", "off", "'off'", "false"])
    def test_off_is_off(self, loads: Loads, written: str) -> None:
        """Every way of saying no is one, for all and for one connector."""
        assert loads(f"redact: {written}").redact is None
        entry = f"{{type: account, redact: {written}}}"
        config = loads(f"redact: mask\nconnectors:\n  a: {entry}\n  b: {{type: account, namespace: other}}\n")
        assert config.connectors["a"].source.redaction is None
        assert config.connectors["b"].source.redaction == Redaction()

    def test_a_connectors_own_replaces_the_one_for_all(self, loads: Loads) -> None:
        """What is said for one connector is the whole of what is done with its records."""
        config = loads(
            "redact: {mode: pseudonym, pseudonym_key: 0123456789abcdef, keep: ['@Acme.com']}\n"
            "connectors:\n  a: {type: account, redact: {kinds: [phone], region: gb}}\n"
            "  b: {type: account, namespace: b}\n  c: {type: account, namespace: c, redact: pseudonym}\n"
        )
        made = {name: entry.source.redaction for name, entry in config.connectors.items()}
        key = b"0123456789abcdef"
        assert made == {
            "a": Redaction(frozenset({Kind.PHONE}), region="GB"),
            "b": Redaction(keep=frozenset({"acme.com"}), pseudonym_key=key),
            "c": Redaction(pseudonym_key=key),
        }
        assert "0123456789abcdef" in config.secrets()

    def test_the_key_can_stand_in_a_file_or_a_variable(self, loads: Loads, tmp_path: Path) -> None:
        """As every other secret can."""
        (tmp_path / "key").write_text("0123456789abcdef\n", encoding="utf-8")
        for config in (
            loads(f"redact: {{mode: pseudonym, pseudonym_key_file: {tmp_path / 'key'}}}"),
            loads("redact: {mode: pseudonym}", SYNCD_REDACT__PSEUDONYM_KEY="0123456789abcdef"),
        ):
            assert config.redact is not None
            assert config.redact.redaction == Redaction(pseudonym_key=b"0123456789abcdef")

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("pseudonym", "mode: pseudonyms want pseudonym_key"),
            ("{mode: pseudonym}", "mode: pseudonyms want pseudonym_key"),
            ("sometimes", "must be one of"),
            ("{kinds: [names]}", "must be one of"),
            ("{kinds: []}", "must not be empty"),
            ("{keep: [acme]}", "is no domain"),
            ("{region: Europe}", "is no region"),
            ("{pseudonym_key: short}", "16 or more letters"),
            ("{mask: true}", "unknown setting"),
        ],
    )
    def test_what_would_not_protect_is_refused(self, loads: Loads, written: str, message: str) -> None:
        """A slip of the pen does not turn into records that leave unredacted."""
        assert message in refusal(loads, f"redact: {written}")
        assert message in refusal(loads, f"connectors:\n  a: {{type: account, redact: {written}}}\n")
