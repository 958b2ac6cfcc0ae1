"""The mapping as the operator writes it: which records, in what words, of which account and products.

Any connector's entry may have these settings; `shape` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from syncd.expressions import Condition, Template, holds_jinja, leaves, template
from syncd.fields import Settings
from syncd.records import KINDS

OnMissing = Literal["leave", "create", "hold"]


def _kind(source: str | None) -> str | None:
    if source is not None and not holds_jinja(source) and source.strip() not in KINDS:
        raise ValueError(f"{source!r} is not a signal type; it is one of {', '.join(KINDS)}")
    return source


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, dict | Settings) else value


def _raw(value: object) -> object:
    """The fields of a raw body: anything JSON has, its texts templates."""
    if value is None or isinstance(value, bool):
        return value or None
    if not isinstance(value, AnyMapping):
        raise ValueError("must be true, or a mapping of the body's fields")
    if "externalId" in value:
        raise ValueError("externalId: is the record's own, and may not be given; leave it out")
    for place, source in leaves(value, "raw_signal"):
        try:
            template(source)
        except ValueError as error:
            raise ValueError(f"{place.partition('.')[2]}: {error}") from error
    return value


class AccountRule(Settings):
    """One way to find the account a record comes from; exactly one of the first four.

    `domain: true` is the organisation's, else that of the first customer's e-mail address. `file` is a CSV file with
    the columns match and externalId; what is matched is the organisation's id, domain or name.
    """

    external_id: Template | None = None
    domain: Template | Literal[True] | None = None
    name: Template | None = None
    file: Path | None = None
    on_missing: OnMissing = "leave"

    @model_validator(mode="after")
    def _one_way(self) -> AccountRule:
        if sum(way is not None for way in (self.external_id, self.domain, self.name, self.file)) != 1:
            raise ValueError("give one of external_id, domain, name and file; several are written as a list of such")
        return self


class ProductRule(Settings):
    """A product by its externalId or its name, of the records for which `when` holds."""

    product: Template
    when: Condition | None = None


def _product(value: object) -> object:
    return {"product": value} if isinstance(value, str) else value


class Mapping(Settings):
    """How the records of a connector are changed before they become signals. By default they are not."""

    where: Condition | None = None
    title: Template | None = None
    text: Template | None = None
    context: Template | None = None
    signal_type: Annotated[Template, AfterValidator(_kind)] | None = None
    attributes: dict[str, Template] = Field(default_factory=dict)
    raw_signal: Annotated[bool | dict[str, Any] | None, BeforeValidator(_raw)] = None
    account: Annotated[tuple[AccountRule, ...], BeforeValidator(_one_or_more)] = ()
    products: tuple[Annotated[ProductRule, BeforeValidator(_product)], ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Mapping:
        if self.raw_signal is not None and (self.account or self.products):
            raise ValueError(
                "raw_signal: a raw signal names no account and no products; leave out account and products, or send it "
                "as a text"
            )
        return self

    @property
    def on_missing(self) -> OnMissing:
        """What is done about an account that none of the ways finds: what the last of them says."""
        return self.account[-1].on_missing if self.account else "leave"


NAMES = tuple(Mapping.model_fields)
"""The settings of the mapping; a connector type that has one of the same name keeps its own."""

NOTHING = Mapping()
"""Records as their connector gives them."""
