"""The accounts and products of the workspace: the calls that look for them, and the one that creates an account.

Source: Zentrik External REST API (Accounts, Products).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from syncd.fates import Blocked, Gone, Refused
from syncd.logs import holds_secret
from syncd.zentrik import PAGE_SIZE, Said, Troubled, Zentrik

Kind: TypeAlias = Literal["accounts", "products"]

_FIELDS = {"externalId": ("externalId",), "name": ("name",), "domain": ("domain", "website")}
_LONGEST = 512


@dataclass(frozen=True, slots=True)
class Entity:
    """An account or a product: Zentrik's id of it, and the one it has in the operator's own systems."""

    id: str
    external_id: str | None = None

    @property
    def named_by(self) -> tuple[str, str]:
        """The field of a body that names it as an account, and the id that stands there."""
        return ("accountId", self.id) if self.external_id is None else ("accountExternalId", self.external_id)


class Workspace:
    """What there is in a workspace besides signals. A call that a scope is missing for ends in `Blocked`."""

    def __init__(self, zentrik: Zentrik) -> None:
        self._zentrik = zentrik

    async def find(self, kind: Kind, field: str, value: str) -> tuple[Entity, ...] | Blocked | Troubled:
        """Those that have this value in that field: externalId, domain or name. What Zentrik refuses to look for is not
        there."""
        params: dict[str, str | int] = {field: value, "limit": PAGE_SIZE}
        match await self._zentrik.within(f"{kind}:read", "GET", f"/{kind}", params):
            case Said(list() as items):
                # Whoever answers with others too does not know this filter.
                fitting = [item for item in items if isinstance(item, dict) and _fits(item, field, value)]
                return tuple(dict.fromkeys(entity for item in fitting if (entity := _entity(item))))
            case Said():
                return Troubled(f"{self._zentrik.api_base} did not answer with a list of {kind}")
            case Gone():
                return Troubled(f"{self._zentrik.api_base} knows no {kind}")
            case Refused():
                return ()
            case Blocked() | Troubled() as told:
                return told

    async def create_account(self, fields: Mapping[str, str]) -> Entity | Refused | Blocked | Troubled:
        """Create an account. After `Troubled` it may be there or not: look before anything else."""
        match await self._zentrik.within("accounts:write", "POST", "/accounts", body=fields):
            case Said(dict() as item) if entity := _entity(item):
                return entity
            case Said():
                return Troubled("the answer is not an account")
            case Gone():
                return Troubled(f"{self._zentrik.api_base} knows no accounts")
            case Refused() | Blocked() | Troubled() as told:
                return told


def _entity(item: Mapping[str, Any]) -> Entity | None:
    """What is answered, parsed; None where it is none, or one by ids that cannot be posted again."""
    id_, external_id = _id(item.get("id")), _id(item.get("externalId"))
    return Entity(id_, external_id) if id_ else None


def _id(value: object) -> str | None:
    is_one = isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() and not holds_secret(value)
    return value if is_one and isinstance(value, str) else None


def _fits(item: Mapping[str, Any], field: str, value: str) -> bool:
    said = [text for name in _FIELDS[field] if isinstance(text := item.get(name), str)]
    match field:
        case "externalId":
            return value in said
        case "domain":
            return any(_host(text) == _host(value) for text in said)
        case _:
            return any(text.strip().casefold() == value.casefold() for text in said)


def _host(text: str) -> str:
    """`https://www.Acme.com/` as acme.com."""
    plain = text.strip().casefold()
    return (plain.partition("://")[2] or plain).partition("/")[0].removeprefix("www.")
