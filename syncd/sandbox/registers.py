"""The accounts and the products of the workspace, and how the reference has them asked for. No I/O."""

from __future__ import annotations

import random as chance
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from syncd.sandbox.bodies import Body, Filled, Invalid, JsonObject


class Taken(ValueError):
    """Another of the same register has this externalId."""


class Unlisted(LookupError):
    """None of the register has this id."""


class _Account(Body):
    """What an account is created from."""

    name: Filled
    external_id: str | None = None
    domain: str | None = None
    website: str | None = None
    industry: str | None = None
    company_size: str | None = None
    lifecycle_stage: str | None = None
    notes: str | None = None


class _Product(Body):
    """What a product is created from."""

    name: Filled
    external_id: str | None = None
    description: str | None = None
    type: str | None = None
    stack: str | None = None
    mission: str | None = None


class Register:
    """Things of one kind, by id. Where `unique`, a second one with an externalId is refused; else it is created, for
    the reference says of products alone that it is not."""

    def __init__(
        self,
        model: type[Body],
        *,
        unique: bool,
        now: Callable[[], datetime],
        random: chance.Random,
    ) -> None:
        self._model = model
        self._unique = unique
        self._now = now
        self._random = random
        self._kept: dict[str, JsonObject] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[JsonObject]:
        return iter(self._kept.values())

    def create(self, body: object) -> JsonObject:
        """Take a posted JSON value in. Raises `Invalid` and `Taken`."""
        try:
            fields = self._model.model_validate(body).model_dump(by_alias=True)
        except ValidationError as error:
            told = error.errors(include_url=False, include_context=False, include_input=False)
            raise Invalid(
                "; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in told)
            ) from error
        external_id = fields["externalId"]
        if self._unique and external_id and self.find({"externalId": external_id}):
            raise Taken(f"the externalId {external_id} already exists in this workspace")
        at = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        id_ = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        self._kept[id_] = {"id": id_, **fields, "createdAt": at, "updatedAt": at}
        return self._kept[id_]

    def get(self, id_: str) -> JsonObject:
        """One of them. Raises `Unlisted`."""
        try:
            return self._kept[id_]
        except KeyError as error:
            raise Unlisted(f"there is none with the id {id_[:60]!r}") from error

    def find(self, wanted: Mapping[str, str]) -> list[JsonObject]:
        """Those that match everything wanted: externalId, name or domain exactly (the last two whatever their case), or
        q anywhere."""
        return [one for one in self._kept.values() if all(_matches(one, *each) for each in wanted.items())]


def accounts(now: Callable[[], datetime], random: chance.Random) -> Register:
    """A workspace's accounts, none yet."""
    return Register(_Account, unique=False, now=now, random=random)


def products(now: Callable[[], datetime], random: chance.Random) -> Register:
    """A workspace's products, none yet."""
    return Register(_Product, unique=True, now=now, random=random)


def _matches(one: Mapping[str, Any], field: str, wanted: str) -> bool:
    said = {name: value.casefold() for name, value in one.items() if isinstance(value, str)}
    match field:
        case "externalId":
            return bool(one["externalId"] == wanted)
        case "name":
            return said.get("name") == wanted.casefold()
        case "domain":
            host = urlsplit(said.get("website", "")).hostname
            return wanted.casefold() in (said.get("domain"), said.get("website"), host)
        case _:
            searched = ("name", "domain", "website", "externalId", "description", "type")
            return any(wanted.casefold() in said.get(name, "") for name in searched)
