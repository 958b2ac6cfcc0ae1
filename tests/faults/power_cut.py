"""The `syncd` command in a process of its own, and a world where the power fails at a given point of its work.

| point | the process is killed |
|---|---|
| `commit:n` | right after the n-th commit of the ledger |
| `send-before:n` | right before the n-th HTTP request leaves; what it is about is in the ledger by then |
| `send-after:n` | right after the n-th HTTP answer has arrived, before anybody has looked at it |
| `page-before:n` | right before the connector's n-th page is handed over |
| `page-after:n` | right after the n-th page was taken in, when the connector is asked to go on |

The command is watched from outside and knows nothing of it. A run that never comes to its point ends as it always does.

Importing syncd takes longer than running it over a few rows: one process imports it, every run is forked off that one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeAlias

import alembic.command  # noqa: F401 - what a run imports when it comes to it, ready beforehand
import httpx
import psycopg  # noqa: F401 - as above
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import Pool

import syncd.app  # noqa: F401 - as above
from connectors._dropfolder import batch
from connectors.csv import DropFolder
from syncd.cli import main
from syncd.connector import Checkpoint, Page, Window
from syncd.transport import Connections

POINTS = ("commit", "send-before", "send-after", "page-before", "page-after")

ITEMS = 2
"""A page has so many items in a run that is watched, so that a few rows have a boundary between them."""

Thaw: TypeAlias = Callable[[], subprocess.CompletedProcess[str]]

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])
_alone = threading.Lock()  # whoever starts a process asks how the others ended; an exit code can be read only once


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, point: str | None = None, limit: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run the command in that folder, and kill it when it comes to `point`. Raises `TimeoutExpired` after `limit` s."""
    process = _processes.Process(target=_run, args=(arguments, dict(environment), folder, point), daemon=True)
    with _alone:
        process.start()
    ended = wait([process.sentinel], limit)
    with _alone:
        if not ended:
            process.kill()
        process.join()
        status = process.exitcode
    if not ended:
        raise subprocess.TimeoutExpired(["syncd", *arguments], limit, *_written(folder, process.pid))
    assert status is not None
    return subprocess.CompletedProcess(arguments, status, *_written(folder, process.pid))


@contextmanager
def frozen(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, point: str) -> Iterator[Thaw]:
    """Run the command in that folder until it comes to `point` and is stopped there (SIGSTOP), as by a hung machine.

    What is yielded lets it go on, and gives what became of it.
    """
    process = _processes.Process(target=_run, args=(arguments, dict(environment), folder, point, signal.SIGSTOP))
    with _alone:
        process.start()
    assert process.pid is not None
    stopped = folder / f"{process.pid}.stopped"
    try:
        while not stopped.exists():
            assert not wait([process.sentinel], 0.05), f"it ended before {point}: {_written(folder, process.pid)}"

        def thaw() -> subprocess.CompletedProcess[str]:
            os.kill(process.pid or 0, signal.SIGCONT)
            assert wait([process.sentinel], 60), "it does not end"
            with _alone:
                process.join()
            return subprocess.CompletedProcess(arguments, process.exitcode or 0, *_written(folder, process.pid))

        yield thaw
    finally:
        with _alone:
            process.kill()
            process.join()


def _written(folder: Path, pid: int | None) -> tuple[str, str]:
    out, errors = (folder / f"{pid}.{name}" for name in ("out", "err"))
    return out.read_text(encoding="utf-8"), errors.read_text(encoding="utf-8")


def _run(
    arguments: Sequence[str],
    environment: dict[str, str],
    folder: Path,
    point: str | None,
    blow: signal.Signals = signal.SIGKILL,
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{os.getpid()}.{name}", os.O_WRONLY | os.O_CREAT, 0o600), stream)
    sys.argv = ["syncd", *arguments]
    if point is not None:
        _watch(point, folder / f"{os.getpid()}.stopped", blow)
    main()


def _watch(fatal: str, note: Path, blow: signal.Signals) -> None:
    """Have this process killed, or stopped, when it comes to that point; `note` appears just before."""
    kind, _, number = fatal.partition(":")
    assert kind in POINTS, kind
    passed: Counter[str] = Counter()

    def passing(point: str) -> None:
        passed[point] += 1
        if point == kind and passed[point] == int(number):
            note.touch()
            signal.pthread_kill(threading.get_ident(), blow)  # this thread takes not one step more

    committing: set[int] = set()

    @event.listens_for(sa.Engine, "commit")
    def _(connection: sa.Connection) -> None:
        committing.add(id(connection.connection.dbapi_connection))  # told just before it commits

    @event.listens_for(Pool, "checkin")
    def _(connection: object, _record: object) -> None:
        if id(connection) in committing:
            committing.discard(id(connection))
            passing("commit")

    send = Connections.handle_async_request

    async def watched_send(transport: Connections, request: httpx.Request) -> httpx.Response:
        passing("send-before")
        response = await send(transport, request)
        passing("send-after")
        return response

    fetch = DropFolder.fetch

    async def watched_fetch(
        folder: DropFolder, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        async with aclosing(fetch(folder, http, checkpoint, window)) as pages:
            async for page in pages:
                passing("page-before")
                yield page
                passing("page-after")

    Connections.handle_async_request = watched_send  # type: ignore[method-assign]
    DropFolder.fetch = watched_fetch  # type: ignore[method-assign]
    batch.ITEMS = ITEMS
