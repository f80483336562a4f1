"""Dockerfile, compose file and systemd unit: their schemas, and that they fit what they name."""

import ipaddress
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

import settings
from check import BINARY, run_all
from render import ROOT

COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy/Dockerfile"
UNIT = ROOT / "deploy/systemd/heliograph.service"
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")


def compose() -> dict:
    return yaml.safe_load(COMPOSE.read_text())


def gateways() -> dict[str, dict]:
    return {name: s for name, s in compose()["services"].items() if name.startswith("gateway-")}


def tool(name: str) -> str:
    """A program of this Python's environment."""
    return str(Path(sys.executable).parent / name)


def must_run(command: list[str], **options) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)
    assert run.returncode == 0, f"{command}: {run.stdout}{run.stderr}"
    return run.stdout


def secrets() -> dict[str, str]:
    """What deploy/env.sh makes."""
    lines = must_run(["sh", str(ROOT / "deploy/env.sh")]).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled(text: str, values: dict[str, str]) -> str:
    """As compose reads it: `${A}`, `${A:-default}`, `${A:?must be there}`."""

    def value(match: re.Match) -> str:
        name, kind, word = match.groups()
        assert name in values or kind == "-", f"nothing makes {name}"
        return values.get(name) or word

    return VARIABLE.sub(value, text).replace("$$", "$")


def test_compose_has_its_schema():
    must_run([tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)])


def test_compose_names_what_there_is():
    whole, problems = compose(), []
    services = whole["services"]
    for name, service in services.items():
        needs = service.get("depends_on", [])
        conditions = needs if isinstance(needs, dict) else {need: {} for need in needs}
        for need, condition in conditions.items():
            if need not in services:
                problems.append(f"{name} needs {need}, which there is not")
            elif condition.get("condition") == "service_healthy" and "test" not in services[need].get("healthcheck", {}):
                problems.append(f"{name} waits for the health of {need}, which has none")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = (ROOT / source).exists() if source.startswith("./") else source in whole["volumes"]
            if not there:
                problems.append(f"{name} mounts {source}, which there is not")
        networks = service.get("networks", [])
        problems += [f"{name}: no network {network}" for network in networks if network not in whole["networks"]]
    assert not problems, "\n".join(problems)


def test_every_secret_of_compose_is_made_and_none_is_in_it():
    made = secrets()
    filled(COMPOSE.read_text(), made)
    again = secrets()
    for name, value in made.items():
        if re.search("SECRET|KEY|PASSWORD", name):
            assert len(value) >= 24 and value != again[name], f"{name} is no secret"
            assert f"${{{name}:?" in COMPOSE.read_text(), f"{name} is not required"


def test_the_gateways_take_their_environment():
    assert len(gateways()) == 3
    settings_of_each = []
    for service in gateways().values():
        environment = {name: filled(str(value), secrets()) for name, value in service["environment"].items()}
        must_run([BINARY, "config", "check", "--mode", "serve"], env=environment)
        settings_of_each.append(service["environment"])
    assert all(one == settings_of_each[0] for one in settings_of_each), "nothing tells one gateway from another"


def test_who_asks_the_gateways_knows_them():
    whole, names = compose(), set(gateways())
    balancer = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
    assert set(re.findall(r"^\s+server \S+ (gateway-\d):8080$", balancer, re.MULTILINE)) == names
    other = (ROOT / "deploy/nginx/nginx.conf").read_text()
    assert set(re.findall(r"^\s+server (gateway-\d):8080 ", other, re.MULTILINE)) == names
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert {target for config in job["static_configs"] for target in config["targets"]} == {f"{n}:9464" for n in names}
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/heliograph.yml").read_text())
    assert [s["url"] for s in source["datasources"]] == ["http://prometheus:9090"] and "prometheus" in whole["services"]
    addresses = {name: s["networks"]["cluster"]["ipv4_address"] for name, s in {**gateways(), "balancer": whole["services"]["balancer"]}.items()}
    assert len(set(addresses.values())) == 4, addresses
    trusted = gateways()["gateway-1"]["environment"]["HELIOGRAPH_TRUSTED_PROXIES"]
    assert trusted == addresses["balancer"] + "/32"
    endpoint = gateways()["gateway-1"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    collector = yaml.safe_load((ROOT / "deploy/otel/collector.yml").read_text())
    port = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rsplit(":", 1)[1]
    assert endpoint == f"http://otel-collector:{port}" and "otel-collector" in whole["services"]


def test_the_balancer_finds_gateways_that_were_down_when_it_started():
    text = filled(COMPOSE.read_text(), secrets())
    whole = yaml.safe_load(text)
    own = {name: s["networks"]["cluster"]["ipv4_address"] for name, s in whole["services"].items() if isinstance(s.get("networks"), dict)}
    known = dict(line.split(":", 1) for line in whole["services"]["balancer"]["extra_hosts"])
    assert known == {name: own[name] for name in gateways()}, known
    # An address of somebody who is away must not be given to somebody else.
    (network,) = whole["networks"]["cluster"]["ipam"]["config"]
    subnet, given = ipaddress.ip_network(network["subnet"]), ipaddress.ip_network(network["ip_range"])
    assert given.subnet_of(subnet) and given != subnet, network
    for name, address in own.items():
        assert ipaddress.ip_address(address) in subnet and ipaddress.ip_address(address) not in given, name


def test_a_gateway_has_time_to_drain():
    for service in gateways().values():
        window = int(service["environment"]["HELIOGRAPH_DRAIN_WINDOW"].removesuffix("s"))
        assert int(service["stop_grace_period"].removesuffix("s")) >= window + 15
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)[1]) >= 20 + 15


