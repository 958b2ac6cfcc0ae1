"""Authorization that is fetched or signed on the way: OAuth client credentials, JWT grants, keys that sign."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import jwt
from pydantic import SecretStr

from syncd.connector import CredentialsRefused

_MARGIN = 60.0
"""A token is renewed so many seconds before it expires: a request takes its time, and clocks differ."""


class Bearer(httpx.Auth):
    """A token that stays the same. `scheme` is the word before it."""

    def __init__(self, token: SecretStr, scheme: str = "Bearer") -> None:
        self._header = f"{scheme} {token.get_secret_value()}"

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        request.headers["Authorization"] = self._header
        yield request


@dataclass(slots=True)
class Fetched(httpx.Auth):
    """A bearer token from a token endpoint, kept until shortly before it expires, and fetched anew after a 401.

    `ask` makes the request for it (see `token_request`); `clock` gives seconds that never run backwards.
    """

    ask: Callable[[], httpx.Request]
    clock: Callable[[], float] = time.monotonic
    token: str | None = field(default=None, repr=False)
    good_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        for is_second in (False, True):
            async with self.lock:  # requests that are made side by side fetch one token
                if self.token is None or self.clock() >= self.good_until:
                    self._keep((yield self.ask()))
                token = self.token
            request.headers["Authorization"] = f"Bearer {token}"
            answer = yield request
            if answer.status_code != 401 or is_second:
                return
            if self.token == token:
                self.token = None

    def _keep(self, answer: httpx.Response) -> None:
        try:
            given = answer.json()
            token, lasts = given["access_token"], float(given.get("expires_in") or 3600)
            if not (token and isinstance(token, str)):
                raise ValueError("no token in its place")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CredentialsRefused(f"{answer.request.url.host} was asked for a token and gave none") from error
        self.token = token
        self.good_until = self.clock() + max(lasts - _MARGIN, 0)


def token_request(
    address: str, form: Mapping[str, str], *, client: tuple[str, SecretStr] | None = None, query: bool = False
) -> httpx.Request:
    """A POST for a token; `client` are the id and secret of Basic authentication. With `query` the form stands in the
    address, as Zoom has it."""
    where: dict[str, Any] = {"params": form} if query else {"data": form}
    request = httpx.Request("POST", address, **where, extensions={"idempotent": True})
    if client:
        basic = httpx.BasicAuth(client[0], client[1].get_secret_value())
        next(basic.sync_auth_flow(request))
    return request


@dataclass(slots=True)
class Signed(httpx.Auth):
    """A bearer token that we sign ourselves, used until shortly before its end.

    `sign` makes one, valid from a Unix time in seconds on for `lasts` (see `signed`).
    """

    sign: Callable[[int], str]
    lasts: timedelta
    clock: Callable[[], float] = time.time
    token: str | None = field(default=None, repr=False)
    good_until: float = 0.0

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        now = self.clock()
        if self.token is None or now >= self.good_until:
            self.token = self.sign(int(now))
            self.good_until = now + self.lasts.total_seconds() - _MARGIN
        request.headers["Authorization"] = f"Bearer {self.token}"
        yield request


def signed(claims: Mapping[str, Any], key: SecretStr, algorithm: str, *, key_id: str | None = None) -> str:
    """A JWT with these claims. Raises `CredentialsRefused` when the key is none for that algorithm."""
    headers = {"kid": key_id} if key_id else None
    try:
        return jwt.encode(dict(claims), key.get_secret_value(), algorithm=algorithm, headers=headers)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:  # the latter: of a public key, by PyJWT
        raise CredentialsRefused(
            f"the private key cannot sign ({algorithm}): it is not a key of that kind, or was not copied whole, with "
            "its BEGIN and END lines and the line breaks between"
        ) from error
