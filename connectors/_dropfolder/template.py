"""The operator's settings read over a row: a text holding `{{ }}` is a Jinja template, any other a constant."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import jinja2
from jinja2 import meta, nodes
from pydantic import AfterValidator

from connectors._dropfolder.table import Columns
from syncd.connector import RecordError
from syncd.kit.templates import Sandbox

Cells: TypeAlias = Sequence[str]

_JINJA = Sandbox()
_RENDERING = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a template can raise over a row that it was not written for."""


def as_lines(pairs: Sequence[tuple[str, str]]) -> str:
    """Filled columns as «name: value» lines."""
    return "\n".join(f"{name}: {value}" for name, value in pairs)


class Row:
    """`row` in a template. It has nothing but columns, so that `row.items` is the column of that name."""

    __slots__ = ("__cells", "__columns")

    def __init__(self, columns: Columns, cells: Cells) -> None:
        self.__columns, self.__cells = columns, cells

    def __getitem__(self, name: str) -> str:
        place = self.__columns.find(name) if isinstance(name, str) else None
        if place is None:
            raise KeyError(name)
        return self.__cells[place]

    def __contains__(self, name: str) -> bool:
        return self.__columns.find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.__columns.names)

    def __str__(self) -> str:
        return as_lines(self.__columns.filled(self.__cells))


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled setting. `needs` are the columns it names without making sure that they are there."""

    run: Callable[[Row], Any]
    needs: tuple[str, ...] = ()
    constant: str | None = None
    """What it gives for every row alike."""
    column: str | None = None
    """The column that is all there is to it (`{{ row.comment }}`), read without Jinja."""

    def missing(self, columns: Columns) -> str | None:
        """The first column that it needs and the header does not have."""
        return next((name for name in self.needs if columns.find(name) is None), None)

    def over(self, columns: Columns, setting: str) -> Callable[[Cells], Any]:
        """The setting as a function of a row's cells, which raises `RecordError` where it cannot be worked out."""
        if self.constant is not None:
            constant = self.constant
            return lambda cells: constant  # noqa: ARG005 - the same for all
        if self.column is not None and (place := columns.find(self.column)) is not None:
            return operator.itemgetter(place)

        def evaluated(cells: Cells) -> Any:
            try:
                return self.run(Row(columns, cells))
            except _RENDERING as error:
                raise RecordError(f"{setting}: {error}") from error

        return evaluated


@functools.lru_cache(maxsize=1024)
def template(source: str) -> Expression:
    """A setting that gives text, without space around it.

    Raises `ValueError` when it is not Jinja, or knows anything but `row`.
    """
    if not _holds_jinja(source):
        constant = source.strip()
        return Expression(lambda row: constant, constant=constant)  # noqa: ARG005 - the same for all
    needs, column = _analysed(source)
    render = _JINJA.from_string(source).render
    return Expression(lambda row: render(row=row).strip(), needs, column=column)


@functools.lru_cache(maxsize=1024)
def condition(source: str) -> Expression:
    """A setting that gives yes or no: an expression alone, without `{{ }}`. Raises `ValueError` as `template` does."""
    if _holds_jinja(source):
        raise ValueError("write the expression alone, without {{ }}, for example: row.comment")
    needs, _ = _analysed("{{ (" + source + "\n) }}")
    run = _JINJA.compile_expression(source, undefined_to_none=False)
    return Expression(lambda row: bool(run(row=row)), needs)


def _is_template(source: str) -> str:
    template(source)
    return source


def _is_condition(source: str) -> str:
    condition(source)
    return source


Template = Annotated[str, AfterValidator(_is_template)]
"""A setting for `template`, refused with the configuration when it cannot be compiled."""

Condition = Annotated[str, AfterValidator(_is_condition)]
"""A setting for `condition`, refused with the configuration when it cannot be compiled."""


def _holds_jinja(source: str) -> bool:
    return "{{" in source or "{%" in source


def _analysed(source: str) -> tuple[tuple[str, ...], str | None]:
    """The columns a template needs, and the one that is all of it, if so."""
    try:
        tree = _JINJA.parse(source)
        _JINJA.from_string(source)
    except jinja2.TemplateError as error:
        raise ValueError(f"it is not a Jinja template: {error}") from error
    if tree.find(nodes.Macro) or tree.find(nodes.CallBlock):
        raise ValueError("it may not define macros; a setting is about one row")
    unknown = sorted(meta.find_undeclared_variables(tree) - _JINJA.globals.keys() - {"row"})
    if unknown:
        raise ValueError(f"it knows `row` and nothing else; write row.{unknown[0]} for the column {unknown[0]!r}")
    named = [name for node in tree.find_all((nodes.Getattr, nodes.Getitem)) if (name := _column(node))]
    guarded = set(_guarded(tree))
    match tree.body:
        case [nodes.Output(nodes=[only])]:
            column = _column(only)
        case _:
            column = None
    return tuple(dict.fromkeys(name for name in named if name not in guarded)), column


def _guarded(tree: nodes.Template) -> Iterator[str]:
    """The columns whose absence is provided for: `| default`, `is defined`, `'x' in row`."""
    for node in tree.find_all((nodes.Filter, nodes.Test, nodes.Compare)):
        match node:
            case nodes.Filter(name="default" | "d", node=inner) | nodes.Test(name="defined" | "undefined", node=inner):
                if inner is not None and (name := _column(inner)):
                    yield name
            case nodes.Compare(
                expr=nodes.Const(value=str(name)),
                ops=[nodes.Operand(op="in" | "notin", expr=nodes.Name(name="row"))],
            ):
                yield name


def _column(node: nodes.Node) -> str | None:
    """The column that `row.x` or `row["x"]` names."""
    match node:
        case nodes.Getattr(node=nodes.Name(name="row"), attr=name):
            return str(name)
        case nodes.Getitem(node=nodes.Name(name="row"), arg=nodes.Const(value=str(name))):
            return name
    return None
