"""Templates over a record: what they see, what they refuse, and that nothing in a record gets the better of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from syncd.connector import Organisation, Person, Record, RecordError
from syncd.expressions import condition, template, view
from syncd.templates import LONGEST_TEXT

TICKET = Record(
    id="7",
    kind="support_ticket",
    title="Export",
    text="It takes too long.",
    occurred_at=datetime(2026, 3, 1, 9, tzinfo=UTC),
    people=(Person("Ada", "ada@acme.test", "customer"), Person("Bo", None, "agent")),
    organisation=Organisation(name="Acme"),
    attributes={"tags": ["mobile", "beta"], "items": 3, "nested": {"keys": "k"}},
)


@pytest.mark.parametrize(
    ("written", "comes_out"),
    [
        ("the same for all", "the same for all"),
        ("  {{ record.title }} ", "Export"),
        ("{{ record.organisation.name }} {{ record.organisation.domain }}", "Acme"),
        ("{{ record.context }}", ""),
        ("{{ record.people | map(attribute='name') | join(', ') }}", "Ada, Bo"),
        ("{{ record.occurred_at.year }}", "2026"),
        ("{{ record.attributes.items }}{{ record.attributes.nested.keys }}", "3k"),
        ("{{ record.attributes.colour | default('none') }}", "none"),
        ("{% for one in record.people if one.email %}{{ one.email }}{% endfor %}", "ada@acme.test"),
        ("{{ record.attributes.nested | tojson }}", '{"keys": "k"}'),
        ("{{ record.text.replace('long', 'short') }}", "It takes too short."),
    ],
)
def test_a_template_sees_what_the_source_gave(written: str, comes_out: str) -> None:
    """What the guide says a template can ask of a record, it gets; what is not known is empty."""
    assert template(written)(view(TICKET)) == comes_out


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("{{ record.titel }}", "record has no 'titel'"),
        ("{{ record['titel'] }}", "record has no 'titel'"),
        ("one\n{{ record.organisation.domian }}", r"record.organisation has no 'domian'.*line 2"),
        ("{{ row.title }}", "knows `record` and nothing else, not `row`"),
        ("one\ntwo {{ record.title ", "line 2"),
        ("{% if record.title %}x", "not a Jinja template"),
        ("{{ record.title | shout }}", "No filter named 'shout'"),
        ("{% macro f() %}{% endmacro %}", "macros"),
        ("{% set x %}{{ record.text }}{% endset %}", "blocks"),
        ("{% for a in record.text %}{% for b in record.text %}x{% endfor %}{% endfor %}", "loop"),
        ("{% for a in [[]] recursive %}{{ loop(a) }}{% endfor %}", "loop"),
        ("{{ " + "1 + " * 4000 + "1 }}", "longer than"),
        ("{{ " + "(" * 900 + "1" + ")" * 900 + " }}", "not a Jinja template"),
    ],
)
def test_a_mistake_is_told_before_anything_is_read(written: str, complaint: str) -> None:
    """A template that can never work is refused with the configuration, with the line of it that is wrong."""
    with pytest.raises(ValueError, match=complaint):
        template(written)


def test_a_condition_is_an_expression_alone() -> None:
    """`where` gives yes or no; written as a template it would always be yes, and is refused."""
    assert condition("'mobile' in record.attributes.tags")(view(TICKET))
    assert not condition("record.context")(view(TICKET))
    with pytest.raises(ValueError, match="without"):
        condition("{{ record.title }}")


@pytest.mark.parametrize(
    "written",
    [
        "{{ record.attributes.colour }}",
        "{{ record.title + 1 }}",
        "{{ record.people[7].name }}",
        "{{ record.text.__class__.__mro__ }}",
        "{{ record | attr('_View__values') }}",
        "{{ 'a' * 10**9 }}",
        "{{ range(10**6) | list }}",
        "{{ record.text.replace('', record.text * 1000) }}",
        "{% for n in range(10000) %}{{ record.text * 400 }}{% endfor %}",
    ],
)
@pytest.mark.timeout(20)
def test_what_cannot_be_worked_out_costs_that_record_only(written: str) -> None:
    """A template that fails over a record, reaches for Python's inside, or would run away, sets the record aside."""
    long = Record(id="7", kind="review", text="x" * 6000, attributes={})
    with pytest.raises(RecordError):
        template(written)(view(long))


@pytest.mark.parametrize("way", ["| replace('', record.text)", "| list | join(record.text)", "| indent(record.text)"])
def test_a_text_is_not_multiplied_by_another(way: str) -> None:
    """A long record cannot be blown up to its own square, by whatever filter."""
    long = Record(id="7", kind="review", text="x\n" * 4000)
    with pytest.raises(RecordError, match=f"longer than {LONGEST_TEXT}"):
        template("{{ record.text " + way + " }}")(view(long))


def test_a_value_that_a_record_does_not_have_is_said_with_those_it_has() -> None:
    """Whoever reads why a record was set aside sees what could have been written instead."""
    record = view(Record(id="1", kind="review", text="x", attributes={"stars": 3, "locale": "de"}))
    with pytest.raises(RecordError, match=r"^there is no 'company', but stars, locale$"):
        template("{{ record.attributes.company }}")(record)
    with pytest.raises(RecordError, match=r"^there is no 'company', but nothing$"):
        template("{{ record.attributes.company }}")(view(Record(id="1", kind="review", text="x")))
