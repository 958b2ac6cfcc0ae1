"""What syncd is packed and started with: the image, the units, the compose file and the manifest."""

from __future__ import annotations

import configparser
import http.server
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from syncd import __version__
from syncd.cli import cli
from syncd.config import Config, load

TOP = Path(__file__).parent.parent
DEPLOY = TOP / "deploy"
UNITS = ("syncd.service", "syncd-once.service", "syncd-once.timer")
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = re.sub(r"\\\n\s*", "", (TOP / "Dockerfile").read_text(encoding="utf-8"))
"""Each instruction on one line."""


def instructions(name: str, stage: int) -> list[str]:
    """What a stage of the Dockerfile says to one instruction."""
    text = re.split(r"^FROM .*$", DOCKERFILE, flags=re.MULTILINE)[stage]
    return re.findall(rf"^\s*{name} (.*)$", text, re.MULTILINE)


def pins(name: str) -> dict[str, tuple[str, list[str]]]:
    """The packages of a constraints file: version and hashes."""
    text = (DEPLOY / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = {}
    for line in lines:
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+)", line.rstrip())
        assert match, f"{name}: {line}"
        found[match[1]] = match[2], match[3].split()
    return found


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """A unit's sections: each key with all that is said of it."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",), dict_type=_Several)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / name).read_text(encoding="utf-8"))
    return {
        section: {key: value.split("\n") for key, value in parser[section].items()} for section in parser.sections()
    }


class _Several(dict[str, Any]):
    """Keeps what was said before when a key is said again, as systemd does."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            value = [*self[key], *value]
        super().__setitem__(key, value)


def seconds(span: str) -> timedelta:
    number, word = re.fullmatch(r"(\d+)(s|min)", span).groups()  # type: ignore[union-attr]
    return timedelta(**{{"s": "seconds", "min": "minutes"}[word]: int(number)})


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def manifest(kind: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    [found] = [document for document in documents if document["kind"] == kind]
    return found  # type: ignore[no-any-return]


def pod() -> dict[str, Any]:
    return manifest("Deployment")["spec"]["template"]["spec"]  # type: ignore[no-any-return]


# The pins


@pytest.mark.parametrize("name", ["constraints.txt", "build-constraints.txt"])
def test_everything_is_pinned_by_version_and_hash_and_comes_from_nowhere_in_particular(name: str) -> None:
    """What is installed is what was looked at, from whatever index a builder uses; no address is in the file."""
    assert len(pins(name)) > 5
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|^-", text, re.MULTILINE)


def test_the_pins_are_those_of_the_dependencies() -> None:
    """An image is never built from pins that a dependency has outgrown."""
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["postgresql"]]
    pinned, building = pins("constraints.txt"), pins("build-constraints.txt")
    for text in wanted:
        requirement = Requirement(text)
        version, _ = pinned.get(canonicalize_name(requirement.name), ("nothing", []))
        assert version in requirement.specifier, f"{text} is pinned to {version}; see docs/operating.md, «The pins»"
    for text in PROJECT["build-system"]["requires"]:
        assert building[Requirement(text).name][0] in Requirement(text).specifier


# The image


def test_the_image_is_built_from_pinned_things_only() -> None:
    """A base with a version, packages with hashes, and no look at an index after that."""
    [base] = re.findall(r"^ARG BASE=(.+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+(\.\d+)?-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${BASE}"}
    pip = [step for run in instructions("RUN", 1) for step in run.split("&& ") if "/pip " in step]
    assert len(pip) == 4
    for step in pip:
        assert ("--require-hashes" in step) != ("--no-index" in step), step
    needs = PROJECT["project"]["requires-python"]
    assert base.removeprefix("python:").split("-")[0] in Requirement(f"python{needs}").specifier


