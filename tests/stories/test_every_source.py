"""Every source through the real command, over real sockets: from its vendor's imitation to Zentrik's."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
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


class Abroad:
    """A vendor at one address of ours, that takes itself to be at its own: what is asked at `/~zoom.us/x` is asked at
    `https://zoom.us/x`, and where its answers name its own hosts, they lead here."""

    def __init__(self, vendor: Callable[[httpx.Request], httpx.Response], connector: Connector) -> None:
        self.vendor = vendor
        self.connector = connector

    def __call__(self, request: httpx.Request) -> httpx.Response:
        here = f"http://{request.url.netloc.decode()}"
        path = request.url.raw_path.decode()
        host, _, rest = path.removeprefix("/~").partition("/")
        home = self.connector.base if isinstance(self.connector, Api) else here
        there = f"https://{host}/{rest}" if path.startswith("/~") else home + path
        headers = [(name, value) for name, value in request.headers.multi_items() if name != "host"]
        answer = self.vendor(httpx.Request(request.method, there, headers=headers, content=request.content))
        body = answer.text
        for own in self.connector.hosts():
            body = body.replace(f"https://{own}/", f"{here}/~{own}/")
        kept = {name: value for name, value in answer.headers.items() if name != "content-length"}
        return httpx.Response(answer.status_code, headers=kept, content=body.encode())


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
        written["token_url"] = f"{address}/~{tokens.removeprefix('https://')}"
    return written


def _written(value: object) -> object:
    return f"{value.total_seconds()}s" if hasattr(value, "total_seconds") else list(value)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_imported_once(name: str, tmp_path: Path) -> None:
    """An operator's first evening with a source: the key is checked, everything arrives, and nothing arrives twice."""
    case: Case = importlib.import_module(f"tests.connectors.vendors.{name}").CASE
    with quick_sandbox().in_thread() as zentrik, serve(Abroad(case.full(), case.connector)) as vendor:
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
