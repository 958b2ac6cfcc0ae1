"""The Atlassian Document Format as plain text.

The libraries for it make such documents, or write Markdown and stop at nodes they do not know; what is needed here is a
dozen lines.
"""

from __future__ import annotations

_BETWEEN = {"doc": "\n\n", "paragraph": "", "heading": "", "codeBlock": "", "tableRow": " | "}
"""What stands between the parts of a node; of all others each part has a line of its own."""


def written(node: object) -> str:
    """What a document, or a node of one, says: its words, lists, tables, mentions and links; nothing, if it is none.

    It is nested as deep as JSON can be read, and no deeper.
    """
    match node:
        case str():  # what Jira gave before there were documents
            return node
        case {"type": "text", "text": str(words)} | {"attrs": {"text": str(words)}}:  # the latter: mentions, emoji
            return words
        case {"attrs": {"url": str(url)}}:  # cards
            return url
        case {"type": "hardBreak"}:
            return "\n"
        case {"type": str(kind), "content": list(parts)}:
            text = _BETWEEN.get(kind, "\n").join(filter(None, map(written, parts)))
            return f"* {text}" if kind == "listItem" else text
        case _:
            return ""
