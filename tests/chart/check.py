"""The chart's tests: `cargo xtask test chart` prepares what they need and runs them."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import kubernetes_validate
import yaml

import rules
import settings
from api import cluster_with
from render import CHART, ROOT, key_of, lint, parse, render_new, render_old, values_files

# The oldest that Chart.yaml allows, and the newest with schemas.
KUBERNETES = ["1.30.0", "1.34.0", "1.36.0"]
# Objects that operators define: crds.mjs knows them.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
BINARY = os.environ.get("HELIOGRAPH_BIN", str(ROOT / "target/debug/heliograph"))
TRY = {"postgres": {"embedded": True}, "redis": {"embedded": True}}


def releases():
    for file in values_files():
        values = yaml.safe_load(file.read_text())
        yield file, rules.Release(render_new(values), values)


def test_there_are_values_for_each_way_to_install():
    names = {file.name.removesuffix("-values.yaml") for file in values_files()}
    expected = {"try", "production", "scaling", "gateway-api", "monitoring", "keys"}
    assert names >= expected, expected - names


def test_lints():
    found = [f"{file.name}: {problem}" for file in values_files() for problem in lint(file)]
    assert not found, "\n".join(found)


def test_two_helms_render_the_same():
    for file, release in releases():
        old, new = ({key_of(o): o for o in objects} for objects in (render_old(file), release.objects))
        assert old.keys() == new.keys(), (file.name, old.keys() ^ new.keys())
        # What is generated differs each time without a cluster to ask.
        different = [key for key in old if not key.startswith("Secret/") and old[key] != new[key]]
        assert not different, (file.name, different)


def test_the_schemas_of_kubernetes():
    checked, custom = 0, []
    for file, release in releases():
        for thing in release.objects:
            if thing["kind"] in CUSTOM:
                custom.append(thing)
                continue
            for version in KUBERNETES:
                try:
                    used = kubernetes_validate.validate(thing, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    raise AssertionError(f"{file.name}, {key_of(thing)}, {version}: {error.message}") from error
                assert version.startswith(used), f"no schemas of {version}: {used} was taken"
                checked += 1
    assert checked > 100, f"only {checked} were looked at"
    assert {thing["kind"] for thing in custom} == CUSTOM
    run = subprocess.run(
        ["node", "crds.mjs"], cwd=ROOT / "tests/chart", input=json.dumps(custom), text=True, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_what_schemas_do_not_see():
    found = [
        f"{file.name}: {rule.__name__}: {problem}"
        for file, release in releases()
        for rule in rules.ALL
        for problem in rule(release)
    ]
    assert not found, "\n".join(found)


def spoil(release: rules.Release, rule: str):
    """Breaks what a rule is about."""
    deployment, container = release.gateway()
    pod = deployment["spec"]["template"]["spec"]
    ops = next(s for s in release.of("Service") if s["metadata"]["name"].endswith("-ops"))
    match rule:
        case "names_and_labels": deployment["metadata"]["labels"]["long"] = "x" * 64
        case "selectors": ops["spec"]["ports"][0]["targetPort"] = "obs"
        case "ways_in": release.of("Ingress")[0]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "x"
        case "ports": container["ports"][1]["containerPort"] = 8080
        case "health": container["livenessProbe"]["httpGet"]["path"] = "/readyz"
        case "stop": pod["terminationGracePeriodSeconds"] = 30
        case "rights": container["securityContext"]["readOnlyRootFilesystem"] = False
        case "resources": container["resources"]["requests"]["memory"] = "2Gi"
        case "scaling": del deployment["spec"]["replicas"]
        case "references": container["volumeMounts"].append({"name": "gone", "mountPath": "/gone"})
        case "environment": container["env"].append(container["env"][0])
        case _: raise AssertionError(f"nobody spoils {rule}")  # fmt: skip


def test_each_rule_can_fail():
    values = yaml.safe_load((CHART / "ci/production-values.yaml").read_text())
    for rule in rules.ALL:
        release = rules.Release(render_new(values), values)
        spoil(release, rule.__name__)
        assert list(rule(release)), f"{rule.__name__} sees nothing"


def merged(base: dict, change: dict) -> dict:
    result = dict(base)
    for key, value in change.items():
        result[key] = merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return result


def test_wrong_values_are_refused_with_a_reason():
    long_drain = {"drain": {"windowSeconds": 60, "terminationGracePeriodSeconds": 70}}
    both = {"extraEnv": [{"name": "POD_NAME", "value": "x"}], "tracing": {"endpoint": "http://x:4318"}}
    twice = [{"kid": "a", "key": "k"}, {"kid": "b", "key": "k"}]
    cases = [
        ({"replicas": 3}, "replicas"),
        ({"config": {"lease_trem": "3s"}}, "lease_trem"),
        ({"config": {"signing_secret": "x" * 40}}, "signing_secret"),
        ({"config": {"lease_term": "soon"}}, "lease_term"),
        ({"replicaCount": "three"}, "replicaCount"),
        ({"podLabels": {"app.kubernetes.io/name": "x"}}, "app.kubernetes.io/name"),
        ({"extraEnv": [{"name": "HELIOGRAPH_LOG", "value": "x"}]}, "extraEnv"),
        ({"postgres": {"url": "postgres://x"}}, "exactly one of postgres"),
        ({"redis": {"embedded": False}}, "exactly one of redis"),
        ({"migrations": {"mode": "job"}}, "embedded Postgres"),
        ({"ice": {"turn": {"urls": ["turn:x"]}}}, "existingSecret"),
        ({"httpRoute": {"enabled": True}}, "parentRefs"),
        ({"autoscaling": {"enabled": True, "cpuUtilization": 0}}, "autoscaling"),
        ({"updateStrategy": {"maxSurge": 0, "maxUnavailable": 0}}, "maxSurge"),
        (long_drain, "at least 80"),
        (both, "POD_NAME is set already"),
        ({"admin": {"port": 9464}}, "listen twice"),
        ({"ops": {"port": 8080}}, "listen twice"),
        ({"auth": {"signingKeys": {"existingSecret": "s", "signWith": "a", "keys": twice}}}, "a file twice"),
    ]
    for change, reason in cases:
        try:
            render_new(merged(TRY, change))
        except Exception as error:  # noqa: BLE001: the engine's own types
            assert reason in str(error), f"{change}: {error}"
            continue
        raise AssertionError(f"{change} was taken")


# What an API server rejects or warns of, once for each kind of fault. A release of which a part is rejected stands half.
REJECTED = [
    {"nameOverride": "My App"},
    {"imagePullSecrets": [{}]},
    {"updateStrategy": {"maxUnavailable": "150%"}},
    {"podDisruptionBudget": {"maxUnavailable": "200%"}},
    {"minReadySeconds": 600},
    {"replicaCount": 3_000_000_000},
    {"auth": {"existingSecret": "a..b"}},
    {"auth": {"apiKeys": {"existingSecret": "s", "key": "..x"}}},
    {"postgres": {"embeddedSettings": {"storage": {"className": "X Y"}}}},
    {"migrations": {"serviceAccountName": "X"}},
    {"migrations": {"annotations": {"helm.sh/hook": "test"}}},
    {"serviceAccount": {"annotations": {"a/b/c": "x"}}},
    {"podAnnotations": {"checksum/secrets": "x"}},
    {"podAnnotations": {"bad key": "x"}},
    {"commonLabels": {"a.-b/c": "x"}},
    {"nodeSelector": {"a": "x y"}},
    {"topologySpread": {"topologyKeys": ["a", "a"]}},
    {"resources": {"limits": {"foo": "1"}}},
    {"resources": {"requests": {"memory": "100m"}}},
    {"resources": {"claims": [{"name": "gpu"}]}},
    {"service": {"appProtocol": "a b"}},
    {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1"]}},
    {"ingress": {"enabled": True, "hosts": ["a..b"]}},
    {"ingress": {"enabled": True, "hosts": ["10.0.0.1"]}},
    {"ingress": {"enabled": True, "path": "/a//b"}},
    {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}], "path": "/a/../b"}},
    {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}, {"name": "g"}]}},
    {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g", "namespace": "X"}]}},
    {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}], "timeouts": {"request": "100000s"}}},
    {"autoscaling": {"enabled": True, "sessionsPerPod": 5, "sessionsMetric": "a/b"}},
    {"networkPolicy": {"enabled": True, "publicFrom": [{}]}},
    {"monitoring": {"serviceMonitor": {"enabled": True, "interval": "5s3m"}}},
    {"extraVolumes": [{"name": "secrets", "emptyDir": {}}]},
    {"extraVolumeMounts": [{"name": "x", "mountPath": "/etc/heliograph"}]},
    {"extraEnv": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]},
    {"extraEnv": [{"name": "A", "valueFrom": {}}]},
]


def test_what_an_api_server_rejects_is_refused_before():
    taken = []
    for change in REJECTED:
        try:
            render_new(merged(TRY, change))
        except Exception as error:  # noqa: BLE001: the engine's own types
            assert "schema" in str(error), f"{change}: {error}"
            continue
        taken.append(change)
    assert not taken, taken


def test_percentages_say_how_many_gateways_change_at_once():
    for surge, unavailable in (("25%", 0), (0, "25%"), ("300%", "100%")):
        values = merged(TRY, {"updateStrategy": {"maxSurge": surge, "maxUnavailable": unavailable}})
        deployment, _ = rules.Release(render_new(values), values).gateway()
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": unavailable}


def test_any_name_that_helm_takes_makes_good_names():
    for name in ("my.release", "1st", "9", "1e3", "a" * 53, "x-y.z-1"):
        release = rules.Release(render_new(TRY, release=name), TRY)
        found = [problem for rule in (rules.names_and_labels, rules.selectors) for problem in rule(release)]
        assert not found, f"{name}: {found}"


def test_load_tests_run_where_pods_are_restricted():
    files = sorted((ROOT / "load-tests/k8s").glob("*.yaml"))
    assert files, "no manifests of load tests"
    for file in files:
        (run,) = parse(file.read_text())
        # Each of the three is a pod of its own, made by the operator.
        for part in ("initializer", "starter", "runner"):
            pod = run["spec"][part]
            user = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
            assert pod["securityContext"] == user, (file.name, part)
            rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert pod["containerSecurityContext"] == rights, (file.name, part)


def material(folder: Path, release: rules.Release) -> dict[str, str]:
    """The environment of a gateway, with the files that it names in a folder."""
    deployment, container = release.gateway()
    secrets = {s["metadata"]["name"]: s["data"] for s in release.of("Secret")}
    stand_ins = {
        "signing-secret": "s" * 40,
        "bootstrap-admin-key": "ak_" + "0" * 32,
        "database-url": "postgres://heliograph:pw@db/heliograph",
        "redis-url": "redis://:pw@redis:6379",
        "turn-secret": "shared",
        "api-keys.json": '{"keys": {}}',
    }
    (volume,) = (v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "secrets")
    for source in (source["secret"] for source in volume["projected"]["sources"]):
        for item in source["items"]:
            path = folder / item["path"]
            path.parent.mkdir(exist_ok=True)
            if item["path"].startswith("keys/"):
                subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True, capture_output=True)
            elif source["name"] in secrets:
                path.write_bytes(base64.b64decode(secrets[source["name"]][item["key"]]))
            else:
                path.write_text(stand_ins[item["path"]])
    return {v["name"]: v.get("value", "x").replace("/etc/heliograph", str(folder)) for v in container["env"]}


def test_the_program_takes_the_environment():
    for file, release in releases():
        with tempfile.TemporaryDirectory() as folder:
            environment = material(Path(folder), release)
            command = [BINARY, "config", "check", "--mode", "serve"]
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
            assert run.returncode == 0, f"{file.name}: {run.stderr}"
            # The same with a variable that does not exist: the check is one.
            run = subprocess.run(command, env={**environment, "HELIOGRAPH_LEASE_TREM": "3s"}, capture_output=True, check=False)
            assert run.returncode == 2, file.name


def test_config_takes_the_settings_of_the_program():
    schema = json.loads(settings.SCHEMA.read_text())
    found, expected = schema["properties"]["config"]["properties"], settings.expected()
    assert found == expected, f"run `cargo xtask docs`: {found.keys() ^ expected.keys()}"
    assert settings.ELSEWHERE <= settings.settings().keys(), settings.ELSEWHERE - settings.settings().keys()


def test_versions_agree():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    program = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert (chart["version"], chart["appVersion"]) == (program, program)
    _, container = rules.Release(render_new(TRY), TRY).gateway()
    assert container["image"].endswith(f":{program}"), container["image"]


def test_generated_secrets_fit_together():
    release = rules.Release(render_new(TRY), TRY)
    (secret,) = release.of("Secret")
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    services = {service["metadata"]["name"] for service in release.of("Service")}
    for part in ("postgres", "redis"):
        url = data["database-url" if part == "postgres" else "redis-url"]
        assert f":{data[part + '-password']}@" in url
        assert re.search(r"@([^:]+):", url)[1] in services
    assert re.fullmatch(r"ak_[0-9a-f]{32}", data["bootstrap-admin-key"])
    assert len(data["signing-secret"]) >= 32
    again = rules.Release(render_new(TRY), TRY).of("Secret")[0]["data"]
    assert not {v for v in again.values()} & {v for v in secret["data"].values()}, "not random"


def test_generated_secrets_survive_upgrades():
    first = rules.Release(render_new(TRY), TRY).of("Secret")
    with cluster_with(first) as (helm, asked):
        upgraded = rules.Release(render_new(TRY, helm), TRY).of("Secret")
    assert any(path.endswith("/secrets/try-heliograph") for path in asked), asked
    assert [secret["data"] for secret in upgraded] == [secret["data"] for secret in first]
    # What the values say goes before what is there.
    chosen = merged(TRY, {"auth": {"signingSecret": "chosen" * 6}})
    with cluster_with(first) as (helm, _):
        (changed,) = rules.Release(render_new(chosen, helm), chosen).of("Secret")
    assert base64.b64decode(changed["data"]["signing-secret"]) == b"chosen" * 6
    assert changed["data"]["database-url"] == first[0]["data"]["database-url"]


def test_the_readme_names_every_value():
    readme = (CHART / "README.md").read_text()
    schema = json.loads(settings.SCHEMA.read_text())["properties"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert schema.keys() - {"global"} == values.keys(), schema.keys() ^ values.keys()
    missing = [key for key in values if f"`{key}" not in readme]
    assert not missing, missing


def test_monitoring_ships_the_files_of_deploy():
    copies = {
        "rules": sorted((ROOT / "deploy/prometheus/rules").glob("*.yml")),
        "dashboards": sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")),
    }
    values = yaml.safe_load((CHART / "ci/monitoring-values.yaml").read_text())
    release = rules.Release(render_new(values), values)
    groups = [group["name"] for rule in release.of("PrometheusRule") for group in rule["spec"]["groups"]]
    boards = {key: text for config in release.of("ConfigMap") for key, text in config["data"].items()}
    for part, originals in copies.items():
        assert originals, f"nothing in deploy for {part}"
        shipped = {file.name: file.read_bytes() for file in (CHART / "files" / part).iterdir()}
        assert shipped == {file.name: file.read_bytes() for file in originals}, f"run `cargo xtask docs`: {part}"
    for file in copies["rules"]:
        names = {group["name"] for group in yaml.safe_load(file.read_text())["groups"]}
        assert names <= set(groups), names - set(groups)
    for file in copies["dashboards"]:
        assert json.loads(boards[file.name]) == json.loads(file.read_text()), file.name


def run_all(names: dict) -> int:
    """Runs the functions called test_…, all of them, and answers with an exit code."""
    tests = [(name, test) for name, test in names.items() if name.startswith("test_")]
    failed = 0
    for name, test in tests:
        try:
            test()
            print(f"{name}: ok")
        except Exception:  # noqa: BLE001: whatever it is, the test has failed
            failed += 1
            print(f"{name}: FAILED\n{traceback.format_exc(limit=-3)}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_all(globals()))
