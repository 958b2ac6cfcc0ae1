"""A connector's requests go to its vendor, or to where the operator says, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest
from pydantic import ValidationError

from syncd.connector import Checkpoint, Page, Window
from syncd.kit.api import Api


class Acme(Api):
    provider = "external_api"

    def home(self) -> str:
        return "https://api.acme.test"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        yield Page()

    async def check(self, http: httpx.AsyncClient) -> str:
        return "an API"


class Guarded(Acme):
    def token_address(self) -> str:
        return "https://login.acme.test/token"


def test_the_vendors_own_address_is_asked() -> None:
    """Unless the operator says otherwise; and it is the only host there is."""
    assert Acme().base == "https://api.acme.test"
    assert Acme().url("/v1/calls") == "https://api.acme.test/v1/calls"
    assert Acme().hosts() == {"api.acme.test"}
    assert Guarded().hosts() == {"api.acme.test", "login.acme.test"}


def test_another_address_takes_its_place_entirely() -> None:
    """Behind a proxy the vendor is not asked any more; a port and a path belong to the address."""
    acme = Acme(base_url="https://proxy.example:8443/acme/")
    assert acme.url("/v1/calls") == "https://proxy.example:8443/acme/v1/calls"
    assert acme.hosts() == {"proxy.example:8443"}


@pytest.mark.parametrize(
    ("base", "path", "asked"),
    [
        ("http://127.0.0.1:9/v2", "/v2/calls", "http://127.0.0.1:9/v2/calls"),
        ("http://127.0.0.1:9/proxy/v2/", "/v2/calls?page=2", "http://127.0.0.1:9/proxy/v2/calls?page=2"),
        ("http://127.0.0.1:9/api/v2", "/api/v2/calls", "http://127.0.0.1:9/api/v2/calls"),
        ("http://127.0.0.1:9/graphql", "/graphql", "http://127.0.0.1:9/graphql"),
        ("http://127.0.0.1:9/graphql", "/graphql?x=1", "http://127.0.0.1:9/graphql?x=1"),
        ("http://127.0.0.1:9/v2", "/v20/calls", "http://127.0.0.1:9/v2/v20/calls"),
        ("http://127.0.0.1:9/av2", "/v2/calls", "http://127.0.0.1:9/av2/v2/calls"),
        ("http://127.0.0.1:9/v2", "https://api.acme.test/v2/calls", "http://127.0.0.1:9/v2/calls"),
        ("http://127.0.0.1:9/v2", "/calls/v2", "http://127.0.0.1:9/v2/calls/v2"),
    ],
)
def test_what_the_address_ends_with_is_not_repeated(base: str, path: str, asked: str) -> None:
    """Whether the operator writes the version of the API into base_url or not, it is asked at one address."""
    assert Acme(base_url=base).url(path) == asked


@pytest.mark.parametrize(
    ("link", "asked"),
    [
        ("https://api.acme.test/v1/calls?page=2", "https://proxy.example/acme/v1/calls?page=2"),
        ("https://api.acme.test?page=2", "https://proxy.example/acme?page=2"),
        ("https://proxy.example/acme/v1/calls?page=2", "https://proxy.example/acme/v1/calls?page=2"),
        ("https://api.acme.test.evil.example/v1", "https://api.acme.test.evil.example/v1"),
        ("https://evil.example/https://api.acme.test/", "https://evil.example/https://api.acme.test/"),
        ("http://api.acme.test/v1", "http://api.acme.test/v1"),
    ],
)
def test_a_link_of_the_vendor_leads_through_the_proxy_as_well(link: str, asked: str) -> None:
    """Its own links are followed where it is asked; others stay what they are, and their hosts are not declared."""
    assert Acme(base_url="https://proxy.example/acme").url(link) == asked


@pytest.mark.parametrize("link", ["https://api.acme.test/v1/calls?page=2", "https://api.acme.test?page=2"])
def test_without_a_proxy_links_are_followed_as_they_are(link: str) -> None:
    """The vendor knows its pages."""
    assert Acme().url(link) == link


@pytest.mark.parametrize(
    "address", ["api.acme.test", "ftp://api.acme.test", "https://key@api.acme.test", "https://a.test?x=1", "https://"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """When the configuration is read, and not in the night."""
    with pytest.raises(ValidationError):
        Acme(base_url=address)
