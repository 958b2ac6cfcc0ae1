"""Redaction from outside: what people wrote of themselves never reaches Zentrik."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from syncd.sandbox import Faults, Sandbox
from tests.connectors.serving import serve
from tests.connectors.vendors.zendesk import FakeZendesk, comment, ticket, zendesk
from tests.stories.conftest import Operator, moved_in, quick_sandbox
from tests.stories.test_every_source import Abroad, entry

ROWS = (
    "id,comment\n"
    '1,"Write to jane@example.org, or call +49 30 901820."\n'
    "2,Fine.\n"
    '3,"My card 4111 1111 1111 1111 was charged twice, DE89370400440532013000 too; token=9f8A7b6C5d4E3f2A1b0C"\n'
    "x@example.org,An id that gives somebody away.\n"
)
PRIVATE = re.compile(r"jane|example\.org|901820|4111|DE89|9f8A|Mia|Ortiz|globex\.test", re.IGNORECASE)


def configured(operator: Operator, redact: object) -> None:
    """The operator's configuration, with that redaction for all."""
    path = operator.folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**config, "redact": redact}), encoding="utf-8")


def arrived(sandbox: Sandbox) -> list[str]:
    """All that Zentrik has of each signal."""
    return [repr(sandbox.books._entry(str(each["publicId"])).draft) for each in sandbox.books.page(100, 0)]


def test_a_folder_gives_nobody_away(operator: Operator, sandbox: Sandbox) -> None:
    """An operator sees in the dry run what would be taken out; then just that is, and each record says how much."""
    operator.drop("october.csv", ROWS)
    configured(operator, "mask")
    dry = operator.syncd("run-once", "--dry-run").stdout
    assert "# 1 e-mail address, 1 phone number taken out" in dry
    assert "redaction: 1 e-mail address, 1 phone number, 1 card number, 1 IBAN, 1 key taken out" in dry
    lines = [json.loads(line) for line in operator.syncd("run-once", "--dry-run", "--json").stdout.splitlines()]
    assert all(set(line) == {"connector", "externalId", "body"} for line in lines)

    figures = operator.run_once()
    assert figures["redacted"] == {"email": 1, "phone": 1, "card": 1, "iban": 1, "key": 1}
    assert figures["connectors"]["survey"]["skipped"] == 1
    assert len(arrived(sandbox)) == 3
    assert not [text for text in arrived(sandbox) if PRIVATE.search(text)]
    told = json.loads(operator.syncd("show", "csv:survey:1", "--json").stdout)
    assert told["redacted"] == {"email": 1, "phone": 1}
    assert told["body"]["text"] == "Write to [email], or call [phone]."
    assert {line["externalId"]: line["body"]["text"] for line in lines}["csv:survey:1"] == told["body"]["text"]
    assert "redacted" not in json.loads(operator.syncd("show", "csv:survey:2", "--json").stdout)
    assert "map another id" in operator.syncd("skipped", "--json").stdout
    assert operator.run_once()["posted"] == 0


def test_what_waited_leaves_redacted_when_it_is_turned_on(operator: Operator, sandbox: Sandbox) -> None:
    """An operator who turns it on while records wait for a key that may write need do nothing more."""
    operator.drop("october.csv", ROWS.rpartition("x@")[0])
    sandbox.faults = Faults(scopes=("signals:read",))
    assert operator.syncd("run-once").returncode == 3
    assert [row["state"] for row in operator.signals()] == ["queued"] * 3
    sandbox.faults = Faults()
    configured(operator, {"mode": "pseudonym", "pseudonym_key": "0123456789abcdef"})
    queued = [
        json.loads(line)["body"] for line in operator.syncd("run-once", "--dry-run", "--json").stdout.splitlines()
    ]
    assert operator.run_once()["signals"]["processed"] == 3
    assert not [text for text in arrived(sandbox) if PRIVATE.search(text)]
    there = [sandbox.books.text(str(each["publicId"])) for each in sandbox.books.page(100, 0)]
    assert sorted(each["text"] for each in queued) == sorted(there)


def test_a_vendors_tickets_give_nobody_away(tmp_path: Path) -> None:
    """The customer of a ticket is in its text, its people and its links, and in none of it at Zentrik; colleagues at a
    domain to keep are."""
    words = "Mia here (mia@globex.test). Thanks, ORTIZ. Sam from sam@acme.test helped, card 4111-1111-1111-1111."
    vendor = FakeZendesk([ticket(1, subject="Mia Ortiz cannot export")], threads={1: [comment(1, words)]})
    sandbox = quick_sandbox()
    with sandbox.in_thread() as zentrik, serve(Abroad(vendor, zendesk())) as address:
        operator = moved_in(tmp_path / "home", zentrik)
        path = operator.folder / "config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config |= {"redact": {"keep": ["acme.test"]}, "connectors": {"desk": entry("zendesk", zendesk(), address)}}
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        figures = operator.run_once()
    assert figures["signals"]["processed"] == 1
    [text] = arrived(sandbox)
    assert not PRIVATE.search(text), text
    assert "sam@acme.test" in text
    assert "[person]" in text
