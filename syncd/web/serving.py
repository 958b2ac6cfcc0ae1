"""Listening within the running loop. The process's signals and its logging stay with the daemon."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from syncd.errors import ConfigError

_CONNECTIONS = 200
"""More at once are told to come back later."""

_PATIENCE = 3
"""Seconds that answers under way have to finish at the end."""


@asynccontextmanager
async def serve(app: ASGIApp, host: str, port: int) -> AsyncIterator[str]:
    """Serve until the block ends; the address to open. Port 0 takes any free one.

    Raises `ConfigError` when nothing can listen there.
    """
    config = Config(
        app,
        interface="asgi3",
        ws="none",
        lifespan="off",
        log_config=None,  # logging belongs to the daemon
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
    )
    state = ServerState()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: _Protocol(config, state, {}), host, port)
    except OSError as error:
        number = error.errno or 0  # below zero where a name is not known: then the text is the name service's
        why = os.strerror(number) if number > 0 else error.strerror or "there is no such address"
        raise ConfigError(
            f"web: the status page cannot listen on {_authority(host, port)}: {why}. Choose another web.port or "
            "web.host; web: null turns the page off"
        ) from error
    try:
        yield f"http://{_authority(*server.sockets[0].getsockname()[:2])}"
    finally:
        server.close()
        await asyncio.sleep(0)  # lets connections that are just being made become known
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=_PATIENCE)
        for connection in list(state.connections):
            connection.transport.abort()
        await server.wait_closed()


class _Protocol(HttpToolsProtocol):
    """uvicorn's own, used without its `Server`, which would take over the process's signals and poll for its end."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, object]) -> None:
        super().__init__(config, server_state, app_state)
        self.access_log = False  # one line for each look at the page would bury the others


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
