"""What the log promises: one shape for every line, and never a secret in any."""

from __future__ import annotations

import io
import json
import logging
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from syncd import logs

PLAIN = "hunter2-and-more"
AWKWARD = "pa\"ss\\wörd'/ 雪+&\t="
SECRETS = [PLAIN, AWKWARD]

Lines = Callable[[], list[dict[str, Any]]]


class Stream(io.StringIO):
    """A stream that is a terminal or not, as told."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def pristine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging as it was before, after each test."""
    monkeypatch.setattr(logs, "_concealed", logs._Concealed())
    monkeypatch.delenv("NO_COLOR", raising=False)
    root = logging.getLogger()
    level = root.level
    quiet = {name: logging.getLogger(name).level for name in logs._TALKATIVE}
    yield
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, logs._Handler)]
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def written(stream: Stream) -> list[dict[str, Any]]:
    """The JSON lines of a stream."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_where_a_machine_reads() -> None:
    """A log collector can take every line apart."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream)
    logs.get_logger().info("pulled", connector="support", new=3)
    (line,) = written(stream)
    assert line["event"] == "pulled"
    assert (line["connector"], line["new"], line["level"]) == ("support", 3, "info")
    assert list(line)[:3] == ["timestamp", "level", "event"]


def test_times_are_utc() -> None:
    """Lines of two machines can be put in order."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream)
    before = datetime.now(UTC)
    logs.get_logger().info("now")
    (line,) = written(stream)
    assert line["timestamp"].endswith("Z")
    assert before <= datetime.fromisoformat(line["timestamp"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("colours", "no_color", "coloured"),
    [(None, "", True), (None, "1", False), (True, "1", True), (False, "", False)],
)
def test_a_line_is_readable_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, colours: bool | None, no_color: str, coloured: bool
) -> None:
    """A person reads words, in colour unless they said otherwise."""
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Stream(terminal=True)
    logs.configure(stream=stream, colours=colours)
    logs.get_logger().info("pulled", connector="support")
    assert "pulled" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    assert ("\x1b[" in stream.getvalue()) is coloured


@pytest.mark.parametrize("level", ["warning", "WARNING", logging.WARNING])
def test_lines_below_the_level_are_left_out(level: str | int) -> None:
    """An operator who asks for less gets less, from us and from libraries."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream, level=level)
    logs.get_logger().info("small")
    logging.getLogger("apscheduler").info("small")
    logs.get_logger().warning("big")
    logging.getLogger("apscheduler").warning("big")
    assert [line["event"] for line in written(stream)] == ["big", "big"]


def test_libraries_log_the_same_way() -> None:
    """A line of the database can be searched like one of ours."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream)
    logging.getLogger("library.pool").info("Connection to %s closed", "the ledger")
    (line,) = written(stream)
    assert (line["event"], line["level"]) == ("Connection to the ledger closed", "info")
    assert line["logger"] == "library.pool"


def test_libraries_do_not_tell_of_every_step() -> None:
    """The lines that matter do not drown in the chatter of client, scheduler and migrations; warnings are kept."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream, level="DEBUG")
    logging.getLogger("httpx").info('HTTP Request: GET https://x.example "HTTP/1.1 200 OK"')
    logging.getLogger("httpcore.http11").debug("send_request_headers.started")
    logging.getLogger("apscheduler.scheduler").info("Added job")
    logging.getLogger("alembic.runtime.plugins").info("setup plugin")
    logging.getLogger("httpx").warning("trouble")
    assert [line["event"] for line in written(stream)] == ["trouble"]