def test_the_dockerfile_is_good():
    must_run([tool("hadolint"), str(DOCKERFILE)])
    text = DOCKERFILE.read_text()
    channel = re.search(r'^channel = "(.+)"$', (ROOT / "rust-toolchain.toml").read_text(), re.MULTILINE)[1]
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert f"ARG RUST_VERSION={channel}\n" in text
    assert f"ARG VERSION={version}\n" in text
    assert "USER 65532:65532" in text
    # What is copied onto a folder that the base has not is made for all to read: the folder of the data comes inside another.
    data = re.search(r"^ENV HELIOGRAPH_DATA_DIR=(.+)$", text, re.MULTILINE)[1]
    (source, target), = re.findall(r"^COPY --from=build --chown=65532:65532 (\S+) (\S+)$", text, re.MULTILINE)
    assert f"install -d -m 0750 {source}{data.removeprefix(target)}\n" in text and target != data, (source, target)
    sent = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists() and f"!{source}" in sent, source


def test_the_image_is_built_from_what_the_compiler_reads():
    """Of cargo's own list of files, each is where the Dockerfile copies it from, and nothing keeps it out."""
    listed = Path(f"{BINARY}.d").read_text().replace("\\ ", "\0").split()[1:]
    paths = [Path(os.path.normpath(name.replace("\0", " "))) for name in listed]
    # What a build makes itself, it makes anew in the image.
    files = {path.relative_to(ROOT) for path in paths if not path.is_relative_to(Path(BINARY).parents[1])}
    folders = {file.parts[0] for file in files}
    assert {"crates", "migrations", "web"} <= folders and len(files) > 100, folders
    copied = re.findall(r"^COPY (?!--from)(\S+) \1$", DOCKERFILE.read_text(), re.MULTILINE)
    sent = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    left_out = [line.removeprefix("**/") for line in sent if line.startswith("**/")]
    missing = [str(f) for f in files if f.parts[0] not in copied or set(f.parts) & set(left_out)]
    assert not missing, f"{len(missing)} files, such as {min(missing)}"
    # Cargo wants every member of the workspace to be there, used or not.
    members = re.search(r"^members = \[(.+)\]$", (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    outside = [m for m in re.findall(r'"([^"]+)"', members) if m.split("/")[0] not in copied]
    assert not outside, outside


def test_images_are_of_this_version():
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    ours = {s["image"] for s in compose()["services"].values() if "build" in s}
    assert ours == {f"localhost/heliograph:{version}"}, ours
    moving = [s["image"] for s in compose()["services"].values() if ":" not in s["image"] or s["image"].endswith(":latest")]
    assert not moving, moving


def test_health_checks_are_commands_of_the_program():
    asked = re.search(r'CMD \["/usr/local/bin/heliograph", "(\w+)"\]', DOCKERFILE.read_text())[1]
    checks = {tuple(s["healthcheck"]["test"][2:]) for s in gateways().values()} | {(asked,)}
    assert checks == {("health",), ("health", "--ready")}, checks
    # Nobody listens there: the check runs, and says no.
    environment = {"HELIOGRAPH_OPS_LISTEN": "127.0.0.1:1", "PATH": os.environ["PATH"]}
    for arguments in checks:
        run = subprocess.run([BINARY, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=30)
        assert run.returncode == 1 and "the node is not" in run.stderr, (arguments, run)


def test_the_unit_names_settings_of_the_program():
    variables = {f"HELIOGRAPH_{key.upper()}" for key in settings.settings()}
    named = re.findall(r"^Environment=(HELIOGRAPH_[A-Z_]+)=", UNIT.read_text(), re.MULTILINE)
    assert len(named) >= 4
    assert not [name for name in named if name.removesuffix("_FILE") not in variables and name not in variables]


if __name__ == "__main__":
    sys.exit(run_all(globals()))
