"""The settings that the chart's `config` takes, from docs/configuration.md: `--write` brings the schema up to date."""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/configuration.md"
SCHEMA = ROOT / "helm/heliograph/values.schema.json"

# Settings that have a place of their own in values.yaml, or that a gateway in a cluster has no use for.
ELSEWHERE = {
    "listen", "ops_listen", "admin_listen", "allowed_origins", "trusted_proxies", "data_dir", "database_url",
    "redis_url", "auto_migrate", "signing_secret", "signing_key_files", "signing_kid", "bootstrap_admin_key",
    "api_keys_file", "drain_window", "ice_urls", "turn_urls", "turn_secret", "turn_ttl", "trace_sample_ratio",
}  # fmt: skip

ROW = re.compile(r"^\| `(?P<key>[a-z_]+)` \| `(?P<variable>HELIOGRAPH_[A-Z_]+)`[^|]*\| (?P<type>[^|]+) \|")


def settings() -> dict[str, str]:
    """Every setting of the program with its type, as the generated reference has them."""
    rows = (ROW.match(line) for line in REFERENCE.read_text().splitlines())
    found = {row["key"]: row["type"] for row in rows if row}
    if len(found) < 30:
        raise SystemExit(f"{REFERENCE} has only {len(found)} settings: its form has changed, and this file has to follow")
    return found


def schema_of(kind: str) -> dict:
    named = {"duration": "duration", "bytes": "size", "number": "number"}
    if kind in named:
        return {"$ref": f"#/definitions/{named[kind]}"}
    if kind == "`true` or `false`":
        return {"type": "boolean"}
    if kind.startswith("list"):
        return {"$ref": "#/definitions/list"}
    if ";" in kind:  # words, or something else
        return {"type": "string"}
    words = re.findall(r"`([a-z]+)`", kind)
    if words:
        # YAML reads a bare `off` as false: whoever forgets the quotes is told so.
        return {"enum": words}
    if kind == "0 to 1":
        return {"type": "number", "minimum": 0, "maximum": 1}
    return {"type": "string"}


def expected() -> dict[str, dict]:
    """What the schema of `config` has to be."""
    return {key: schema_of(kind) for key, kind in settings().items() if key not in ELSEWHERE}


def main() -> None:
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["config"]["properties"] = expected()
    SCHEMA.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit("usage: settings.py --write")
    main()
