"""The mapping in a configuration: mistakes are found there, and an entry without one changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config import load
from syncd.errors import ConfigError
from syncd.mapping import NOTHING, Mapping

ENTRY = "connectors:\n  support:\n    type: zendesk\n    subdomain: acme\n    oauth_token: made-up\n"


def loaded(folder: Path, lines: str, entry: str = ENTRY) -> Mapping:
    file = folder / "config.yaml"
    file.write_text(entry + "".join(f"    {line}\n" for line in lines.splitlines()), encoding="utf-8")
    [connector] = load(file, {}).connectors.values()
    return connector.source.mapping


def test_an_entry_without_a_mapping_has_none(tmp_path: Path) -> None:
    """Whoever maps nothing gets the records as they are."""
    assert loaded(tmp_path, "every: 5m") == NOTHING


def test_one_way_to_an_account_needs_no_list(tmp_path: Path) -> None:
    """The common case is one line; several ways keep their order, and the last says what to do without an account."""
    [one] = loaded(tmp_path, "account: {domain: true}").account
    assert one.domain is True
    several = loaded(tmp_path, "account:\n  - external_id: '{{ record.id }}'\n  - {name: Acme, on_missing: create}")
    assert [way.external_id or way.name for way in several.account] == ["{{ record.id }}", "Acme"]
    assert several.on_missing == "create"


def test_a_product_is_a_name_or_a_rule(tmp_path: Path) -> None:
    """A product for all records is written alone."""
    plain, ruled = loaded(tmp_path, "products: [app, {when: record.title, product: web}]").products
    assert (plain.product, plain.when) == ("app", None)
    assert (ruled.product, ruled.when) == ("web", "record.title")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("title: '{{ record.titel }}'", r"config.yaml:6: connectors.support.title: record has no 'titel'"),
        ("where: '{{ record.title }}'", r"config.yaml:6: connectors.support.where: write the expression alone"),
        ("attributes:\n  team: '{{ team }}'", r"config.yaml:7: connectors.support.attributes.team: it knows `record`"),
        ("signal_type: poem", r"connectors.support.signal_type: 'poem' is not a signal type"),
        ("account: {domain: true, name: Acme}", r"connectors.support.account.*: give one of"),
        ("account: {on_missing: create}", r"connectors.support.account.*: give one of"),
        ("account: {domain: true, on_missing: hope}", r"connectors.support.account.*leave.*create"),
        (
            "account:\n  - domain: true\n  - name: '{{ nobody }}'",
            r"yaml:8: connectors.support.account.*`record`",
        ),
        ("products: [{when: row.x, product: a}]", r"connectors.support.products.*`record`"),
        ("raw_signal: {data: {text: '{{ record.titel }}'}}", r"connectors.support.raw_signal.*no 'titel'"),
        ("raw_signal: {externalId: x}", r"connectors.support.raw_signal.*the record's own"),
        ("raw_signal: true\naccount: {domain: true}", r"connectors.support.raw_signal: a raw signal names no account"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, lines: str, complaint: str) -> None:
    """No template fails at night over the first record that could have been seen to fail by day."""
    with pytest.raises(ConfigError, match=complaint):
        loaded(tmp_path, lines)


def test_a_type_keeps_its_own_setting_of_the_same_name(tmp_path: Path) -> None:
    """The csv type reads title and where over its rows, as it always did; what it lacks is read over the record."""
    csv = "connectors:\n  inbox:\n    type: csv\n    path: inbox\n"
    mapping = loaded(tmp_path, "title: '{{ row.t }}'\nwhere: row.t\ncontext: '{{ record.title }}'", csv)
    assert (mapping.title, mapping.where, mapping.context) == (None, None, "{{ record.title }}")
    with pytest.raises(ConfigError, match="`row`"):
        loaded(tmp_path, "title: '{{ record.t }}'", csv)
