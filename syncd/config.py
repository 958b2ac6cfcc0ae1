"""The configuration: a YAML file, the environment over it, and a message with its place for every mistake in either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources.types import EnvNoneType

from syncd import registry, yaml_file
from syncd.budgets import Budget
from syncd.connector import Connector
from syncd.errors import ConfigError
from syncd.mistakes import Mistake, nearest, takes_text
from syncd.places import Given, Path, Place, paths
from syncd.settings import (
    AlertSettings,
    ConnectorSettings,
    EmailSettings,
    Ledger,
    PullLease,
    Redact,
    RedactSettings,
    Retention,
    ShutdownTimeout,
    WebSettings,
    ZentrikSettings,
    redact_in_full,
)
from syncd.validation import Validation

__all__ = ["Config", "ConnectorSettings", "Retention", "WebSettings", "ZentrikSettings", "example", "load"]

_PREFIX = "SYNCD_"
_ALSO_KNOWN_AS = {
    "ZENTRIK_API_BASE": "SYNCD_ZENTRIK__API_BASE",
    "ZENTRIK_API_KEY": "SYNCD_ZENTRIK__API_KEY",
    "ZENTRIK_API_KEY_FILE": "SYNCD_ZENTRIK__API_KEY_FILE",
}
_NOT_SETTINGS = ("config",)
"""SYNCD_CONFIG names the file itself."""

_ReadOnly = AfterValidator(lambda mapping: MappingProxyType(dict(mapping)))


class Config(BaseSettings):
    """Everything an operator can set. `load` makes one; made by hand, it never looks at the environment.

    `web` is None when the status page is off. `shutdown_timeout` is how long work under way may take to finish once
    the daemon is told to stop. `lease` is how long a connector stays with a run that stores no page of it. `redact` is
    for all connectors that have none of their own.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="null",
    )

    zentrik: ZentrikSettings = ZentrikSettings()
    ledger: Annotated[Ledger, Field(repr=False)] = "sqlite:///syncd.db"
    web: WebSettings | None = WebSettings()
    retention: Retention = Retention()
    alerts: AlertSettings = AlertSettings()
    shutdown_timeout: ShutdownTimeout = timedelta(seconds=20)
    lease: PullLease = timedelta(minutes=20)
    redact: Redact = None
    connectors: Annotated[Mapping[str, ConnectorSettings], _ReadOnly] = Field(default_factory=dict)

    @field_validator("connectors")
    @classmethod
    def _redacted_unless_told(
        cls, entries: Mapping[str, ConnectorSettings], info: ValidationInfo
    ) -> Mapping[str, ConnectorSettings]:
        """What is redacted for all is redacted for each that does not say otherwise."""
        ours = {"redact": info.data.get("redact")}
        told = {
            name: each if "redact" in each.model_fields_set else each.model_copy(update=ours)
            for name, each in entries.items()
        }
        return MappingProxyType(told)

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the sources not named here are not wanted
        cls, _: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **__: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is given: `load` lays the environment over the file itself, and keeps every place."""
        return (init_settings,)

    @property
    def budgets(self) -> dict[str, Budget]:
        """How much may be posted in a day of the connectors of which that is limited."""
        return {name: entry.daily for name, entry in self.connectors.items() if entry.daily is not None}

    def secrets(self) -> tuple[str, ...]:
        """Every secret value in it, longest first, for taking them out of what is printed."""
        found = {*_secrets(self), *_passwords(self.ledger)}
        return tuple(sorted(filter(None, found), key=len, reverse=True))


def load(
    path: FilePath | str,
    environ: Mapping[str, str],
    connector_class: Callable[[str], type[Connector]] = registry.connector_class,
) -> Config:
    """Read a configuration: what `environ` says over what the file says over the defaults.

    Variables are named after the keys (`SYNCD_CONNECTORS__SUPPORT__API_TOKEN`), lists and mappings in them are JSON;
    `ZENTRIK_API_BASE`, `ZENTRIK_API_KEY` and `ZENTRIK_API_KEY_FILE` need no prefix. Empty variables count as unset.

    Raises `ConfigError` with one line for every mistake, in the order of the file; no secret is ever in it.
    """
    reading = yaml_file.read(FilePath(path), environ)
    file = reading.given
    for key in list(file.values):
        if key.startswith("x-") or (key in reading.blank and key in Config.model_fields):
            del file.values[key]  # a place to keep anchors; a section whose every line is commented out
    given = _from_environment(environ, file).over(file)

    def still_stands(mistake: Mistake) -> bool:
        return given.holds(mistake.path) and given.place(mistake.path) == file.place(mistake.path)

    mistakes = [*filter(still_stands, reading.mistakes), *_meaningless(environ)]
    validation = Validation(given, connector_class, mistakes, reading.filled_in)
    config = validation.made(Config, _sections(validation), ())
    if config is None or validation.mistakes:
        raise ConfigError(validation.words())
    return config


def _sections(validation: Validation) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in validation.given.values.items():
        if key not in Config.model_fields:
            validation.mistake((key,), f"unknown setting; {nearest(key, Config.model_fields)}")
        else:
            values[key] = value
    if isinstance(zentrik := values.get("zentrik"), dict):
        values["zentrik"] = validation.made(ZentrikSettings, zentrik, ("zentrik",)) or ZentrikSettings()
    if isinstance(web := values.get("web"), dict):
        values["web"] = validation.made(WebSettings, web, ("web",)) or WebSettings()
    if isinstance(alerts := values.get("alerts"), dict):
        if isinstance(email := alerts.get("email"), dict):
            made = validation.made(EmailSettings, email, ("alerts", "email"))
            alerts = {**alerts, "email": made or EmailSettings()}
        elif "email" in alerts and alerts["email"] is None:  # every line of it is commented out
            alerts = {key: value for key, value in alerts.items() if key != "email"}
        values["alerts"] = validation.made(AlertSettings, alerts, ("alerts",)) or AlertSettings()
    entries = values.get("connectors", {})
    if (redact := redact_in_full(values.get("redact"))) is not None:
        if isinstance(redact, dict):
            entries = _with_key(entries, redact)
            redact = validation.made(RedactSettings, redact, ("redact",))
        values["redact"] = redact
    return {**values, "connectors": validation.connectors(entries)}


def _with_key(entries: object, redact: Mapping[str, Any]) -> object:
    """The entries, those with pseudonyms and no key for them having the one for all."""
    key = {name: redact[name] for name in ("pseudonym_key", "pseudonym_key_file") if redact.get(name) is not None}
    if not key or not isinstance(entries, dict):
        return entries
    keyed = dict(entries)
    for name, entry in entries.items():
        own = redact_in_full(entry.get("redact")) if isinstance(entry, dict) else None
        if (
            isinstance(own, dict)
            and own.get("mode") == "pseudonym"
            and not {"pseudonym_key", "pseudonym_key_file"} & own.keys()
        ):
            keyed[name] = {**entry, "redact": {**own, **key}}
    return keyed


def example() -> str:
    """A configuration to start from, with every setting explained: the text of `config.example.yaml`."""
    packaged = files("syncd") / "config.example.yaml"
    if not packaged.is_file():
        packaged = FilePath(__file__).parent.parent / "config.example.yaml"
    return packaged.read_text(encoding="utf-8")


def _secrets(value: object) -> Iterator[str]:
    match value:
        case SecretStr():
            yield value.get_secret_value()
        case BaseModel():
            for name in type(value).model_fields:
                yield from _secrets(getattr(value, name))
        case Mapping():
            for child in value.values():
                yield from _secrets(child)
        case list() | tuple() | set() | frozenset():
            for child in value:
                yield from _secrets(child)


def _passwords(ledger: str) -> Iterator[str]:
    """What is secret in a ledger's address, where SQLAlchemy finds it: after the user, or among the parameters."""
    address, _, parameters = ledger.partition("?")
    user, at, _ = address.partition("://")[2].partition("@")
    name, _, password = user.partition(":")
    if at and "/" not in name:
        yield from (password, unquote(password))
    yield from (value for parameter, value in parse_qsl(parameters) if "password" in parameter)


