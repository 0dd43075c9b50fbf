"""The clusters that pods of runs may live in: the file of ``labd serve --clusters``."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from labd.executors.kubernetes.quantity import Quantity, amount
from labd.model.nearest import nearest
from labd.settings_file import Model, read_settings

CLUSTERS_MAX = 16


class UnknownCluster(Exception):
    """No cluster has that name; the message says which there are."""


def _written(pattern: str, expected: str) -> AfterValidator:
    """Of a text that matches the pattern as a whole; otherwise the mistake says in words what is expected."""
    shape = re.compile(pattern)

    def check(text: str) -> str:
        if not shape.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def _text(value: object) -> object:
    """YAML makes numbers of ``cpu: 1``, which Kubernetes takes as well."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected a URL such as https://labd.lab.svc:8470")
    return text


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    return path


Name = Annotated[
    str,
    _written(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a name of at most 63 lower-case letters, digits and '-'"),
]
ObjectName = Annotated[
    str,
    _written(
        r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "an object's name: at most 253 lower-case letters, digits, '-' and '.'"
    ),
]
Image = Annotated[
    str,
    _written(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}", "an image such as registry.example.com/labd-runner:0.1.0"),
]
Host = Annotated[
    str,
    _written(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?", "a URL's host in lower case: git.example.com:8443"),
]
Key = Annotated[
    str,
    _written(
        r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        "a label key such as pool or example.com/pool",
    ),
]
Value = Annotated[
    str,
    _written(
        r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?",
        "a label value: at most 63 letters, digits, '-', '_' and '.'",
    ),
]
Amount = Annotated[Quantity, BeforeValidator(_text)]
File = Annotated[Path, AfterValidator(_file)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Requests(Model):
    """What a pod is sure to get of its node."""

    cpu: Amount = "100m"
    """Cores."""
    memory: Amount = "128Mi"
    """Bytes."""
    ephemeral_storage: Amount = "64Mi"
    """Bytes on the node's disk."""


class Limits(Model):
    """What a pod gets of its node at most."""

    cpu: Amount = "1"
    """Cores."""
    memory: Amount = "512Mi"
    """Bytes."""
    ephemeral_storage: Amount = "1Gi"
    """Bytes on the node's disk: scratch files and what the container writes to its log."""


class Toleration(Model):
    """Of a taint on nodes."""

    key: Key | None = None
    """None: of every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: Value | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """None: of every effect."""
    seconds: Annotated[int, Field(ge=0, le=86_400)] | None = None
    """How long a pod may stay on a node that gets the taint (NoExecute only); None: for ever."""

    @model_validator(mode="after")
    def _fits(self) -> "Toleration":
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("operator Exists takes no value")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("operator Equal needs a key; one that tolerates every taint has the operator Exists")
        if self.seconds is not None and self.effect != "NoExecute":
            raise ValueError("seconds goes with the effect NoExecute only")
        return self


class GitCredentials(Model):
    """For repositories that may not be read by everybody. labd never sees them: the kubelet mounts them."""

    secret: ObjectName
    """Of the cluster's namespace. Its key `credentials` has lines such as https://user:token@git.example.com, as
    git-credential-store(1) reads them; give a token that can read, and nothing else."""
    hosts: Annotated[tuple[Host, ...], Field(max_length=32)]
    """With the port, where it is not the usual one. The Secret is mounted for URLs of these hosts alone, and git sends
    each line to its own host only."""

    @model_validator(mode="after")
    def _are_for_somebody(self) -> "GitCredentials":
        if not self.hosts:
            raise ValueError("hosts: expected those whose repositories need the credentials, such as git.example.com")
        return self


class Git(Model):
    """How scripts are fetched from Git."""

    within_s: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 120
    """How long fetching may take."""
    size: Amount | None = None
    """Bytes that may be fetched, and bytes that the files of a revision may have; None: half of `scratch` each."""
    credentials: GitCredentials | None = None

    def secret_for(self, url: str) -> str | None:
        """The name of the Secret with credentials for this URL; None: it is read without."""
        known = self.credentials
        return known.secret if known is not None and urlsplit(url).netloc.lower() in known.hosts else None


class Cluster(Model):
    """Where pods live, and what they look like."""

    name: Name
    default: bool = False
    """Whether runs that name no cluster go here; of one cluster alone they do anyway."""
    kubeconfig: File | None = None
    """None: the cluster in which labd itself is a pod, by its service account."""
    context: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    """Of the kubeconfig; None: its current one."""
    namespace: Name = "labd"

    image: Image
    """Of the runner, the same release as labd."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: Annotated[tuple[ObjectName, ...], Field(max_length=16)] = ()
    user: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = 10001
    """User and group ID of the processes; None: the image's, or the one that the cluster gives (OpenShift)."""

    service_account: ObjectName = "default"
    identity: Literal["projected", "secret"] = "projected"
    """How a pod proves which run it is of: by a projected token of its service account that labd has reviewed, or by a
    Secret, where labd may not create TokenReviews."""
    url: Annotated[str, AfterValidator(_url)] | None = None
    """Of labd's REST API, as pods reach it; None: the one of `labd serve --url`."""
    ca: File | None = None
    """Authorities (PEM) by which pods know labd; None: labd's own."""

    requests: Requests = Requests()
    limits: Limits = Limits()
    scratch: Amount = "512Mi"
    """Size of the only volume that a run can write to."""
    node_selector: dict[Key, Value] = Field(default_factory=dict)
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    priority_class: ObjectName | None = None
    scheduler: ObjectName | None = None
    """Which finds a node for the pods; None: the cluster's own."""
    labels: dict[Key, Value] = Field(default_factory=dict)
    """Of the pods, beside labd's own."""
    annotations: dict[Key, Annotated[str, StringConstraints(max_length=4096)]] = Field(default_factory=dict)

    git: Git = Git()

    stop_grace_s: Annotated[int, Field(ge=1, le=600)] = 30
    """How long a runner may take to leave its bench in order when it is told to stop."""
    finished_ttl_s: Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)] = 600
    """How long a pod that has finished stays, for `kubectl logs` and `describe`."""
    unschedulable_limit_s: Seconds = 300
    """How long no node may have room for a pod, or the cluster may not take it for its quota."""
    image_pull_limit_s: Seconds = 180
    """How long its image may fail to come."""
    start_limit_s: Seconds = 300
    """How long a pod with a node may take until its containers run, volumes and images included."""
    lost_limit_s: Seconds = 120
    """How long its node may say nothing of a pod, or not do what it is told."""

    @property
    def git_bytes(self) -> int:
        """Most that may be fetched from Git, and most that the files of a revision may have."""
        return int(amount(self.scratch) / 2 if self.git.size is None else amount(self.git.size))

    @model_validator(mode="after")
    def _fits(self) -> "Cluster":
        for name in Limits.model_fields:
            wanted, most = getattr(self.requests, name), getattr(self.limits, name)
            if amount(wanted) > amount(most):
                raise ValueError(f"requests.{name} is {wanted}, more than limits.{name}, which is {most}")
        if amount(self.scratch) > amount(self.limits.ephemeral_storage):
            raise ValueError(
                f"scratch is {self.scratch}, more than limits.ephemeral_storage, which is "
                f"{self.limits.ephemeral_storage}: a run that fills it would be evicted"
            )
        if self.git.size is not None and 2 * amount(self.git.size) > amount(self.scratch):
            raise ValueError(
                f"git.size is {self.git.size}, more than half of scratch, which is {self.scratch}: what is fetched "
                "and the files in it are both there"
            )
        if self.context is not None and self.kubeconfig is None:
            raise ValueError("context is one of a kubeconfig, and there is none")
        if any(key.partition("/")[0] in ("labd.dev", "app.kubernetes.io") for key in self.labels):
            raise ValueError("labels of labd.dev/ and app.kubernetes.io/ are labd's own")
        return self


class Clusters(Model):
    """All of them, by name."""

    clusters: tuple[Cluster, ...]

    @model_validator(mode="after")
    def _are_told_apart(self) -> "Clusters":
        names = [cluster.name for cluster in self.clusters]
        if not 1 <= len(names) <= CLUSTERS_MAX:
            raise ValueError(f"expected 1 to {CLUSTERS_MAX} clusters, not {len(names)}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two clusters have the name {twice[0]!r}")
        defaults = [cluster.name for cluster in self.clusters if cluster.default]
        if len(defaults) > 1:
            raise ValueError(f"two clusters are the default: {defaults[0]} and {defaults[1]}")
        return self

    def choose(self, name: str | None) -> Cluster:
        """The cluster of that name; of None, the default. Raises UnknownCluster."""
        if name is None:
            default = [cluster for cluster in self.clusters if cluster.default or len(self.clusters) == 1]
            if default:
                return default[0]
            raise UnknownCluster("no cluster is the default: name one" + nearest("", self.names))
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        raise UnknownCluster(f"there is no cluster {name!r}{nearest(name, self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """In the file's order."""
        return tuple(cluster.name for cluster in self.clusters)


def read_clusters_file(path: Path) -> Clusters:
    """Raises SettingsError with every mistake and its line."""
    return read_settings(path, Clusters)
