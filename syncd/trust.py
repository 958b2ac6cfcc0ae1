"""Whom to trust at the other end of an encrypted connection."""

from __future__ import annotations

import os
import ssl
from functools import cache

import httpx

_NAMED_BY = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""The variables that name other authorities than the usual ones."""


def authorities() -> ssl.SSLContext:
    """What every connection is checked by. Reading them takes as long as a reading with nothing new, so it is done
    once."""
    return _read(*map(os.environ.get, _NAMED_BY))


@cache
def _read(*_named: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()
