"""HTML and quoted mail as plain text."""

from __future__ import annotations

import re
from html import unescape

import lxml.html
import quotequail
from inscriptis import Inscriptis
from inscriptis.css_profiles import STRICT_CSS_PROFILE
from inscriptis.model.config import ParserConfig
from lxml.etree import Comment, LxmlError, ProcessingInstruction, strip_elements

_TAG = re.compile(r"<(?:[a-z][\w:-]*(?:\s[^<>]*)?/?|/[a-z][\w:-]*\s*|!--(?:(?!<!--).)*?--)>", re.IGNORECASE | re.DOTALL)
_QUOTES = (
    "//*[contains(concat(' ', @class, ' '), ' gmail_quote ')] | //blockquote[@type='cite'] | //*[@id='appendonsend']"
    " | //*[@id='divRplyFwdMsg']/following-sibling::* | //*[@id='divRplyFwdMsg']"
    " | //*[contains(concat(' ', @class, ' '), ' moz-cite-prefix ')]"
    " | //*[contains(concat(' ', @class, ' '), ' yahoo_quoted ')]"
    " | //*[contains(concat(' ', @class, ' '), ' freshdesk_quote ')]"
)
"""How mail programs and helpdesks mark what is quoted."""

_AS_IT_STANDS = ParserConfig(css=STRICT_CSS_PROFILE)
_LONGEST = 20_000
_MOST_LINES = 1_000
"""Longer messages are not searched for quoted history: they are logs and documents, and the search is not linear."""


def plain(html: str, *, is_reply: bool = False) -> str:
    """HTML as text, with its paragraphs and lists; a text that is no HTML stays as it is.

    Of a reply, what the mail program marked as quoted is left out.
    """
    if not _TAG.search(html):
        return html.replace("\xa0", " ").strip()
    parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)  # whatever the text says of its encoding
    try:
        tree = lxml.html.fromstring(html.replace("\0", "").encode(errors="replace"), parser=parser)
    except LxmlError:  # nothing but comments
        tree = None
    if tree is None or parser.error_log.filter_from_fatals():  # or cut off, for being nested thousands deep
        return unescape(_TAG.sub(" ", html)).strip()
    for quoted in tree.xpath(_QUOTES) if is_reply else ():
        if quoted.getparent() is not None:
            quoted.drop_tree()
    try:
        text = Inscriptis(tree, _AS_IT_STANDS).get_text()
    except (ValueError, RecursionError, AssertionError):  # nested hundreds deep: the words, without their form
        strip_elements(tree, "script", "style", Comment, ProcessingInstruction, with_tail=False)
        text = " ".join(tree.itertext())
    lines = (line.strip() for line in text.replace("\xa0", " ").splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def own_words(text: str, *, is_reply: bool) -> str:
    """A message without the history it quotes.

    A forwarded message is kept in the first message of a conversation, where it is what the customer wants to show, and
    left out of a reply, where mail programs write what is being answered in the same form.
    """
    if len(text) > _LONGEST or text.count("\n") > _MOST_LINES:
        return text.strip()
    match quotequail.unwrap(text):
        case {"type": "reply" | "quote"} as parts:
            pass
        case {"type": "forward", "text_top": str()} as parts if is_reply:
            pass
        case _:
            return text.strip()
    own = "\n\n".join(part.strip() for name in ("text_top", "text_bottom") if (part := parts.get(name)))
    return own or text.strip()
