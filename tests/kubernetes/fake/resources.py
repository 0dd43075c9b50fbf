"""What can be stored: the resources of a stock server, and those that CRDs add."""

from collections.abc import Iterator
from dataclasses import dataclass

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Resource:
    """One kind of objects in one API version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    status: bool = False
    """Has a status that only its subresource changes."""
    categories: tuple[str, ...] = ()
    custom: bool = False
    singular: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Under which its objects are stored: one for all versions."""
        return self.group, self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full(self) -> str:
        """As messages name it: `leases.coordination.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _stock() -> Iterator[Resource]:
    def core(plural: str, kind: str, *short: str, namespaced: bool = True, status: bool = False) -> Resource:
        return Resource("", "v1", plural, kind, namespaced, short, status)

    yield core("namespaces", "Namespace", "ns", namespaced=False, status=True)
    yield core("nodes", "Node", "no", namespaced=False, status=True)
    yield core("pods", "Pod", "po", status=True)
    yield core("configmaps", "ConfigMap", "cm")
    yield core("secrets", "Secret")
    yield core("serviceaccounts", "ServiceAccount", "sa")
    yield core("events", "Event", "ev")
    yield core("services", "Service", "svc", status=True)
    yield core("persistentvolumeclaims", "PersistentVolumeClaim", "pvc", status=True)
    yield core("resourcequotas", "ResourceQuota", "quota", status=True)
    yield core("limitranges", "LimitRange", "limits")
    for plural, kind, short in (
        ("deployments", "Deployment", "deploy"),
        ("statefulsets", "StatefulSet", "sts"),
        ("daemonsets", "DaemonSet", "ds"),
        ("replicasets", "ReplicaSet", "rs"),
    ):
        yield Resource("apps", "v1", plural, kind, True, (short,), True)
    yield Resource("batch", "v1", "jobs", "Job", status=True)
    yield Resource("batch", "v1", "cronjobs", "CronJob", True, ("cj",), True)
    yield Resource("coordination.k8s.io", "v1", "leases", "Lease")
    yield Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, ("netpol",))
    yield Resource("networking.k8s.io", "v1", "ingresses", "Ingress", True, ("ing",), True)
    yield Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True, ("pdb",), True)
    yield Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False, ("pc",))
    rbac = "rbac.authorization.k8s.io"
    yield Resource(rbac, "v1", "roles", "Role")
    yield Resource(rbac, "v1", "rolebindings", "RoleBinding")
    yield Resource(rbac, "v1", "clusterroles", "ClusterRole", False)
    yield Resource(rbac, "v1", "clusterrolebindings", "ClusterRoleBinding", False)
    yield Resource(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        False,
        ("crd", "crds"),
        True,
    )


STOCK = tuple(_stock())

NAMESPACES = next(resource for resource in STOCK if resource.plural == "namespaces")
PODS = next(resource for resource in STOCK if resource.plural == "pods")
CONFIG_MAPS = next(resource for resource in STOCK if resource.plural == "configmaps")
SERVICE_ACCOUNTS = next(resource for resource in STOCK if resource.plural == "serviceaccounts")
SECRETS = next(resource for resource in STOCK if resource.plural == "secrets")
CRDS = next(resource for resource in STOCK if resource.plural == "customresourcedefinitions")

REVIEWS = {
    ("authorization.k8s.io", "selfsubjectaccessreviews"): "SelfSubjectAccessReview",
    ("authorization.k8s.io", "subjectaccessreviews"): "SubjectAccessReview",
    ("authentication.k8s.io", "tokenreviews"): "TokenReview",
    ("authentication.k8s.io", "selfsubjectreviews"): "SelfSubjectReview",
}
"""Questions: created, answered, never stored."""
