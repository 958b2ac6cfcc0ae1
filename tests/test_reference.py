"""docs/configuration.md, made of the settings."""

from __future__ import annotations

from pathlib import Path

from syncd import reference, registry
from syncd.config import Config

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"


def rows(section: str) -> dict[str, list[str]]:
    """The cells of a section's table, by setting."""
    text = reference.page().partition(f" {section}\n")[2].partition("\n#")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")] for line in lines]
    return {name.strip("`"): rest for name, *rest in cells}


def test_the_page_is_the_one_that_is_made() -> None:
    """The reference tells of the settings as they are, not as they once were."""
    again = "it is out of date: python -m syncd.reference > docs/configuration.md"
    assert PAGE.read_text(encoding="utf-8") == reference.page(), again


def test_every_setting_has_a_row_with_all_that_can_be_said_of_it() -> None:
    """A setting's name, form, default and meaning stand in its row; no cell breaks the table."""
    told = rows("`zentrik`")
    assert told["concurrency"][:2] == ["number", "`16`"]
    assert told["nack_window"][1] == "`{refused: 30, of: 40}`"
    assert "from Settings > API keys" in told["api_key"][2]
    assert told["api_key"][2].endswith("Or `api_key_file`: a file to read it from.")
    assert rows("`connectors`")["every"][1] == "`1h`"
    assert rows("`alerts.email`")["tls"] == ["starttls ¦ tls ¦ none", "`starttls`", "See `host`."]
    for line in reference.page().splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 5, line
            assert not line.endswith("|  |"), line


def test_every_group_and_every_type_is_there() -> None:
    """Nothing that can be set is missing from the page."""
    page = reference.page()
    top = rows("At the top")
    for name in Config.model_fields:
        assert name in top or f"\n## `{name}`\n" in page, name
    for name in registry.types():
        assert set(registry.connector_class(name).model_fields) == set(rows(f"`{name}`")), name


def test_a_comment_is_for_the_settings_right_below_it() -> None:
    """No setting is explained by the words of another one."""
    text = """
# One.
#one: 1

# Away.

# Two,
# and more.
group:
  # In it.
  #first: 1
  #second: 2
last:
"""
    assert dict(reference._explained(text)) == {
        ("one",): "One.",
        ("group",): "Two, and more.",
        ("group", "first"): "In it.",
        ("group", "second"): "See `first`.",
        ("last",): "",
    }
