"""Where a run is to live, and from where it takes its script: checked before it waits for a bench."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from labd.executors.base import ClusterExecutor, Executor
from labd.model.nearest import nearest
from labd.model.run import ExecutorName
from labd.model.source import GitSource, too_long_for_a_pod
from labd.services.errors import FieldError, Invalid


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's process is to live, and where its script is in Git."""

    executor: ExecutorName
    cluster: str | None = None
    git: GitSource | None = None


def unless_told(of_team: ExecutorName, cluster: str | None, git: GitSource | None) -> ExecutorName:
    """The executor of a run that names none: that of its team, but for what takes a pod."""
    return of_team if cluster is None and git is None else ExecutorName.KUBERNETES


def place_of(
    executors: Mapping[ExecutorName, Executor], executor: ExecutorName, cluster: str | None, git: GitSource | None
) -> Place:
    """Where the run is to live. Raises Invalid when this labd has no such place."""
    place = executors.get(executor)
    if place is None:
        message = f"this labd has no {executor} executor"
        if executor is ExecutorName.KUBERNETES:
            message = "this labd knows no cluster: its operator names them with labd serve --clusters FILE"
        raise Invalid(f"executor {str(executor)!r}: {message}", FieldError("executor", executor, message))
    if not isinstance(place, ClusterExecutor):
        if git is not None:
            message = f"the executor {str(executor)!r} takes no script from Git: run on kubernetes"
            raise Invalid(f"git: {message}", FieldError("git", git.url, message))
        if cluster is not None:
            message = f"the executor {str(executor)!r} has no clusters: leave it out, or run on kubernetes"
            raise Invalid(f"cluster {cluster!r}: {message}", FieldError("cluster", cluster, message))
        return Place(executor)
    if cluster is None and place.default_cluster is None:
        message = f"name one: none is the default. There are {', '.join(map(repr, place.clusters))}"
        raise Invalid(f"cluster: {message}", FieldError("cluster", None, message))
    if cluster is not None and cluster not in place.clusters:
        message = f"there is no such cluster{nearest(cluster, place.clusters)}"
        raise Invalid(f"cluster {cluster!r}: {message}", FieldError("cluster", cluster, message))
    return Place(executor, cluster or place.default_cluster, git)


def require_source(script: str | None, git: GitSource | None, files: Collection[str], executor: ExecutorName) -> None:
    """Raises Invalid unless it says what to execute, once. ``files`` are the paths of those beside the script."""
    errors: list[FieldError] = []
    if (script is None) == (git is None):
        errors.append(FieldError("script", None, "give the script itself, or git: exactly one of them"))
    if git is not None:
        errors += [FieldError(f"git.{field}", value, message) for field, value, message in git.faults()]
        if files:
            errors.append(FieldError("files", sorted(files), "a script from Git has the files of its repository"))
    if script is not None and executor is ExecutorName.KUBERNETES and (message := too_long_for_a_pod(script)):
        errors.append(FieldError("script", None, message))
    if errors:
        detail = "; ".join(
            one.field + ("" if one.value is None else f" {one.value!r}") + f": {one.message}" for one in errors
        )
        raise Invalid(detail, *errors)
