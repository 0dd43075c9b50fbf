"""A cluster with pods whose service accounts have tokens, as its API server tells of them."""

import base64
import json
from typing import Any

from labd.executors.kubernetes.api import ClusterAway
from labd.executors.kubernetes.names import labels, object_name
from labd.executors.kubernetes.settings import Cluster
from labd.services.attempt_tokens import PodCluster

ACCOUNT = "system:serviceaccount:labd:default"


class FakePodApi:
    """The part of the API that labd asks whose token it is."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.reviews: dict[str, dict[str, Any]] = {}
        self.reviewed: list[tuple[str, str]] = []
        self.away = ""
        """Why it does not answer."""

    def review_token(self, token: str, audience: str) -> dict[str, Any]:
        if self.away:
            raise ClusterAway(self.away)
        self.reviewed.append((token, audience))
        return self.reviews.get(token, {"user": {}, "error": "[invalid bearer token]"})

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        assert kind == "pods"
        if self.away:
            raise ClusterAway(self.away)
        return self.pods.get(name)

    def pod(self, run_id: str, attempt: int = 1, uid: str = "uid-1") -> str:
        """Makes the pod of an attempt; returns its name."""
        name = object_name(run_id, attempt)
        self.pods[name] = {"metadata": {"name": name, "uid": uid, "labels": labels("lab", run_id, attempt)}}
        return name

    def token(self, now: float, pod: str | None, uid: str = "uid-1", user: str = ACCOUNT, **changes: Any) -> str:
        """A token of a service account, bound to a pod, which the API server knows."""
        parts = [{"alg": "RS256"}, {"exp": now + 3600, "jti": len(self.reviews)}]
        head, claims = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        token = f"{head}.{claims}.c2ln"
        bound = {"pod-name": [pod], "pod-uid": [uid]} if pod is not None else {}
        extra = {f"authentication.kubernetes.io/{key}": value for key, value in bound.items()}
        known = {"authenticated": True, "audiences": ["labd"], "user": {"username": user, "extra": extra}}
        self.reviews[token] = known | changes
        return token


def cluster(api: FakePodApi, name: str = "lab-a", **changes: Any) -> PodCluster:
    """The cluster with that API."""
    return PodCluster(Cluster(name=name, image="registry.example.com/labd-runner:1", **changes), api)
