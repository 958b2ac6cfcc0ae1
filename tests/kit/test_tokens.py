"""Authorization that is fetched or signed on the way is there in time, renewed in time, and refused in plain words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import SecretStr

from syncd.connector import CredentialsRefused
from syncd.kit.tokens import Bearer, Fetched, Signed, signed, token_request
from tests.connectors.vendors import basic

API = "https://api.acme.test/calls"
TOKENS = "https://login.acme.test/token"
HOUR = 3600.0


class Office:
    """An API, and the endpoint of its tokens: each token is a new one, and only the last one given is good."""

    def __init__(self, answer: dict[str, Any] | None = None) -> None:
        self.answer = {"expires_in": HOUR} if answer is None else answer
        self.fetched = 0
        self.shown: list[str] = []
        self.revoked = False
        self.time = 1000.0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # others may come between
        if str(request.url) == TOKENS:
            self.fetched += 1
            self.revoked = False
            return httpx.Response(200, json={"access_token": f"token-{self.fetched}"} | self.answer)
        self.shown.append(request.headers["Authorization"])
        is_good = self.shown[-1] == f"Bearer token-{self.fetched}" and not self.revoked
        return httpx.Response(200 if is_good else 401)

    def client(self, ask: Callable[[], httpx.Request] | None = None) -> httpx.AsyncClient:
        auth = Fetched(ask or (lambda: token_request(TOKENS, {})), clock=lambda: self.time)
        return httpx.AsyncClient(transport=httpx.MockTransport(self), auth=auth)


async def test_requests_side_by_side_fetch_one_token() -> None:
    """A token endpoint is asked once, however many calls begin together."""
    office = Office()
    async with office.client() as http:
        answers = await asyncio.gather(*(http.get(API) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert office.fetched == 1


async def test_a_token_is_renewed_shortly_before_it_expires() -> None:
    """No call is made with a token that may be over when it arrives, and none is thrown away while it is good."""
    office = Office()
    async with office.client() as http:
        await http.get(API)
        office.time += HOUR - 61
        await http.get(API)
        assert office.fetched == 1
        office.time += 1
        assert (await http.get(API)).status_code == 200
    assert office.fetched == 2
    assert office.shown == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_a_token_that_is_refused_is_fetched_anew_once() -> None:
    """A vendor may take a token back early; one that refuses the new one as well means it."""
    office = Office()
    async with office.client() as http:
        await http.get(API)
        office.revoked = True
        assert (await http.get(API)).status_code == 200
        assert office.fetched == 2
        office.revoked = True

        async def refuse(request: httpx.Request) -> httpx.Response:
            given = await office(request)
            office.revoked = True
            return given

        http._transport = httpx.MockTransport(refuse)
        assert (await http.get(API)).status_code == 401
    assert office.fetched == 3


async def test_requests_that_are_refused_side_by_side_fetch_one_token() -> None:
    """Of twenty calls with a token that was taken back, one renews it for all."""
    office = Office()
    async with office.client() as http:
        await http.get(API)
        office.revoked = True
        answers = await asyncio.gather(*(http.get(API) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert office.fetched == 2


async def test_a_refusal_that_comes_late_costs_no_second_token() -> None:
    """A call that was under way with the old token goes on with the new one, which another call has fetched."""
    office = Office()
    under_way, renewed = asyncio.Event(), asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        given = await office(request)
        if request.url.path == "/slow" and given.status_code == 401:
            under_way.set()
            await renewed.wait()
        return given

    async with office.client() as http:
        http._transport = httpx.MockTransport(answer)
        await http.get(API)
        office.revoked = True
        slow = asyncio.create_task(http.get("https://api.acme.test/slow"))
        await under_way.wait()
        await http.get(API)
        renewed.set()
        assert (await slow).status_code == 200
    assert office.fetched == 2


@pytest.mark.parametrize("lasts", [{}, {"expires_in": None}, {"expires_in": "3600"}])
async def test_a_token_lasts_an_hour_unless_told_otherwise(lasts: dict[str, Any]) -> None:
    """A vendor that does not say how long, or says it as a text, is understood."""
    office = Office(lasts)
    async with office.client() as http:
        await http.get(API)
        office.time += HOUR - 61
        await http.get(API)
        assert office.fetched == 1
        office.time += 1
        await http.get(API)
    assert office.fetched == 2


async def test_a_token_of_a_moment_is_used_once() -> None:
    """One that is over before the margin serves the call it was fetched for."""
    office = Office({"expires_in": 5})
    async with office.client() as http:
        assert (await http.get(API)).status_code == 200
        assert (await http.get(API)).status_code == 200
    assert office.fetched == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b"{}", b'{"access_token": null}', b'{"access_token": ""}', b'{"access_token": 7}',
     b'{"access_token": "x", "expires_in": "soon"}', b'{"access_token": "x", "expires_in": [1]}'],
)  # fmt: skip
async def test_an_answer_without_a_token_is_a_refusal(body: bytes) -> None:
    """Nobody goes on with a token that is none: what was asked, and who gave nothing, is said."""
    auth = Fetched(lambda: token_request(TOKENS, {}))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    async with httpx.AsyncClient(transport=transport, auth=auth) as http:
        with pytest.raises(CredentialsRefused, match=r"login\.acme\.test was asked for a token and gave none"):
            await http.get(API)
        assert auth.token is None
        assert not auth.lock.locked()


async def test_after_a_failure_the_next_request_fetches_a_token() -> None:
    """A token endpoint that is down for a moment does not lock the others out."""
    office = Office()
    broken = True

    async def answer(request: httpx.Request) -> httpx.Response:
        if broken and str(request.url) == TOKENS:
            raise httpx.ConnectError("down")
        return await office(request)

    async with office.client() as http:
        http._transport = httpx.MockTransport(answer)
        with pytest.raises(httpx.ConnectError):
            await http.get(API)
        broken = False
        assert (await http.get(API)).status_code == 200


def test_a_token_is_asked_for_with_basic_authentication() -> None:
    """The client's secret stands in its header, and neither in the address nor in the form."""
    request = token_request(TOKENS, {"grant_type": "client_credentials"}, client=("id", SecretStr("s3cret")))
    assert request.method == "POST"
    assert request.headers["Authorization"] == basic("id", "s3cret")
    assert parse_qs(request.content.decode()) == {"grant_type": ["client_credentials"]}
    assert str(request.url) == TOKENS
    assert request.extensions["idempotent"]