def test_what_belongs_together_says_so() -> None:
    """Every line of a run can be found by its number, those of libraries too."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream)
    with logs.context(run=7, connector="support"):
        logs.get_logger().info("ours")
        logging.getLogger("library").info("theirs")
    logs.get_logger().info("after")
    assert [line.get("run") for line in written(stream)] == [7, 7, None]


def test_a_line_names_the_module_it_comes_from() -> None:
    """A reader of the log knows where in the code to look."""
    stream = Stream(terminal=False)
    log = logs.get_logger()
    logs.configure(stream=stream)
    log.info("here")
    assert written(stream)[0]["logger"] == __name__


def test_configuring_again_moves_the_log() -> None:
    """No line is written twice, nor to a stream that was given up."""
    first, second = Stream(terminal=False), Stream(terminal=False)
    logs.configure(stream=first)
    logs.configure(stream=second)
    logs.get_logger().info("once")
    assert (len(written(first)), len(written(second))) == (0, 1)


def raised(secret: str) -> BaseException:
    """An exception with a secret in its message, its cause and its notes."""
    try:
        try:
            raise KeyError(secret)
        except KeyError as cause:
            error = RuntimeError(f"no login with {secret}")
            error.add_note(f"tried {secret!r}")
            raise error from cause
    except RuntimeError as error:
        return error


class Opaque:
    """A value that shows a secret only when it is turned into text."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return f"Opaque({self._secret!r})"


PLACES: dict[str, Callable[[str], None]] = {
    "event": lambda s: logs.get_logger().info(f"with {s} inside"),
    "value": lambda s: logs.get_logger().info("x", key=s),
    "key": lambda s: logs.get_logger().info("x", **{s: 1}),
    "nested value": lambda s: logs.get_logger().info("x", deep={"a": [{"b": (s, {s})}]}),
    "nested key": lambda s: logs.get_logger().info("x", deep={s: 1}),
    "too deep": lambda s: logs.get_logger().info("x", deep=[[[[[[[[[[s]]]]]]]]]]),
    "object": lambda s: logs.get_logger().info("x", thing=Opaque(s)),
    "bytes": lambda s: logs.get_logger().info("x", raw=s.encode()),
    "exception value": lambda s: logs.get_logger().info("x", error=raised(s)),
    "traceback": lambda s: logs.get_logger().error("x", exc_info=raised(s)),
    "context": lambda s: told_in_context(s),
    "library message": lambda s: logging.getLogger("lib").warning(f"with {s} inside"),  # noqa: G004 - on purpose
    "library argument": lambda s: logging.getLogger("lib").warning("with %s inside", s),
    "library repr": lambda s: logging.getLogger("lib").warning("with %r inside", s),
    "library traceback": lambda s: logging.getLogger("lib").warning("x", exc_info=raised(s)),
    "badly formatted": lambda s: badly_formatted(s),
    "as JSON": lambda s: logs.get_logger().info(json.dumps({"secret": s})),
    "as readable JSON": lambda s: logs.get_logger().info(json.dumps({"secret": s}, ensure_ascii=False)),
    "as JSON in JSON": lambda s: logs.get_logger().info("x", body=json.dumps(json.dumps({"secret": s}))),
    "in a query": lambda s: logs.get_logger().info("x", url=f"https://x.example/?{urlencode({'key': s})}"),
    "in httpx's query": lambda s: logs.get_logger().info("x", url=httpx.URL("https://x.example", params={"k": s})),
    "in a path": lambda s: logs.get_logger().info("x", url=f"https://x.example/{quote(s)}/y"),
    "in a log extra": lambda s: logging.getLogger("lib").warning("x", extra={"secret": s}),
}


def badly_formatted(argument: str) -> None:
    """A log call of a library whose argument does not fit, seen by our handler alone (pytest's own would raise)."""
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if isinstance(handler, logs._Handler)]
    logging.getLogger("lib").warning("%d items", argument)


def told_in_context(secret: str) -> None:
    """A line logged while the secret is bound."""
    with logs.context(secret=secret):
        logs.get_logger().info("x")


def traces(secret: str) -> set[str]:
    """The forms a person could read the secret back from."""
    once = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    return once | {json.dumps(form)[1:-1] for form in once} | {quote(secret), quote(secret, safe="")}


@pytest.mark.parametrize("terminal", [False, True], ids=["json", "terminal"])
@pytest.mark.parametrize("secret", SECRETS, ids=["plain", "awkward"])
@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_never_shown(place: str, secret: str, terminal: bool) -> None:
    """Whoever reads the log cannot log in with it, wherever the secret slipped in."""
    stream = Stream(terminal)
    logs.configure(stream=stream, secrets=SECRETS)
    PLACES[place](secret)
    text = stream.getvalue()
    assert text.strip()
    assert not [form for form in traces(secret) if form in text]
    if not terminal:
        assert written(stream)


