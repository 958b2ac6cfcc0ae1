"""Imitations of the vendors, each as strict about credentials, parameters and paging as its vendor."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime

import httpx

from syncd import http_client
from syncd.connector import Connector
from syncd.promises import Vendor

SECRET = "made-up-secret-4f1c"
"""The secret that every imitation takes."""

STRANGE = "שלום مرحبا 日本語 🦆 \u202eabc <b>x & y</b>"
"""A text in many scripts, with a sign that turns the writing round, and what looks like HTML."""


def basic(user: str, password: str) -> str:
    """The Authorization header of a user and a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def only(request: httpx.Request, *names: str) -> dict[str, str]:
    """The request's parameters; one that the vendor does not document is an error of the connector."""
    params = dict(request.url.params)
    assert params.keys() <= set(names), f"{request.url} has parameters beside {names}"
    return params


def iso(at: datetime) -> str:
    """A time in UTC as most vendors write it."""
    return at.isoformat().replace("+00:00", "Z")


def after(calls: int, vendor: Vendor, refusal: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    """A vendor that refuses everything after so many calls."""
    made = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal made
        made += 1
        return vendor(request) if made <= calls else refusal

    return answer


def lent(connector: Connector, vendor: Vendor, now: datetime) -> httpx.AsyncClient:
    """The client that the house would lend, with that vendor for a network; it waits for nothing."""

    async def sleep(_: float) -> None:
        pass

    return http_client.lend(
        connector, clock=lambda: now, sleep=sleep, draw=lambda: 0.5, transport=httpx.MockTransport(vendor)
    )
