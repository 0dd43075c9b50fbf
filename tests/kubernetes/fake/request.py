"""One request as the verbs take it, and the answer to it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.kubernetes.fake.access import User
from tests.kubernetes.fake.errors import Object, bad_request, unsupported_media_type
from tests.kubernetes.fake.ownership import Manager

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"


@dataclass
class Request:
    """Who wants what."""

    method: str
    path: str
    query: dict[str, str]
    user: User
    body: bytes = b""
    content_type: str = ""
    accept: str = ""
    agent: str = ""
    verb: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def dry(self) -> bool:
        return bool(self.query.get("dryRun"))

    def thing(self) -> Object:
        """The object in the body; raises ApiError 400, and 415 for one in protobuf."""
        if self.content_type == PROTOBUF:
            raise unsupported_media_type("", ["application/json", "application/yaml"])
        try:
            found = yaml.safe_load(self.body) if "yaml" in self.content_type else json.loads(self.body)
        except (ValueError, yaml.YAMLError) as error:
            raise bad_request(f"error decoding the body: {error}") from error
        if not isinstance(found, dict):
            raise bad_request("the object provided is unrecognized (must be of type Object): the body is no object")
        return found

    def patch(self) -> Any:
        """The patch in the body; raises ApiError 400."""
        try:
            return yaml.safe_load(self.body) if self.content_type == APPLY else json.loads(self.body)
        except (ValueError, yaml.YAMLError) as error:
            raise bad_request(f"error decoding patch: {error}") from error

    def options(self) -> Object:
        """DeleteOptions: of the body, else of the query."""
        found: Object = {}
        for name in ("gracePeriodSeconds", "propagationPolicy"):
            if name in self.query:
                value = self.query[name]
                found[name] = int(value) if name == "gracePeriodSeconds" else value
        if self.body:
            found |= {key: value for key, value in self.thing().items() if value is not None}
        return found

    def manager(self, api_version: str) -> Manager:
        name = self.query.get("fieldManager") or self.agent.partition("/")[0] or "unknown"
        operation = "Apply" if self.content_type == APPLY else "Update"
        return Manager(name, operation, api_version, self.subresource if self.subresource == "status" else "")


@dataclass
class Answer:
    """A body, or a stream of lines."""

    body: Any = None
    code: int = 200
    stream: Iterator[bytes] | None = None
    content_type: str = "application/json"
