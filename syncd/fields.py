"""The words settings are written in: frozen models, durations like `10m`, secrets that may stand in a file."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

import durationpy
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, SecretStr, model_validator

_NUMBER = re.compile(r"\d+(?:\.\d*)?", re.ASCII)
_SPANS = re.compile(rf"-?(?:{_NUMBER.pattern}(?:ns|us|µs|μs|ms|s|m|h|d|w|mm|y))+", re.ASCII)


def _duration(value: object) -> object:
    """Read `10m`, `1h30m`, `2s`, `7d`; a bare number is seconds."""
    if isinstance(value, str):
        text = value.strip().replace(" ", "")
        if _NUMBER.fullmatch(text):
            value = float(text)
        else:
            try:
                if not _SPANS.fullmatch(text):
                    raise durationpy.DurationError  # what it does not know between two spans, durationpy passes over
                value = durationpy.from_str(text)
            except (durationpy.DurationError, OverflowError) as error:  # 0.10 lets the latter out
                raise ValueError(f"{text!r} is not a duration; write for example 30s, 10m, 2h or 7d") from error
    if isinstance(value, bool):
        raise ValueError("a duration is written like 30s, 10m, 2h or 7d")
    if isinstance(value, int | float):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError) as error:
            raise ValueError("that is no span of time; write for example 30s, 10m, 2h or 7d") from error
    if isinstance(value, timedelta) and value < timedelta(0):
        raise ValueError("a duration cannot be negative")
    return value


def duration(text: str) -> timedelta:
    """The span of time written as `10m` or `7d`. Raises `ValueError` saying how one is written."""
    read = _duration(text)
    assert isinstance(read, timedelta)  # noqa: S101 - a text becomes one, or is refused
    return read


def duration_text(value: timedelta) -> str:
    """`timedelta(minutes=10)` as `10m`: the form it is written in."""
    if not value:
        return "0s"
    days, rest = divmod(value, timedelta(days=1))
    return f"{days}d" if days and not rest else str(durationpy.to_str(value))


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(duration_text)]
"""A span of time, written like `30s`, `10m`, `2h` or `7d`."""


def lasting(least: timedelta, most: timedelta = timedelta.max) -> AfterValidator:
    """The bounds of a duration: `Annotated[Duration, lasting(timedelta(days=1))]`."""

    def check(value: timedelta) -> timedelta:
        if value < least:
            raise ValueError(f"{duration_text(value)} is too short; write {duration_text(least)} or more")
        if value > most:
            raise ValueError(f"is too long; write {duration_text(most)} or less")
        return value

    return AfterValidator(check)


def _web_address(text: str) -> str:
    """An http or https address without its last slash."""
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if (
        not usable
        or parts.username
        or parts.query
        or parts.fragment
        or any(letter.isspace() for letter in text.strip())
    ):
        raise ValueError("must be an http or https address with nothing after its path, like https://zentrik.ai/api")
    return text.strip().rstrip("/")


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        close = get_close_matches(name, available_timezones(), n=1)
        hint = f"did you mean {close[0]}?" if close else "write for example Europe/Berlin, or UTC"
        raise ValueError(f"is no time zone of the IANA database; {hint}") from None
    return name


TimeZone = Annotated[str, AfterValidator(_time_zone)]
"""A time zone's name in the IANA database: `Europe/Berlin`."""

WebAddress = Annotated[str, AfterValidator(_web_address)]
"""An http or https address with nothing after its path."""


class Settings(BaseModel):
    """A frozen group of settings that refuses what it does not know.

    Each field holding a secret has a twin `<field>_file`: the path of a file to read the secret from (its last
    newline is dropped), as container platforms mount them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        values = dict(given)
        for name in secret_fields(cls):
            path = values.pop(f"{name}_file", None)
            if path is None:
                continue
            if values.get(name) is not None:
                raise ValueError(f"both {name} and {name}_file are given; keep one")
            try:
                values[name] = Path(str(path)).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or error
                raise ValueError(f"{name}_file: cannot read {path}: {why}") from error
        return values


def secret_fields(model: type[BaseModel]) -> list[str]:
    """The names of a model's fields that hold secrets."""
    return [
        name
        for name, info in model.model_fields.items()
        if info.annotation is SecretStr or SecretStr in get_args(info.annotation)
    ]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_open_to_all(address: str) -> bool:
    """Whether an address is plain http to another machine: whoever is on the way can read what goes there."""
    try:
        parts = urlsplit(address)
    except ValueError:  # it leads nowhere at all
        return False
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")
