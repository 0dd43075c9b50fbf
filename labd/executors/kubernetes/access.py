"""What labd needs to be allowed to do in a cluster, and whether it is."""

from labd.executors.kubernetes.api import ClusterApi
from labd.executors.kubernetes.settings import Cluster

Need = tuple[str, str, str]
"""Verb, resource and API group."""


def needs(cluster: Cluster) -> tuple[Need, ...]:
    """Everything; RBAC rules that allow this are enough."""
    wanted = [(verb, "pods", "") for verb in ("create", "get", "list", "watch", "delete")]
    wanted += [(verb, "configmaps", "") for verb in ("create", "get", "list", "delete")]
    if cluster.identity == "secret":
        wanted.append(("create", "secrets", ""))
    else:
        wanted.append(("create", "tokenreviews", "authentication.k8s.io"))
    return tuple(wanted)


def missing(api: ClusterApi, cluster: Cluster) -> list[str]:
    """What labd needs and may not, such as ``create pods``. Raises ClusterAway and Refused."""
    return [f"{verb} {resource}" for verb, resource, group in needs(cluster) if not api.may(verb, resource, group)]