def test_a_form_may_stand_in_the_address() -> None:
    """Zoom takes its grant there."""
    request = token_request(TOKENS, {"grant_type": "account_credentials", "account_id": "a b"}, query=True)
    assert dict(request.url.params) == {"grant_type": "account_credentials", "account_id": "a b"}
    assert request.content == b""
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(("scheme", "header"), [({}, "Bearer k3y"), ({"scheme": "Token"}, "Token k3y")])
async def test_a_key_that_stays_the_same_is_shown(scheme: dict[str, str], header: str) -> None:
    """Under the word that the vendor wants."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=request.headers["Authorization"]))
    async with httpx.AsyncClient(transport=transport, auth=Bearer(SecretStr("k3y"), **scheme)) as http:
        assert (await http.get(API)).text == header


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> SecretStr:
    return SecretStr(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (P256, "ES256")])
def test_what_is_signed_can_be_verified(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, algorithm: str) -> None:
    """Whoever has the public key can see that it was us, and what we claim."""
    claims = {"iss": "acme", "aud": "vendor", "iat": 1, "exp": 4_000_000_000}
    token = signed(claims, pem(key), algorithm, key_id="k-1")
    assert jwt.decode(token, key.public_key(), algorithms=[algorithm], audience="vendor") == claims
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": "k-1", "typ": "JWT"}
    assert "kid" not in jwt.get_unverified_header(signed(claims, pem(key), algorithm))
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token[:-8] + "AAAAAAAA", key.public_key(), algorithms=[algorithm], audience="vendor")


PUBLIC = P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
WHOLE = pem(P256).get_secret_value()


@pytest.mark.parametrize(
    "key",
    ["", "junk", "ключ", WHOLE[:100], WHOLE.replace("\n", "\\n"), PUBLIC, pem(RSA).get_secret_value(),
     pem(ec.generate_private_key(ec.SECP384R1())).get_secret_value()],
    ids=["empty", "junk", "not ASCII", "cut off", "line breaks escaped", "public", "RSA", "another curve"],
)  # fmt: skip
def test_a_key_that_cannot_sign_is_refused_with_advice(key: str) -> None:
    """Most keys that fail were not copied whole; the message says so, and does not show the key."""
    with pytest.raises(CredentialsRefused, match=r"cannot sign \(ES256\).* BEGIN and END lines") as refused:
        signed({}, SecretStr(key), "ES256")
    assert not key or key not in str(refused.value)


async def test_a_signed_token_is_made_anew_shortly_before_its_end() -> None:
    """One signature serves many calls, and none is made with a token that may be over."""
    now = 1_000.9
    made: list[int] = []

    def sign(at: int) -> str:
        made.append(at)
        return f"token-{at}"

    shown: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        shown.append(request.headers["Authorization"])
        return httpx.Response(200)

    auth = Signed(sign, timedelta(minutes=20), clock=lambda: now)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), auth=auth) as http:
        await http.get(API)
        now += 20 * 60 - 60.5
        await http.get(API)
        assert made == [1000]
        now += 0.6
        await http.get(API)
    assert made == [1000, 2141]
    assert shown == ["Bearer token-1000", "Bearer token-1000", "Bearer token-2141"]


def test_no_token_stands_in_a_repr() -> None:
    """What was fetched or signed is as secret as what stands in the settings."""
    fetched = Fetched(lambda: token_request(TOKENS, {}), token="t0ken")
    assert "t0ken" not in repr(fetched) + repr(Signed(str, timedelta(1), token="t0ken")) + repr(
        Bearer(SecretStr("t0ken"))
    )