def test_the_image_runs_without_rights_and_writes_to_its_volumes_only() -> None:
    """Who breaks into it is nobody, and finds nothing to write to."""
    [volumes], [user], [workdir] = (instructions(name, 2) for name in ("VOLUME", "USER", "WORKDIR"))
    assert yaml.safe_load(volumes) == ["/data", "/inbox"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert workdir == "/data", "the ledger of an unchanged configuration lies in the folder syncd is started in"
    assert DOCKERFILE.index("USER ") < DOCKERFILE.index("ENTRYPOINT ")
    assert instructions("ENTRYPOINT", 2) == ['["syncd"]']
    [[command]] = map(yaml.safe_load, instructions("CMD", 2)[-1:])
    assert command in cli.commands
    assert "SYNCD_CONFIG=/etc/syncd/config.yaml" in instructions("ENV", 2)[0]
    assert instructions("STOPSIGNAL", 2) == ["SIGTERM"]


def test_nothing_of_a_checkout_but_the_program_gets_into_the_image() -> None:
    """No key, ledger or history that lies about is ever built in."""
    first, *allowed = (TOP / ".dockerignore").read_text(encoding="utf-8").splitlines()[1:]
    assert first == "*"
    taken = {line.removeprefix("!") for line in allowed if line.startswith("!")}
    assert taken >= {"syncd", "connectors", "pyproject.toml", PROJECT["project"]["readme"]}
    assert taken >= set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    assert taken >= set(re.findall(r"deploy/[\w.-]+", instructions("COPY", 1)[0]))
    for path in taken:
        assert (TOP / path).exists(), path
    assert not any(path.startswith((".", "config.yaml")) for path in taken)


class _Page(http.server.BaseHTTPRequestHandler):
    asked: list[str]
    status: int

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[200, 503])
def page(request: pytest.FixtureRequest) -> Iterator[http.server.HTTPServer]:
    """Answers everything with one status."""
    handler = type("Handler", (_Page,), {"asked": [], "status": request.param})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def checks() -> list[tuple[str, list[str]]]:
    """Every check of the packaging: what it asks, and how."""
    [healthcheck] = re.findall(r"^HEALTHCHECK .*?CMD (.*)$", DOCKERFILE, re.MULTILINE)
    [container] = pod()["containers"]
    probes = {name: container[name]["exec"]["command"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    return [
        ("/readyz", yaml.safe_load(healthcheck)),
        ("/healthz", probes["startupProbe"]),
        ("/healthz", probes["livenessProbe"]),
        ("/readyz", probes["readinessProbe"]),
    ]


@pytest.mark.parametrize(("path", "command"), checks(), ids=["image", "startup", "liveness", "readiness"])
def test_a_check_tells_well_from_ill(path: str, command: list[str], page: http.server.HTTPServer) -> None:
    """A container is called healthy when the page says so and not otherwise, whatever proxy its environment names."""
    python, option, program = command
    assert (python, option) == ("python", "-c")
    assert "127.0.0.1" in program
    assert str(Config().web.port) in program  # type: ignore[union-attr]
    here = program.replace(str(Config().web.port), str(page.server_port))  # type: ignore[union-attr]
    environ = {**os.environ, "http_proxy": "http://192.0.2.1:9"}
    done = subprocess.run([sys.executable, "-c", here], env=environ, capture_output=True, timeout=30, check=False)
    assert getattr(page.RequestHandlerClass, "asked") == [path]  # noqa: B009 - made by the fixture
    assert (done.returncode == 0) == (getattr(page.RequestHandlerClass, "status") == 200)  # noqa: B009 - as above


# systemd


@pytest.mark.parametrize("name", ["syncd.service", "syncd-once.service"])
def test_a_service_starts_a_command_that_there_is_and_lets_it_finish(name: str) -> None:
    """A unit runs what syncd understands, and does not kill it while it finishes what is under way."""
    service = unit(name)["Service"]
    [start] = service["ExecStart"]
    assert re.fullmatch(r"/opt/syncd/bin/syncd ([a-z-]+)", start)
    assert start.split()[1] in cli.commands
    assert seconds(service["TimeoutStopSec"][0]) > Config().shutdown_timeout
    assert service["WorkingDirectory"] == [f"/var/lib/{service['StateDirectory'][0]}"]


def test_the_daemon_is_watched_reloaded_and_restarted() -> None:
    """systemd hears that it lives, can have its configuration read again, and restarts what a restart can mend."""
    service = unit("syncd.service")["Service"]
    assert (service["Type"], service["NotifyAccess"]) == (["notify"], ["main"])
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2"]
    assert seconds(service["WatchdogSec"][0]) >= timedelta(seconds=30)
    assert unit("syncd.service")["Install"]["WantedBy"] == ["multi-user.target"]


def test_both_services_are_shut_in_alike() -> None:
    """A round has no more rights than the daemon, and both have as few as they can work with."""
    daemon, once = (unit(name)["Service"] for name in UNITS[:2])
    life = {"Type", "NotifyAccess", "ExecStart", "ExecReload", "WatchdogSec", "Restart", "RestartSec"}
    life |= {"RestartPreventExitStatus", "TimeoutStartSec", "TimeoutStopSec"}
    confined = {key: value for key, value in daemon.items() if key not in life}
    assert confined == {key: value for key, value in once.items() if key not in life}
    assert confined["User"] == ["syncd"]
    assert confined["ProtectSystem"] == ["strict"]
    assert confined["CapabilityBoundingSet"] == [""]
    for key in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "MemoryDenyWriteExecute"):
        assert confined[key] == ["yes"], key
    assert len(confined["SystemCallFilter"]) == 2


def test_the_timer_starts_the_round_and_makes_up_for_a_missed_one() -> None:
    """Cron-style use needs one unit enabled, and no run is lost to a reboot."""
    timer = unit("syncd-once.timer")
    assert timer["Timer"]["Persistent"] == ["yes"]
    assert (DEPLOY / "syncd-once.timer").with_suffix(".service").exists()
    assert timer["Install"]["WantedBy"] == ["timers.target"]
    assert "Install" not in unit("syncd-once.service")


# Compose and Kubernetes


def test_compose_shuts_the_container_in() -> None:
    """Read-only, without capabilities, and with a place for all that has to be written."""
    service = compose()["services"]["syncd"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"][0].startswith("/tmp:")
    assert {each["target"] for each in service["volumes"]} == {"/etc/syncd/config.yaml", "/data", "/inbox"}
    assert seconds(service["stop_grace_period"]) > Config().shutdown_timeout
    assert (DEPLOY / service["build"] / "Dockerfile").exists()
    named = {
        each["source"] for one in compose()["services"].values() for each in one["volumes"] if each["type"] == "volume"
    }
    assert named == set(compose()["volumes"])
    assert compose()["services"]["postgres"]["profiles"] == ["postgres"]
    assert service["depends_on"]["postgres"]["required"] is False


def test_compose_sets_what_syncd_understands(tmp_path: Path) -> None:
    """With nothing set the configuration is in force as it is; with the ledger set, the database beside it is used."""
    names = compose()["services"]["syncd"]["environment"]
    assert set(names) - {"PGPASSWORD"} == {"ZENTRIK_API_KEY", "SYNCD_LEDGER"}
    (tmp_path / "config.yaml").write_text("connectors: {}\n", encoding="utf-8")
    assert load(tmp_path / "config.yaml", dict.fromkeys(names, "")) == Config()
    [ledger] = re.findall(
        r"^#   SYNCD_LEDGER=(.*)$", (DEPLOY / "compose.yaml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert load(tmp_path / "config.yaml", {"SYNCD_LEDGER": ledger}).ledger == ledger
    postgres = compose()["services"]["postgres"]["environment"]
    assert ledger.endswith(f"{postgres['POSTGRES_USER']}@postgres/{postgres['POSTGRES_DB']}")


def test_the_manifest_runs_one_at_a_time_without_rights() -> None:
    """Two pods never have the ledger's file; what runs can do nothing but its work, and is not killed in the middle."""
    deployment = manifest("Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    [container] = pod()["containers"]
    assert container["args"][0] in cli.commands
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    [user] = instructions("USER", 2)
    assert f"{pod()['securityContext']['runAsUser']}:{pod()['securityContext']['runAsGroup']}" == user
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["enableServiceLinks"] is False, "SYNCD_PORT and its like would be taken for settings"
    assert timedelta(seconds=pod()["terminationGracePeriodSeconds"]) > Config().shutdown_timeout


def test_the_manifest_refers_to_what_is_in_it() -> None:
    """Each mount has its volume, each volume its claim or map; only the Secret is made by hand, under the name told."""
    [container] = pod()["containers"]
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert (
        volumes[mounted["/data"]]["persistentVolumeClaim"]["claimName"]
        == (manifest("PersistentVolumeClaim")["metadata"]["name"])
    )
    assert volumes[mounted["/etc/syncd"]]["configMap"]["name"] == manifest("ConfigMap")["metadata"]["name"]
    text = (DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")
    secret = volumes[mounted["/run/secrets/syncd"]]["secret"]["secretName"]
    assert f"kubectl create secret generic {secret} " in text
    for path in re.findall(r"/run/secrets/syncd/(\S+)", manifest("ConfigMap")["data"]["config.yaml"]):
        assert f"--from-file={path}" in text, path


def test_the_configuration_in_the_manifest_works(tmp_path: Path) -> None:
    """What is applied as it stands is a configuration that syncd takes, with its ledger on the volume."""
    for name in ("zentrik-api-key", "zendesk-api-token"):
        (tmp_path / name).write_text("made-up-secret\n", encoding="utf-8")
    text = manifest("ConfigMap")["data"]["config.yaml"].replace("/run/secrets/syncd", str(tmp_path))
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    config = load(tmp_path / "config.yaml", {})
    assert config.ledger.startswith("sqlite:////data/")
    assert config.zentrik.require_key().get_secret_value() == "made-up-secret"


def test_every_image_has_a_version_and_ours_is_this_one() -> None:
    """Nobody is upgraded by a restart, and what is deployed is what is released."""
    text = "".join((DEPLOY / name).read_text(encoding="utf-8") for name in ("compose.yaml", "kubernetes.yaml"))
    images = re.findall(r"image: (\S+)", text)
    assert len(images) == 3
    assert all(re.fullmatch(r"\w+:\d[\w.-]*", image) for image in images), images
    assert [image for image in images if image.startswith("syncd:")] == [f"syncd:{__version__}"] * 2
    for page in ("Dockerfile", "docs/quickstart.md", "docs/operating.md"):
        told = set(re.findall(r"syncd:(\d[\w.]*\w)", (TOP / page).read_text(encoding="utf-8")))
        assert told == {__version__}, page


@pytest.mark.parametrize("name", [*UNITS, "compose.yaml", "kubernetes.yaml", "../Dockerfile"])
def test_no_secret_stands_in_a_file(name: str) -> None:
    """Keys come from the environment, from files or from a Secret, never from what is committed."""
    for line in (DEPLOY / name).read_text(encoding="utf-8").splitlines():
        match = re.search(r"(?i)(?:key|token|secret|password)[=:]\s*(\S+)", line)
        if match:
            assert re.match(r"\$\{\w+:-\}|/run/secrets/|\.\.\.$|false$", match[1]), line
