"""What schemas do not see: names that refer to each other, rights, ports, times. Each rule takes a Release."""

import re
from dataclasses import dataclass, field

from render import key_of

DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
# Services before Kubernetes 1.36.
DNS_LABEL_WITH_LETTER = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
DNS_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
UNITS = {None: 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
# What a draining gateway needs after its window.
DRAIN_MARGIN = 15


@dataclass
class Release:
    """All objects of one rendering."""

    objects: list[dict]
    values: dict = field(default_factory=dict)

    def of(self, *kinds: str) -> list[dict]:
        return [thing for thing in self.objects if thing["kind"] in kinds]

    def pods(self) -> list[tuple[dict, dict, dict]]:
        """Each pod as its owner, its metadata and its spec."""
        templates = [(o, o["spec"]["template"]) for o in self.of("Deployment", "StatefulSet", "Job")]
        templates += [(o, o) for o in self.of("Pod")]
        return [(owner, template["metadata"], template["spec"]) for owner, template in templates]

    def gateway(self) -> tuple[dict, dict]:
        """The gateways' Deployment and their container."""
        (deployment,) = self.of("Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return deployment, container


def containers(spec: dict) -> list[dict]:
    return spec.get("initContainers", []) + spec["containers"]


def hook_of(thing: dict) -> set[str]:
    text = thing["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    return set(filter(None, text.split(",")))


def selects(selector: dict, labels: dict) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def names_and_labels(release: Release):
    """Names are DNS names, labels are labels, nothing is there twice, everything has the release's namespace."""
    seen = set()
    for thing in release.objects:
        key, meta = key_of(thing), thing["metadata"]
        if key in seen:
            yield f"{key} is there twice"
        seen.add(key)
        pattern = DNS_LABEL if thing["kind"] in {"StatefulSet", "Deployment", "Job", "Pod"} else DNS_NAME
        if thing["kind"] == "Service":
            pattern = DNS_LABEL_WITH_LETTER
        if not pattern.match(meta["name"]):
            yield f"{key}: not a good name"
        if not meta.get("namespace"):
            yield f"{key} has no namespace"
        every = [meta] + [m for owner, m, _ in release.pods() if owner is thing]
        for name, value in ((n, v) for m in every for n, v in m.get("labels", {}).items()):
            if not isinstance(value, str) or not LABEL_VALUE.match(value) or len(name.rsplit("/", 1)[-1]) > 63:
                yield f"{key}: label {name}: {value}"
        for name, value in meta.get("annotations", {}).items():
            if not isinstance(value, str):
                yield f"{key}: annotation {name} is no text"
    for thing in release.of("StatefulSet"):
        # The controller's own label is the name, a dash and ten characters.
        if len(thing["metadata"]["name"]) > 52:
            yield f"{key_of(thing)}: too long a name for its pods' labels"


def selectors(release: Release):
    """Every selector finds its pods, and every Service a port that they have."""
    pods = release.pods()
    for thing in release.of("Deployment", "StatefulSet"):
        if not selects(thing["spec"]["selector"]["matchLabels"], thing["spec"]["template"]["metadata"]["labels"]):
            yield f"{key_of(thing)} does not select its own pods"
    for service in release.of("Service"):
        found = [(o, spec) for o, meta, spec in pods if selects(service["spec"]["selector"], meta["labels"])]
        if len(found) != 1:
            yield f"{key_of(service)} selects the pods of {[key_of(o) for o, _ in found]}"
        for port in service["spec"]["ports"]:
            if not all(port["targetPort"] in port_names(spec) for _, spec in found):
                yield f"{key_of(service)}: no container has the port {port['targetPort']}"
    for policy in release.of("NetworkPolicy"):
        found = [spec for _, meta, spec in pods if selects(policy["spec"]["podSelector"]["matchLabels"], meta["labels"])]
        if len(found) != 1:
            yield f"{key_of(policy)} is about {len(found)} kinds of pods"
        rules = policy["spec"].get("ingress", [])
        for port in (port["port"] for rule in rules for port in rule.get("ports", [])):
            known = {p for spec in found for p in [*port_names(spec), *port_names(spec).values()]}
            if port not in known:
                yield f"{key_of(policy)}: no pod has the port {port}"
    for thing in release.of("PodDisruptionBudget"):
        if not any(selects(thing["spec"]["selector"]["matchLabels"], meta["labels"]) for _, meta, _ in pods):
            yield f"{key_of(thing)} protects nothing"
    for monitor in release.of("ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = [s for s in release.of("Service") if selects(wanted, s["metadata"]["labels"])]
        if len(found) != 1:
            yield f"{key_of(monitor)} selects {len(found)} Services"
        ports = {port["name"] for service in found for port in service["spec"]["ports"]}
        yield from (f"{key_of(monitor)}: no port {e['port']}" for e in monitor["spec"]["endpoints"] if e["port"] not in ports)


def ways_in(release: Release):
    """Ingress and HTTPRoute lead to the public port of the gateways, and to nothing else."""
    (public,) = (s for s in release.of("Service") if s["spec"]["ports"][0]["name"] == "http")
    name, port = public["metadata"]["name"], public["spec"]["ports"][0]
    for ingress in release.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for backend in (path["backend"]["service"] for path in rule["http"]["paths"]):
                if backend != {"name": name, "port": {"name": port["name"]}}:
                    yield f"{key_of(ingress)} leads to {backend}"
    for route in release.of("HTTPRoute"):
        for backend in (b for rule in route["spec"]["rules"] for b in rule["backendRefs"]):
            if backend != {"name": name, "port": port["port"]}:
                yield f"{key_of(route)} leads to {backend}"


def port_names(spec: dict) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for c in containers(spec) for port in c.get("ports", [])}


def ports(release: Release):
    """Ports are in range and differ; probes ask ports that exist."""
    for owner, _, spec in release.pods():
        numbers = [port["containerPort"] for c in containers(spec) for port in c.get("ports", [])]
        if len(set(numbers)) != len(numbers) or not all(1024 <= number < 65536 for number in numbers):
            yield f"{key_of(owner)}: ports {numbers}"
        for container in containers(spec):
            for probe in (container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")):
                port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                if port is not None and port not in port_names(spec):
                    yield f"{key_of(owner)}: a probe asks port {port}"


def health(release: Release):
    """Liveness never depends on Redis or Postgres."""
    _, container = release.gateway()
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    for kind, path in (("startup", "/startupz"), ("readiness", "/readyz"), ("liveness", "/livez")):
        if asked[kind] != {"path": path, "port": "ops"}:
            yield f"{kind} asks {asked[kind]}"


def stop(release: Release):
    """Who stops a gateway waits longer than it takes to empty it; nobody is stopped before the next one stands."""
    deployment, container = release.gateway()
    pod = deployment["spec"]["template"]["spec"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    window = int(environment["HELIOGRAPH_DRAIN_WINDOW"].removesuffix("s"))
    if pod["terminationGracePeriodSeconds"] < pause + window + DRAIN_MARGIN:
        yield f"{pod['terminationGracePeriodSeconds']} s are too short for {pause} + {window} + {DRAIN_MARGIN}"
    if pause < 1:
        yield "no pause before SIGTERM"
    if deployment["spec"]["strategy"]["rollingUpdate"] != {"maxSurge": 1, "maxUnavailable": 0}:
        yield "the roll-out takes gateways away before new ones stand"


def rights(release: Release):
    """No root, no writable root file system, no privileges, no token of the service account, no service links."""
    for owner, _, spec in release.pods():
        key, pod = key_of(owner), spec["securityContext"]
        if not pod["runAsNonRoot"] or not pod["runAsUser"] or pod["seccompProfile"] != {"type": "RuntimeDefault"}:
            yield f"{key}: {pod}"
        if spec.get("automountServiceAccountToken") is not False or spec.get("enableServiceLinks") is not False:
            yield f"{key} mounts a token or has service links"
        for container in containers(spec):
            right = container["securityContext"]
            if right != {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}:
                yield f"{key}, {container['name']}: {right}"
            if container.get("resources", {}).get("requests") is None:
                yield f"{key}, {container['name']}: no requests"


def quantity(text) -> float:
    match = QUANTITY.match(str(text))
    if not match:
        raise ValueError(f"{text!r} is no quantity")
    return float(match[1]) * UNITS[match[2]]


def resources(release: Release):
    """Quantities are quantities, and no request is above its limit."""
    for owner, _, spec in release.pods():
        for container in containers(spec):
            requests, limits = (container["resources"].get(part, {}) for part in ("requests", "limits"))
            for name, wanted in requests.items():
                if quantity(wanted) > quantity(limits.get(name, "1000000Ti")):
                    yield f"{key_of(owner)}, {container['name']}: {name} {wanted} is above its limit {limits[name]}"


def scaling(release: Release):
    """The autoscaler alone has the number of gateways, and takes them away slowly."""
    deployment, _ = release.gateway()
    scalers = release.of("HorizontalPodAutoscaler")
    if bool(scalers) == ("replicas" in deployment["spec"]):
        yield "the number of gateways has no owner, or two"
    for scaler in scalers:
        if scaler["spec"]["scaleTargetRef"]["name"] != deployment["metadata"]["name"]:
            yield "the autoscaler scales something else"
        down = scaler["spec"]["behavior"]["scaleDown"]
        if down["stabilizationWindowSeconds"] < 300 or down["policies"] != [{"type": "Pods", "value": 1, "periodSeconds": 300}]:
            yield f"scales down too fast: {down}"


def references(release: Release):
    """Volumes, Secrets and keys exist; what runs before the installation needs nothing that comes with it."""
    rendered = {thing["metadata"]["name"]: thing for thing in release.of("Secret")}
    for owner, _, spec in release.pods():
        key, volumes = key_of(owner), {volume["name"] for volume in spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        early = "pre-install" in hook_of(owner)
        for mount in (mount for c in containers(spec) for mount in c.get("volumeMounts", [])):
            if mount["name"] not in volumes:
                yield f"{key}: no volume {mount['name']}"
        for secret, item in secrets_of(spec):
            owned = rendered.get(secret)
            if owned is None:
                if f'"{secret}"' not in str(release.values).replace("'", '"'):
                    yield f"{key} needs a Secret {secret}, which neither the chart nor the values have"
                continue
            if item not in owned["data"]:
                yield f"{key}: Secret {secret} has no {item}"
            if early and "pre-install" not in hook_of(owned):
                yield f"{key} runs before its Secret {secret} exists"
        account = spec.get("serviceAccountName", "default")
        if early and account in {a["metadata"]["name"] for a in release.of("ServiceAccount")}:
            yield f"{key} runs before its account exists"


def secrets_of(spec: dict):
    """Each Secret and key that a pod needs."""
    for volume in spec.get("volumes", []):
        sources = [source["secret"] for source in volume.get("projected", {}).get("sources", []) if "secret" in source]
        sources += [volume["secret"]] if "secret" in volume else []
        for source in sources:
            for item in source["items"]:
                yield source.get("name") or source["secretName"], item["key"]
    for variable in (v for c in containers(spec) for v in c.get("env", [])):
        wanted = variable.get("valueFrom", {}).get("secretKeyRef")
        if wanted:
            yield wanted["name"], wanted["key"]


def environment(release: Release):
    """No variable twice, none used before it is there, no secret's text among them."""
    for owner, _, spec in release.pods():
        for container in containers(spec):
            names = []
            for variable in container.get("env", []):
                for used in re.findall(r"\$\(([A-Z_]+)\)", variable.get("value", "")):
                    if used not in names:
                        yield f"{key_of(owner)}: {variable['name']} uses {used} before it is there"
                if re.search(r"(SECRET|PASSWORD|KEY|_URL)$", variable["name"]) and variable["name"].startswith("HELIOGRAPH_"):
                    yield f"{key_of(owner)}: {variable['name']} is a secret in plain sight"
                names.append(variable["name"])
            if len(set(names)) != len(names):
                yield f"{key_of(owner)}: variables twice: {sorted(names)}"


ALL = [
    names_and_labels, selectors, ways_in, ports, health, stop, rights, resources, scaling, references, environment,
]  # fmt: skip
