"""How settings are written, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from syncd.fields import Duration, Settings, duration_text, is_open_to_all, secret_fields

durations = TypeAdapter(Duration)


class Account(Settings):
    """Settings with secrets."""

    name: str = "acme"
    token: SecretStr
    spare: SecretStr | None = None


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        (" 10 m ", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2h", 7200),
        ("7d", 604_800),
        ("1w", 604_800),
        ("250ms", 0.25),
        ("90", 90),
        ("1.5", 1.5),
        ("0", 0),
        (90, 90),
        (0.5, 0.5),
        (timedelta(minutes=1), 60),
    ],
)
def test_durations_are_written_as_people_say_them(written: object, seconds: float) -> None:
    """`every: 10m` means ten minutes, and a bare number seconds."""
    assert durations.validate_python(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "10 minutes",
        "10x",
        "1.2.3s",
        "-5m",
        -5,
        "m",
        True,
        None,
        "inf",
        "nan",
        float("inf"),
        float("nan"),
        "²",
        "9" * 30,
        "9" * 500,
        "9" * 30 + "d",
        10**40,
    ],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    """A slip in the configuration is told when it is read, not when it has run every second for a night."""
    with pytest.raises(ValidationError):
        durations.validate_python(written)


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    """No typing error ends in a traceback."""
    try:
        read = durations.validate_python(text)
    except ValidationError:
        return
    assert read >= timedelta(0)


@given(st.integers(min_value=0, max_value=10**9).map(lambda seconds: timedelta(seconds=seconds)))
def test_a_duration_can_be_written_back(span: timedelta) -> None:
    """What `syncd connectors` shows can be pasted into a configuration."""
    assert durations.validate_python(duration_text(span)) == span


@pytest.mark.parametrize(("seconds", "text"), [(600, "10m"), (5400, "1h30m"), (604_800, "7d")])
def test_durations_are_shown_as_they_are_written(seconds: int, text: str) -> None:
    """The operator recognises their own setting."""
    assert duration_text(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_its_file(tmp_path: Path, end: str) -> None:
    """A mounted secret works, whatever newline its platform put at the end."""
    path = tmp_path / "token"
    path.write_bytes(b" hunter2 " + end.encode())
    account = Account.model_validate({"token_file": str(path)})
    assert account.token.get_secret_value() == " hunter2 "


def test_a_secret_that_may_be_missing_has_a_file_too(tmp_path: Path) -> None:
    """Every secret can stay out of the configuration."""
    (tmp_path / "spare").write_text("hunter3")
    account = Account.model_validate({"token": "hunter2", "spare_file": tmp_path / "spare"})
    assert account.spare == SecretStr("hunter3")


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    """Nobody has to wonder which of two keys is in use."""
    (tmp_path / "token").write_text("hunter2")
    with pytest.raises(ValidationError, match="both token and token_file are given"):
        Account.model_validate({"token": "hunter3", "token_file": str(tmp_path / "token")})


def test_an_unreadable_secret_file_is_named(tmp_path: Path) -> None:
    """The message says which setting and which path."""
    with pytest.raises(ValidationError, match=r"token_file: cannot read .*/missing: "):
        Account.model_validate({"token_file": str(tmp_path / "missing")})


def test_a_secret_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    """A binary file given by mistake is told, not sent."""
    (tmp_path / "token").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValidationError, match="token_file: cannot read"):
        Account.model_validate({"token_file": str(tmp_path / "token")})


def test_only_secrets_have_files() -> None:
    """A file for something that is no secret is a misspelt setting."""
    with pytest.raises(ValidationError, match="name_file"):
        Account.model_validate({"token": "hunter2", "name_file": "/etc/hostname"})
    assert secret_fields(Account) == ["token", "spare"]


def test_a_misspelt_setting_is_refused() -> None:
    """A setting that does nothing is never accepted in silence."""
    with pytest.raises(ValidationError, match="tokne"):
        Account.model_validate({"token": "hunter2", "tokne": "x"})


def test_settings_do_not_change() -> None:
    """What was checked at the start is what is in use a month later."""
    account = Account(token=SecretStr("hunter2"))
    with pytest.raises(ValidationError, match="frozen"):
        account.name = "other"  # type: ignore[misc]


def test_secrets_are_not_shown() -> None:
    """Settings can be printed in an error or a log."""
    account = Account(token=SecretStr("hunter2"))
    assert "hunter2" not in f"{account!r} {account} {account.model_dump_json()}"


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("http://zentrik.ai/api", True),
        ("HTTP://10.0.0.7", True),
        ("http://localhost.evil.example/", True),
        ("http://0.0.0.0/", True),
        ("http://user@desk.lan:80/", True),
        ("https://zentrik.ai/api", False),
        ("http://localhost:8080/api", False),
        ("http://LOCALHOST/", False),
        ("http://127.0.0.2/", False),
        ("http://[::1]:8080/", False),
        ("http://[nowhere", False),
        ("desk.lan", False),
        ("", False),
    ],
)
def test_an_address_that_everybody_can_read_is_known(address: str, is_open: bool) -> None:
    """Plain http is for this machine; anywhere else it is noticed."""
    assert is_open_to_all(address) is is_open
