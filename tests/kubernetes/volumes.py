"""A pod's volumes as folders, its mounts as a mapping of paths, and its environment."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.kubernetes.json_api import JsonApi, Object, Refused


class MissingPart(Exception):
    """A ConfigMap, Secret or key that a pod needs is not there (yet)."""


class Parts:
    """What a pod refers to in its namespace."""

    def __init__(self, api: JsonApi, pod: Object) -> None:
        self._api = api
        self._pod = pod
        self._meta = pod["metadata"]
        self._place = f"/api/v1/namespaces/{self._meta['namespace']}"

    def data(self, plural: str, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """Of a ConfigMap or Secret; raises MissingPart."""
        try:
            found = self._api.request("GET", f"{self._place}/{plural}/{name}")
        except Refused as error:
            if error.code != 404:
                raise
            if optional:
                return {}
            kind = "configmap" if plural == "configmaps" else "secret"
            raise MissingPart(f'{kind} "{name}" not found') from error
        coded = {**(found.get("binaryData") or {})}
        plain = found.get("data") or {}
        if plural == "secrets":
            coded, plain = plain, {}
        texts = {key: value.encode() for key, value in plain.items()}
        return texts | {key: base64.b64decode(value) for key, value in coded.items()}

    def token(self, wanted: Object) -> bytes:
        """Of the pod's service account, bound to the pod."""
        account = self._pod["spec"].get("serviceAccountName", "default")
        spec = {
            "audiences": [wanted["audience"]] if wanted.get("audience") else [],
            "expirationSeconds": wanted.get("expirationSeconds", 3600),
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": self._meta["name"],
                "uid": self._meta["uid"],
            },
        }
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        found = self._api.request("POST", f"{self._place}/serviceaccounts/{account}/token", asked)
        token: str = found["status"]["token"]
        return token.encode()

    def field(self, path: str) -> str:
        """Of the pod itself: `metadata.name`, `metadata.labels['a']`."""
        part = re.fullmatch(r"(metadata\.(?:labels|annotations))\['(.+)'\]", path)
        steps = [*part[1].split("."), part[2]] if part else path.split(".")
        thing: Any = self._pod
        for step in steps:
            thing = (thing or {}).get(step)
        return "" if thing is None else str(thing)


def materialise(parts: Parts, volume: Object, folder: Path) -> None:
    """Makes a volume's folder with what is in it; raises MissingPart."""
    folder.mkdir(parents=True, exist_ok=True)
    if "emptyDir" in volume:
        return
    projected = volume.get("projected")
    mode = (projected or volume.get("configMap") or volume.get("secret") or {}).get("defaultMode", 0o644)
    sources = projected["sources"] if projected else [volume]
    for source in sources:
        for name, content in _files(parts, source):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            file.write_bytes(content)
            file.chmod(mode | 0o400)


def _files(parts: Parts, source: Object) -> Iterator[tuple[str, bytes]]:
    for kind, plural in (("configMap", "configmaps"), ("secret", "secrets")):
        if kind in source:
            wanted = source[kind]
            name = wanted.get("name") or wanted.get("secretName")
            data = parts.data(plural, name, optional=bool(wanted.get("optional")))
            if "items" not in wanted:
                yield from data.items()
            for item in wanted.get("items") or []:
                if item["key"] not in data:
                    raise MissingPart(f"references non-existent key: {item['key']}")
                yield item["path"], data[item["key"]]
    if "serviceAccountToken" in source:
        yield source["serviceAccountToken"]["path"], parts.token(source["serviceAccountToken"])
    for item in (source.get("downwardAPI") or {}).get("items") or []:
        yield item["path"], parts.field(item["fieldRef"]["fieldPath"]).encode()


class Paths:
    """Where a container's mounts really are."""

    def __init__(self, container: Object, volumes: Path) -> None:
        self._mounts = {
            mount["mountPath"].rstrip("/"): volumes / mount["name"] / mount.get("subPath", "")
            for mount in container.get("volumeMounts") or []
        }
        longest_first = sorted(self._mounts, key=len, reverse=True)
        either = "|".join(re.escape(one) for one in longest_first)
        self._pattern = re.compile(rf"(?<![\w/.-])(?:{either})(?=[/:,;\s\"']|$)") if either else None

    def mapped(self, text: str) -> str:
        """The text with the container's paths replaced by where they are on this machine."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: str(self._mounts[found[0]]).rstrip("/"), text)


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` as Kubernetes replaces it; `$$` is a dollar, and unknown names stay."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)", value, text)


def environment(parts: Parts, container: Object, mapped: Callable[[str], str]) -> dict[str, str]:
    """A container's variables; raises MissingPart."""
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for kind, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if kind in source:
                data = parts.data(plural, source[kind]["name"], optional=bool(source[kind].get("optional")))
                found |= {source.get("prefix", "") + key: value.decode() for key, value in data.items()}
    for variable in container.get("env") or []:
        origin = variable.get("valueFrom") or {}
        if "fieldRef" in origin:
            found[variable["name"]] = parts.field(origin["fieldRef"]["fieldPath"])
            continue
        for kind, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if kind in origin:
                key = origin[kind]["key"]
                data = parts.data(plural, origin[kind]["name"], optional=bool(origin[kind].get("optional")))
                if key not in data and not origin[kind].get("optional"):
                    raise MissingPart(f"couldn't find key {key} in {plural[:-1]} {origin[kind]['name']}")
                if key in data:
                    found[variable["name"]] = data[key].decode()
        if not origin:
            found[variable["name"]] = mapped(expanded(variable.get("value", ""), found))
    return found
