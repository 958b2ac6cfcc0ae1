"""The connections to Zentrik: aiohttp's, behind httpx's interface for transports.

Chosen by measurement (docs/performance.md): with many calls under way httpx's own pool spends several times the
processor. And made here, because one thing must be told exactly: whether anything of a request can have been sent.
`httpx.ConnectError`, `ConnectTimeout` and `ProxyError` say that nothing was; any other error, that nobody knows. (The
package httpx-aiohttp calls it a ConnectTimeout when a connection is reset after the request: it would be sent twice.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from io import BytesIO
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

from syncd.trust import authorities

_KEPT_SECONDS = 5.0
"""How long an idle connection is used again: shorter than servers keep one, so that no post meets its closing."""

_LARGE = 2**20
"""So many bytes are sent a portion at a time; aiohttp warns who gives it more at once."""


class Connections(httpx.AsyncBaseTransport):
    """Up to `most` connections, opened as they are needed. An answer is as it came: unpacked by `httpx.Response`.

    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY). No cookie is kept, no redirect followed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Reading them takes as long as a call. One named without a scheme is spoken to over http, as everywhere.
        self._proxies = {
            scheme: proxy if "://" in proxy else f"http://{proxy}"
            for scheme, proxy in getproxies().items()
            if scheme in ("http", "https", "all")
        }
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request whose content is at hand, for as long as its extension `timeout` allows."""
        limits = request.extensions.get("timeout", {})
        connect, pool = limits.get("connect"), limits.get("pool")
        with _as_httpx():
            answer = await self._opened(request.url.scheme).request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw],
                data=BytesIO(request.content) if len(request.content) > _LARGE else request.content or None,
                allow_redirects=False,
                proxy=self._proxy_for(request.url) if self._proxies else None,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=None if connect is None or pool is None else connect + pool,
                    sock_connect=connect,
                    sock_read=limits.get("read"),
                ),
            )
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Content(answer), request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _proxy_for(self, url: httpx.URL) -> str | None:
        proxy = None if proxy_bypass(url.host) else self._proxies.get(url.scheme) or self._proxies.get("all")
        if proxy and not proxy.startswith(("http://", "https://")):
            raise httpx.ProxyError(f"a proxy is asked over http or https only, not {proxy.partition('://')[0]}")
        return proxy

    def _opened(self, scheme: str) -> aiohttp.ClientSession:
        if self._session is None:  # it can only be made within a running loop
            trust = authorities() if scheme == "https" or self._proxies else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._most, keepalive_timeout=_KEPT_SECONDS, ssl=trust),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


class _Content(httpx.AsyncByteStream):
    """The content of an answer, as it comes in."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for some in self._answer.content.iter_any():
                yield some

    async def aclose(self) -> None:
        """Give the connection back; one with something left to read is closed."""
        self._answer.release()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """What went wrong, as httpx names it."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(str(error)) from error
    except aiohttp.ClientProxyConnectionError as error:
        raise httpx.ProxyError(f"the proxy: {_words(error)}") from error
    except aiohttp.ClientHttpProxyError as error:  # its own words name the proxy's address, password and all
        raise httpx.ProxyError(f"the proxy answers {error.status}") from None
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(_words(error)) from error
    except aiohttp.InvalidURL as error:
        raise httpx.UnsupportedProtocol(str(error)) from error
    except aiohttp.ServerTimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error
    except aiohttp.ClientError as error:
        raise httpx.ReadError(str(error) or type(error).__name__) from error


def _words(error: aiohttp.ClientConnectorError) -> str:
    """Why there is no connection, without the address: whoever tells it names that."""
    return (error.os_error.strerror or str(error.os_error)) if error.os_error else str(error)
