"""Every source through the real command, over real sockets: from its vendor's imitation to Zentrik's."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import yaml
from pydantic import SecretStr

from syncd.connector import Connector
from syncd.kit.api import Api
from syncd.promises import Case
from tests.connectors.serving import serve
from tests.stories.conftest import quick_sandbox

VENDORS = Path(__file__).parent.parent / "connectors" / "vendors"
NAMES = [path.stem for path in sorted(VENDORS.glob("[a-z]*.py"))]


def entry(type_: str, connector: Connector, address: str) -> dict[str, Any]:
    """The connector as it stands in a configuration, its vendor being at that address."""
    given = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name in connector.model_fields_set
        if (value := getattr(connector, name)) is not None
    }
    written: dict[str, Any] = json.loads(json.dumps({"type": type_, **given}, default=_written))
    written["base_url"] = address
    if isinstance(connector, Api) and (tokens := connector.token_address()):
        here = urlsplit(address)
        written["token_url"] = urlunsplit(urlsplit(tokens)._replace(scheme=here.scheme, netloc=here.netloc))
    return written


def _written(value: object) -> object:
    return f"{value.total_seconds()}s" if hasattr(value, "total_seconds") else list(value)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_imported_once(name: str, tmp_path: Path) -> None:
    """An operator's first evening with a source: the key is checked, everything arrives, and nothing arrives twice."""
    case: Case = importlib.import_module(f"tests.connectors.vendors.{name}").CASE
    with quick_sandbox().in_thread() as zentrik, serve(case.full()) as vendor:
        config = {
            "zentrik": {"api_base": zentrik, "api_key": "sandbox-key", "poll_interval": "200ms"},
            "ledger": f"sqlite:///{tmp_path / 'syncd.db'}",
            "connectors": {"source": entry(name, case.connector, vendor)},
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")

        def syncd(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "syncd", "--config", str(path), *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=100)

        checked = syncd("check")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        first, again = [json.loads(syncd("run-once", "--json").stdout) for _ in range(2)]
        kept = [json.loads(line) for line in syncd("signals", "--json").stdout.splitlines()]
    source = first["connectors"]["source"]
    assert source["error"] is None
    namespace = case.connector.default_namespace("source") or f"{name}:source"
    assert {line["externalId"] for line in kept} == {f"{namespace}:{id_}" for id_ in case.ids}
    assert source["new"] == first["signals"]["processed"] == len(case.ids)
    assert (again["connectors"]["source"]["new"], again["connectors"]["source"]["changed"], again["posted"]) == (
        0,
        0,
        0,
    )
