"""An imitation of the Zentrik Signals API, good enough to develop against, with faults on request.

    async with Sandbox(faults=Faults(next_posts=("cut_after",))).serve() as api_base: ...

    bodies    what may be posted, checked as the reference says
    entries   one signal, and how it is shown
    registers the accounts and products of the workspace
    books     the workspace: what was created, and what has become of it by now
    faults    how the API misbehaves
    calls     how often it was called
    replies   what goes back over the wire, broken replies included
    app       the HTTP paths
    server    all of it together, listening on loopback

The names below are loaded when first asked for: a command without a sandbox does not pay for a web server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncd.sandbox.books import Books
    from syncd.sandbox.faults import Faults
    from syncd.sandbox.server import Sandbox

__all__ = ["Books", "Faults", "Sandbox"]

_HOMES = {"Books": "books", "Faults": "faults", "Sandbox": "server"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
