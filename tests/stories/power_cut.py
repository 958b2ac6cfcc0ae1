"""The `syncd` command in a world where the power fails: the process kills itself right after its n-th commit.

    python power_cut.py N ARGUMENTS...

It prints nothing of its own. A run that has fewer commits ends as it always does.
"""

from __future__ import annotations

import os
import signal
import sys

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import Pool

from syncd.cli import main

cut_after = int(sys.argv.pop(1))
committing: set[int] = set()
commits = 0


@event.listens_for(sa.Engine, "commit")
def _(connection: sa.Connection) -> None:
    committing.add(id(connection.connection.dbapi_connection))


@event.listens_for(Pool, "checkin")
def _(connection: object, _record: object) -> None:
    global commits
    if id(connection) not in committing:
        return
    committing.discard(id(connection))
    commits += 1
    if commits == cut_after:
        os.kill(os.getpid(), signal.SIGKILL)


main()
