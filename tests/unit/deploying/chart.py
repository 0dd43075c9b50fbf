"""The chart deploy/helm/labd, rendered by the real helm."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.tools import tool

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "labd"
EXAMPLES = sorted((ROOT / "deploy" / "helm" / "examples").glob("*.yaml"))
DEMO = ROOT / "deploy" / "demo"
NAMESPACE = "lab"
Manifest = dict[str, Any]
ECM = f"agents.files.ecm\\.yaml={DEMO / 'ecm.yaml'}"


class Refused(Exception):
    """helm does not render these values; the message is its own."""


def helm(*arguments: str) -> str:
    """Standard output. Raises Refused."""
    done = subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def render(*options: str, values: Path | None = None, release: str = "labd") -> list[Manifest]:
    """Every object that an installation makes, hooks included. Raises Refused."""
    files = [] if values is None else ["--values", str(values)]
    if values is not None and values.name == "vcan.yaml":
        files += ["--set-file", ECM]
    out = helm("template", release, str(CHART), "--namespace", NAMESPACE, "--include-crds", *files, *options)
    return [document for document in yaml.safe_load_all(out) if document is not None]


def of_kind(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one of that kind, and name if one is given."""
    found = [one for one in manifests if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {[one['metadata']['name'] for one in found]}"
    return found[0]


def pods(manifests: Sequence[Manifest]) -> dict[str, Manifest]:
    """Specifications of pods, by kind and name of what makes them."""
    found: dict[str, Manifest] = {}
    for one in manifests:
        if one["kind"] == "Pod":
            found[f"Pod/{one['metadata']['name']}"] = one["spec"]
        elif one["kind"] in ("StatefulSet", "Deployment", "DaemonSet", "Job"):
            found[f"{one['kind']}/{one['metadata']['name']}"] = one["spec"]["template"]["spec"]
    return found


def containers(spec: Manifest) -> list[Manifest]:
    """Init containers included."""
    return [*spec.get("initContainers", []), *spec["containers"]]
