"""What the sandbox's tests share: a clock set by hand, and a client of a served sandbox over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from syncd.sandbox import Sandbox

Served = Callable[[Sandbox], AbstractAsyncContextManager[httpx.AsyncClient]]


class Clock:
    """Stands still until told to go on."""

    def __init__(self) -> None:
        self.at = datetime(2025, 3, 21, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def goes_on(self, **span: float) -> None:
        self.at += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served() -> Served:
    """`async with served(sandbox) as http`: a client with the default key, asking below /api/external/v1."""

    @asynccontextmanager
    async def serve(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            sandbox.serve() as api_base,
            httpx.AsyncClient(
                base_url=f"{api_base}/external/v1",
                headers={"Authorization": "Bearer sandbox-key"},
                verify=False,
                trust_env=False,
            ) as http,
        ):
            yield http

    return serve


@pytest.fixture
def review() -> dict[str, Any]:
    """The body of the reference's example request."""
    return {
        "text": "Users love the product overall, but exports are hard to find.",
        "signalType": "review",
        "providerType": "g2",
        "externalId": "g2-review:review-row-1",
        "additionalContext": "Public review batch collected from G2 and Capterra.",
        "occurredAt": "2025-03-11T14:30:00Z",
        "productIds": ["product-uuid-1"],
        "accountExternalId": "crm-example-account",
        "sourceExternalData": {"reviewId": "review-row-1", "rating": 3, "productSlug": "example-product"},
        "sourceLinks": [
            {
                "name": "Open G2 review",
                "url": "https://www.g2.com/products/example-product/reviews/review-row-1",
                "type": "review",
                "primary": True,
            }
        ],
    }


@pytest.fixture
def ticket() -> dict[str, Any]:
    """The raw signal of the import template's example input."""
    return {
        "externalId": "client-demo:support-ticket-1",
        "name": "Support ticket — SSO provisioning timeout",
        "source": {
            "type": "manual-text",
            "external_data": {
                "signalType": "support_ticket",
                "analysisProfile": "support_ticket",
                "provider": "client_helpdesk_export",
                "dataset": "march_priority_tickets",
            },
        },
        "data": {"transcriptText": "SCIM group sync times out.", "additionalContext": "Treat as a ticket."},
    }
