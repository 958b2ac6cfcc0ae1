"""The sandbox as a whole: one workspace with its faults, listening on loopback."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from syncd.errors import ConfigError
from syncd.sandbox.app import SignalsApi
from syncd.sandbox.books import Books, Order
from syncd.sandbox.calls import Calls
from syncd.sandbox.faults import Faults, Mischief
from syncd.sandbox.registers import accounts, products
from syncd.sandbox.replies import ABORT, STOPPING

HOST = "127.0.0.1"
KEEP_ALIVE = 75
"""Seconds an idle connection stays open: longer than clients keep one, so that no post meets its closing."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """An imitation of the Signals API, for as long as it is served.

    `books` is the workspace, beside it `accounts` and `products`; `calls` is the tally of calls; `faults` may be set at
    any time. The same `seed` gives the same ids, insights and mishaps for the same calls.
    """

    def __init__(
        self,
        *,
        key: str = "sandbox-key",
        faults: Faults | None = None,
        processing_takes: timedelta = timedelta(seconds=2),
        order: Order = "newest_first",
        dedup: bool = False,
        now: Callable[[], datetime] = _utc_now,
        seed: int = 0,
    ) -> None:
        self.calls = Calls()
        # Two sources of chance, so that a fault more or less changes no id. Neither guards a secret.
        self._mischief = Mischief(faults or Faults(), now=now, random=random.Random(f"faults {seed}"))  # noqa: S311
        self.books = Books(
            now=now,
            random=random.Random(f"books {seed}"),  # noqa: S311 - as above
            processing_takes=processing_takes,
            order=order,
            dedup=dedup,
            fails=self._mischief.fails,
        )
        self.accounts = accounts(now, random.Random(f"accounts {seed}"))  # noqa: S311 - as above
        self.products = products(now, random.Random(f"products {seed}"))  # noqa: S311 - as above
        api = SignalsApi(
            key=key,
            books=self.books,
            registers={"accounts": self.accounts, "products": self.products},
            mischief=self._mischief,
            calls=self.calls,
            now=now,
        )
        self._app = api.app()

    @property
    def faults(self) -> Faults:
        """The misbehaviour in force."""
        return self._mischief.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._mischief.faults = faults

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Listen on loopback within the running loop; the address to give as `api_base`.

        Port 0 takes any free one. On the way out every connection is closed, whatever it was waiting for.
        Raises `ConfigError` when the port is taken.
        """
        config = Config(
            self._app,
            http=_Protocol,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,  # logging belongs to whoever runs this
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        state, stopping = ServerState(), asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: _Protocol(config, state, {STOPPING: stopping}), HOST, port, backlog=2048
            )
        except OSError as error:
            raise ConfigError(
                f"the sandbox cannot listen on {HOST}:{port}: {error.strerror}; choose another port"
            ) from error
        try:
            yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/api"
        finally:
            server.close()
            await asyncio.sleep(0)  # lets connections that are just being made become known
            for connection in list(state.connections):
                connection.transport.abort()
            stopping.set()
            if state.tasks:
                await asyncio.wait(state.tasks)
            await server.wait_closed()

    async def serve_forever(
        self, stop: asyncio.Event, port: int = 0, *, started: Callable[[str], object] = lambda _api_base: None
    ) -> None:
        """Serve until `stop` is set, once `started` was told the address. Raises as `serve` does."""
        async with self.serve(port) as api_base:
            started(api_base)
            await stop.wait()

    @contextmanager
    def in_thread(self, port: int = 0) -> Iterator[str]:
        """Serve from a thread of its own: for callers that block, or that wait for another process."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="sandbox", daemon=True)
        thread.start()
        serving = self.serve(port)
        try:
            api_base = asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result()
            try:
                yield api_base
            finally:
                asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class _Protocol(HttpToolsProtocol):
    """uvicorn's own, lending each request the means to abort its connection.

    It is used without uvicorn's `Server`, which would take over the process's signals and poll for its end.
    """

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, object]) -> None:
        super().__init__(config, server_state, app_state)
        self.access_log = False  # switched off here, for uvicorn's own switch is the whole process's

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["state"][ABORT] = self.transport.abort