@pytest.mark.parametrize(
    "write",
    [
        str,
        lambda s: repr(s)[1:-1],
        lambda s: ascii(s)[1:-1],
        lambda s: repr(s.encode())[2:-1],
        lambda s: json.dumps(s)[1:-1],
        lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
        lambda s: json.dumps(json.dumps(s)[1:-1])[1:-1],
        quote,
        lambda s: quote(s, safe=""),
        lambda s: urlencode({"": s})[1:],
        lambda s: httpx.URL("https://x.example", params={"k": s}).query.decode()[2:],
        lambda s: httpx.URL(f"https://x.example/{quote(s)}").raw_path.decode()[1:],
    ],
)
@pytest.mark.parametrize("secret", SECRETS, ids=["plain", "awkward"])
def test_a_secret_is_known_however_it_is_written(write: Callable[[str], str], secret: str) -> None:
    """Quoting, escaping and encoding are no disguise, in what the command line prints as in the log."""
    logs.conceal([secret])
    assert logs.redact(f"<{write(secret)}>") == "<***>"


@pytest.mark.parametrize("user", ["u", "us", "user", "agent@acme.example/token"])
@pytest.mark.parametrize("secret", SECRETS, ids=["plain", "awkward"])
def test_a_secret_inside_basic_auth_is_not_shown(user: str, secret: str) -> None:
    """An Authorization header that slipped into a message does not give the password away."""
    logs.conceal([secret])
    header = b64encode(f"{user}:{secret}".encode()).decode()
    shown = logs.redact(f"Authorization: Basic {header}")
    assert "***" in shown
    assert not any(header[start : start + 6] in shown for start in range(len(f"{user}:") * 4 // 3 + 3, len(header) - 8))


@given(secret=st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4 and "*" not in text), around=st.text())
def test_any_secret_is_redacted_in_any_quoting(secret: str, around: str) -> None:
    """No choice of characters makes a password visible."""
    concealed = logs._Concealed()
    concealed.add([secret])
    for form in (secret, repr(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False), ascii(secret)):
        assert secret not in concealed.redact(f"[{form}]")
        assert "***" in concealed.redact(f"{around} {form} {around}")


def test_a_secret_within_a_longer_one_leaves_no_rest() -> None:
    """Of two secrets that begin alike neither shows its end."""
    logs.conceal(["abcd", "abcdefgh"])
    assert logs.redact("abcdefgh abcd") == "*** ***"


def test_short_values_are_left_readable() -> None:
    """A one-letter password in a sandbox does not blot out the log."""
    logs.conceal(["", "a", "abc", "  abc  "])
    assert logs.redact("abc is a word") == "abc is a word"


def test_secrets_can_be_added_later() -> None:
    """A token that was fetched just now is as safe as one from the configuration."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream, secrets=[PLAIN])
    logs.conceal(["fetched-token"])
    logs.get_logger().info("x", a=PLAIN, b="fetched-token", c="Bearer fetched-token")
    (line,) = written(stream)
    assert (line["a"], line["b"], line["c"]) == ("***", "***", "Bearer ***")


def test_a_secret_with_a_newline_at_its_end_is_known_without() -> None:
    """A secret read from a file is hidden in the form it is sent."""
    logs.conceal(["from-a-file\n"])
    assert logs.redact("token from-a-file") == "token ***"


def test_a_number_that_is_secret_stays_valid_json() -> None:
    """Hiding a PIN does not break the line for the collector."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream, secrets=["482915"])
    logs.get_logger().info("x", pin=482915, other=17, odd=float("nan"))
    assert '"pin": "***", "other": 17, "odd": "nan"' in stream.getvalue()


def test_a_vendor_cannot_steer_the_terminal() -> None:
    """A ticket's title cannot clear the operator's screen."""
    stream = Stream(terminal=True)
    logs.configure(stream=stream, colours=False)
    logs.get_logger().info("title \x1b[2J", name="\x9b2J")
    assert "\x1b" not in stream.getvalue()
    assert "\x9b" not in stream.getvalue()


def test_a_line_that_cannot_be_formatted_is_reported() -> None:
    """A mistake in a library's log call is seen, and takes nothing down."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream)
    badly_formatted("three")
    (line,) = written(stream)
    assert line["event"] == "a log line could not be formatted"
    assert "TypeError" in line["exception"]


def test_a_stream_that_is_gone_takes_nothing_down() -> None:
    """A daemon whose log pipe was closed goes on working."""
    stream = Stream(terminal=False)
    logs.configure(stream=stream)
    stream.close()
    logs.get_logger().info("nobody reads this")
    assert stream.closed


@pytest.mark.parametrize(
    ("secret", "text", "seen"),
    [
        ("sk-12345", "the key is sk-12345.", True),
        ("postgres", "Our postgres is slow.", False),
        ("password", "I forgot my password.", False),
        ("1234", "Ticket 1234 of 1234", False),
        ("passw0rd", "I wrote passw0rd.", True),
        ("abcdefghijklmnop", "xabcdefghijklmnopx", True),
        ("pa/ss wörd+1", '{"url":"https://x.example/?key=pa%2Fss%20w%C3%B6rd%2B1"}', True),
        ('say "hi" 2', json.dumps({"text": 'you say "hi" 2 times'}), True),
    ],
)
def test_what_customers_wrote_is_left_alone_unless_a_secret_is_certain(secret: str, text: str, seen: bool) -> None:
    """A key in a link is found; a password that is a plain word tears no holes into every ticket."""
    logs.conceal([secret])
    assert logs.holds_secret(text) is seen
    cleaned = logs.redact_json(text)
    assert (cleaned == text) is not seen
    assert not logs.holds_secret(cleaned)


def test_a_json_value_is_cleaned_through_and_through() -> None:
    """Wherever in a body a secret stands, it goes; the rest, to the type of every number, stays."""
    logs.conceal(["hunter2-and-more", "31415926535"])
    dirty = {
        "a": ["x hunter2-and-more y", {"hunter2-and-more": 1, "n": 31415926535, "f": 0.31415926535}],
        "b": [1, 1.5, True, None, ""],
    }
    assert logs.redact_json(dirty) == {
        "a": ["x *** y", {"***": 1, "n": "***", "f": "0.***"}],
        "b": [1, 1.5, True, None, ""],
    }


def test_passing_tokens_are_remembered_while_they_are_used() -> None:
    """A daemon that fetches a token every hour for years knows the present ones, and does not slow down."""
    logs.conceal(["lasting-secret"])
    for hour in range(1000):
        logs.conceal([f"token-of-hour-{hour:04}"], passing=True)
        logs.conceal(["token-in-use"], passing=True)
    assert logs.redact("lasting-secret token-in-use token-of-hour-0999") == "*** *** ***"
    assert logs.redact("token-of-hour-0000") == "token-of-hour-0000"
    assert len(logs._concealed._passing) == 32


def test_a_secret_of_the_configuration_never_passes() -> None:
    """A key that is also seen going out as a token stays known for good."""
    logs.conceal(["lasting-secret"])
    logs.conceal(["lasting-secret", *(f"token-{n:04}" for n in range(100))], passing=True)
    assert logs.redact("lasting-secret") == "***"


def test_a_key_of_several_lines_is_known_line_by_line() -> None:
    """A PEM key that is indented line by line, as nested tracebacks do, is not readable either."""
    lines = [f"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC{n}" for n in range(3)]
    logs.conceal(["\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"]) + "\n"])
    shown = logs.redact("".join(f"  | {line}\n" for line in lines))
    assert shown == "  | ***\n" * 3


def test_a_traceback_shows_where_and_never_what() -> None:
    """Whoever reports a defect can paste the whole of it; it steers no terminal either."""
    logs.conceal(SECRETS)
    error = raised(PLAIN)
    error.add_note("\x1b[2J")
    shown = logs.traceback_of(ExceptionGroup("several", [error]))  # type: ignore[list-item]
    assert "in raised" in shown
    assert "no login with ***" in shown
    assert PLAIN not in shown
    assert "\x1b" not in shown


def test_a_long_body_is_looked_through_quickly() -> None:
    """Bodies of a megabyte are looked through in milliseconds, so that an import is not held up by it."""
    logs.conceal([f"sk-live-{n:04}-abcdefGHIJ" for n in range(10)])
    body = "Der Export dauert zu lange, sagt die Kundin. " * 23_000
    began = time.perf_counter()
    assert not logs.holds_secret(body)
    assert time.perf_counter() - began < 0.5