class _Environment(EnvSettingsSource):
    """pydantic-settings' reading of the environment: of the one passed in, and leaving bad JSON to be found later."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(Config)
        self.env_vars = {
            name.lower(): EnvNoneType(value) if value == "null" else value for name, value in environ.items()
        }

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


def _from_environment(environ: Mapping[str, str], file: Given) -> Given:
    """The settings that variables give, each with the variable as its place."""
    variables = {known: name for name, known in _ALSO_KNOWN_AS.items() if environ.get(name)}
    variables |= {name: name for name, value in environ.items() if name.startswith(_PREFIX) and value}
    values: dict[str, Any] = _Environment({known: environ[name] for known, name in variables.items()})()
    places: dict[Path, Place] = {}
    for path in paths(values):
        known = _PREFIX + "__".join(str(step).upper() for step in path)
        within = (name for other, name in variables.items() if other.upper().startswith(f"{known}__"))
        if path and (name := variables.get(known) or next(within, None)):
            places[path] = Place(name)
    return _named_as_in(file, Given(values, file.top, places))


def _named_as_in(file: Given, given: Given) -> Given:
    """Entries by their names in the file: a variable's name cannot hold the dash of `my-inbox`, so MY_INBOX is it."""
    ours, theirs = given.values.get("connectors"), file.values.get("connectors")
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return given
    names: dict[str, str] = {name.replace("-", "_"): name for name in theirs} | {name: name for name in theirs}

    def known(name: str) -> str:
        return names.get(name, name)

    def renamed(path: Path) -> Path:
        match path:
            case ("connectors", str(name), *rest):
                return ("connectors", known(name), *rest)
            case _:
                return path

    values = {**given.values, "connectors": {known(name): entry for name, entry in ours.items()}}
    return Given(values, given.top, {renamed(path): place for path, place in given.places.items()})


def _meaningless(environ: Mapping[str, str]) -> list[Mistake]:
    """The variables that look like settings and are none.

    Others use our prefix too: Kubernetes sets SYNCD_PORT and SYNCD_SERVICE_HOST for a service called syncd. So a name
    is refused only when it is built like ours (two underscores) or looks like a slip of the pen.
    """
    known = [*Config.model_fields, *_NOT_SETTINGS]
    mistakes = []
    for variable in (name for name, value in environ.items() if name.startswith(_PREFIX) and value):
        head, nested, _ = variable.removeprefix(_PREFIX).lower().partition("__")
        field = Config.model_fields.get(head)
        if head in known and (not nested or (field is not None and _is_section(field))):
            continue
        if not nested and not get_close_matches(head, known, cutoff=0.8):
            continue
        hint = nearest(_PREFIX + head.upper(), [_PREFIX + name.upper() for name in known])
        mistakes.append(Mistake(Place(variable), (), f"is no setting; {hint}"))
    return mistakes


def _is_section(field: FieldInfo) -> bool:
    return not takes_text(field.annotation) and field.annotation is not timedelta
