"""As much of a Kubernetes API as Helm asks when a chart looks objects up: Secrets and Deployments by name.

It stands in for a real one, which cannot be had from a package registry: what was generated stays, and so does the number of
gateways.
"""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import helm_python

APPS = {"groupVersion": "apps/v1", "version": "v1"}
# Where the API has what the chart looks up, by kind.
FOLDERS = {"Secret": "/api/v1", "Deployment": "/apis/apps/v1"}


def resources(version: str, kind: str) -> dict:
    """What discovery says of one version of the API, with one kind in it."""
    name = kind.lower()
    known = {"name": f"{name}s", "singularName": name, "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [known]}


@contextmanager
def cluster_with(objects: list[dict]):
    """A Helm that is connected to a cluster which has these objects, and the paths that it asked for."""
    groups = [{"name": "apps", "versions": [APPS], "preferredVersion": APPS}]
    answers = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        "/api/v1": resources("v1", "Secret"),
        "/apis/apps/v1": resources("apps/v1", "Deployment"),
    }
    for thing in objects:
        meta, folder = thing["metadata"], FOLDERS[thing["kind"]]
        answers[f"{folder}/namespaces/{meta['namespace']}/{thing['kind'].lower()}s/{meta['name']}"] = thing
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802: the library's name
            path = self.path.split("?")[0]
            asked.append(path)
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(answers.get(path, status)).encode()
            self.send_response(200 if path in answers else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        with helm_python.Config(kube_apiserver=address, kubeconfig_content=kubeconfig(address)) as config:
            yield config, asked
    finally:
        server.shutdown()


def kubeconfig(address: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": address}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
    )
