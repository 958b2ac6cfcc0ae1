"""What stands in mails and tickets arrives as a person would read it, whatever it is made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.kit.markup import own_words, plain


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One.</p><p>Two &amp; three.</p>", "One.\n\nTwo & three."),
        ("<div>One</div><div>Two</div>", "One\nTwo"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("<ul><li>a</li><li>b</li></ul>", "* a\n* b"),
        ("<p>see <a href='https://acme.test'>the <b>page</b></a></p>", "see the page"),
        ("<p>a&nbsp;b</p>", "a b"),
        ("<head><style>p {color: red}</style></head><p>a</p><script>alert(1)</script>", "a"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><p>Grüße &amp; Küsse</p>', "Grüße & Küsse"),
        ("<p>a<o:p></o:p></p><?xml:namespace prefix = o />", "a"),
        ("<p>שלום <b>日本語</b> 🦆</p>", "שלום 日本語 🦆"),
        ("<p>1 &lt; 2</p>", "1 < 2"),
        ("<p>a\0b</p>", "ab"),
        ("<p>a\ud800b</p>", "a?b"),
        ("<!-- nothing -->", ""),
        ("</p>", ""),
        ("<p></p>", ""),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    """Paragraphs, lists and line breaks stay; tags, styles and scripts go; no word is lost."""
    assert plain(html) == text


@pytest.mark.parametrize(
    "text", ["1 < 2 and 3 > 2", "a <- b", "x <3 y", "&amp; stays", "<user@acme.test> wrote", "a\n\n\n\nb"]
)
def test_a_text_that_is_no_html_stays_as_it_is(text: str) -> None:
    """What only looks a little like HTML loses nothing."""
    assert plain(text) == text


QUOTES = [
    '<div class="gmail_quote gmail_quote_container">older</div>',
    '<blockquote type="cite">older</blockquote>',
    '<div id="appendonsend">older</div>',
    '<div id="divRplyFwdMsg">From: Kim</div><div>older</div>',
    '<div class="moz-cite-prefix">older</div>',
    '<div class="yahoo_quoted">older</div>',
    '<div class="freshdesk_quote">older</div>',
]


@pytest.mark.parametrize("quoted", QUOTES)
def test_what_a_mail_program_marks_as_quoted_is_left_out_of_a_reply(quoted: str) -> None:
    """History is not said again; in the first message it is what the customer wants to show."""
    html = f"<div><p>newer</p>{quoted}</div>"
    assert plain(html, is_reply=True) == "newer"
    assert "older" in plain(html)


def test_quotes_within_quotes_are_left_out_as_well() -> None:
    """A long exchange is quoted in layers."""
    quote = '<blockquote type="cite">'
    assert plain(f"<div>newer{quote}older{quote}oldest</blockquote></blockquote></div>", is_reply=True) == "newer"


WORDS = st.text("abc é漢ש🦆&<>\"'", min_size=1)
INLINE = ("b", "i", "span", "a", "font", "code")
BLOCKS = ("p", "div", "h1", "pre", "blockquote", "section")


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def element(tag: str, parts: list[tuple[str, str]]) -> tuple[str, str]:
    """HTML, and what it says."""
    html, words = ("".join(some) for some in zip(*parts, strict=True))
    return f"<{tag} class='x'>{html}</{tag}>", words


def elements(tags: tuple[str, ...], inner: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[tuple[str, str]]:
    return st.builds(element, st.sampled_from(tags), st.lists(inner, min_size=1, max_size=3))


SAID = WORDS.map(lambda words: (escaped(words), words))
PHRASES = st.recursive(SAID, lambda inner: elements(INLINE, inner), max_leaves=4)
CELLS = elements(("td",), PHRASES)
TABLES = elements(("table",), elements(("tr",), CELLS))
DOCUMENTS = elements(BLOCKS, st.recursive(PHRASES | TABLES, lambda inner: elements(BLOCKS[1:], inner), max_leaves=4))


@settings(max_examples=60)
@given(DOCUMENTS)
def test_every_word_stays_in_its_place_and_every_tag_goes(document: tuple[str, str]) -> None:
    """Of HTML that is well formed nothing is lost, and nothing of its markup is left: only white space differs."""
    html, words = document
    assert "".join(plain(html).split()) == "".join(words.split())


HOSTILE = st.lists(
    st.text()
    | st.sampled_from(
        [
            *(
                "<p>",
                "</p>",
                "<div",
                ">",
                "<!--",
                "-->",
                "<![CDATA[",
                "]]>",
                "&#0;",
                "&#xD800;",
                "&bogus;",
                "<table>",
                "<td colspan=9e9>",
            ),
            *(
                "<style>",
                "<script>",
                "<ol start=-1>",
                "<li>",
                "<pre>",
                "\0",
                "\ud800",
                "\x85",
                "\u2028",
                "<?xml ?>",
                "<!DOCTYPE x>",
            ),
            *("On Mon, Oct 5, 2026 at 10:00 AM Kim <k@acme.test> wrote:\n", "> quoted\n", "From: x\n", "Subject: y\n"),
            *(
                "-----Original Message-----\n",
                "---------- Forwarded message ---------\n",
                "Am 5.10. schrieb Kim:\n",
                "\n",
            ),
        ]
    ),
    max_size=30,
).map("".join)


@given(HOSTILE, st.booleans())
def test_nothing_is_too_strange_to_be_read(text: str, is_reply: bool) -> None:
    """No text, however broken, stops a page."""
    assert isinstance(plain(text, is_reply=is_reply), str)
    assert isinstance(own_words(text, is_reply=is_reply), str)


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1), st.booleans())
def test_a_message_is_never_left_without_words(lines: list[str], is_reply: bool) -> None:
    """What consists of nothing but a quotation is kept: somebody sent it."""
    quotation = "\n".join(f"> {line}" for line in lines)
    assert own_words(quotation, is_reply=is_reply) == quotation


DEEP = 10_000
LONG = 100_000


@pytest.mark.parametrize(
    "hard",
    [
        partial(plain, "<div>" * DEEP + "words" + "</div>" * DEEP),
        partial(plain, "<b>" * DEEP + "words"),
        partial(plain, '<blockquote type="cite">' * 1500 + "words"),
        partial(plain, '<div>words<blockquote type="cite">' * DEEP, is_reply=True),
        partial(plain, "<ul><li>" * 400 + "words"),
        partial(plain, "<table><tr><td>" * 1000 + "words"),
        partial(plain, "words" + "<table><tr><td>x</td><td>" * 60),
        partial(plain, "words" + "<!--" * LONG),
        partial(plain, "words" + "<a " * (LONG // 3)),
        partial(plain, "words</a" + " " * LONG),
        partial(plain, "words" + "<" * LONG),
        partial(plain, "words" + "<br>" * (LONG // 4)),
        partial(own_words, "words\n" + "From: x\n" * 990, is_reply=True),
        partial(own_words, "words\n" + "On a\n" * 990, is_reply=True),
        partial(own_words, "words\n" + ">\n" * 990, is_reply=True),
        partial(own_words, "words" + " " * 19_000 + ".", is_reply=True),
        partial(own_words, "words\n" + "From: x\n" * 2490, is_reply=True),
        partial(own_words, "words\n" + "From: x\n" * LONG, is_reply=True),
    ],
    ids=lambda hard: f"{hard.func.__name__} {hard.args[0][:24]!r}",
)
def test_no_text_takes_forever_or_loses_its_words(hard: Callable[[], str]) -> None:
    """One hostile ticket neither holds up the others nor hides its own words."""
    begun = time.process_time()
    assert "words" in hard()
    assert time.process_time() - begun < 10


def test_a_mail_that_is_nested_deep_keeps_its_words_apart() -> None:
    """Mail that was answered a hundred times has no form any more, but sentences."""
    html = "<div>" * 700 + "<p>One &amp; two</p><style>p {}</style><p>three<!-- no --></p>" + "</div>" * 700
    assert plain(html).split() == ["One", "&", "two", "three"]


@pytest.mark.parametrize(
    "history",
    [
        "On Mon, Oct 5, 2026 at 10:00 AM Kim <kim@acme.test> wrote:\n> older",
        "Am Mo., 5. Okt. 2026 um 10:00 Uhr schrieb Kim <kim@acme.test>:\n> older",
        "-----Original Message-----\nFrom: Kim\nSent: Monday\nTo: Mia\nSubject: Export\n\nolder",
    ],
)
def test_the_history_below_a_reply_is_left_out(history: str) -> None:
    """Ten mails are ten messages, and not fifty-five."""
    assert own_words(f"newer\n\n{history}", is_reply=True) == "newer"


def test_what_is_answered_between_the_lines_is_kept() -> None:
    """Words above and below a quotation are both the author's."""
    text = "Above.\n\nOn Mon, Oct 5, 2026 at 10:00 AM Kim <kim@acme.test> wrote:\n> older\n> older\n\nBelow."
    assert own_words(text, is_reply=True) == "Above.\n\nBelow."


def test_a_forwarded_message_is_kept_where_it_is_what_the_customer_shows() -> None:
    """A ticket that begins with a forwarded mail is about that mail."""
    text = (
        "Please see below.\n\n---------- Forwarded message ---------\n"
        "From: Mia <mia@globex.test>\nDate: Mon, Oct 5, 2026\nSubject: Export\nTo: <help@acme.test>\n\nIt stops."
    )
    assert own_words(text, is_reply=False) == text
    assert own_words(text, is_reply=True) == "Please see below."


def test_a_message_without_history_stays_as_it_is() -> None:
    """Nothing is taken for a quotation that is none."""
    text = "I wrote: it fails.\n\nFrom: the menu, choose Export."
    assert own_words(f"  {text}\n", is_reply=True) == text


@pytest.mark.parametrize("log", ["line\n" * 1_100, "a longer line of some log\n" * 900])
def test_a_document_is_not_searched_for_history(log: str) -> None:
    """What is as long as a log is one, and the search for what it quotes would take too long."""
    text = f"{log}\nOn Mon, Oct 5, 2026 at 10:00 AM Kim <kim@acme.test> wrote:\n> older"
    assert own_words(text, is_reply=True) == text
    assert "older" not in own_words(text[-3_000:], is_reply=True)
