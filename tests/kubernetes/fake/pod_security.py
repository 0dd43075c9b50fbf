"""The Pod Security Standards (levels baseline and restricted), worded as the admission plugin words them."""

from collections.abc import Callable, Iterator

from tests.kubernetes.fake.errors import Object

_HOST = ("hostNetwork", "hostPID", "hostIPC")
_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
}


def violations(spec: Object, *, restricted: bool) -> list[str]:
    """What a pod's specification breaks."""
    found = [*_baseline(spec)]
    return [*found, *_restricted(spec)] if restricted else found


def _containers(spec: Object) -> list[Object]:
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _named(spec: Object, bad: Callable[[Object], bool]) -> str:
    names = [f'"{one["name"]}"' for one in _containers(spec) if bad(one.get("securityContext") or {})]
    if not names:
        return ""
    return f"container {names[0]}" if len(names) == 1 else f"containers {', '.join(names)}"


def _baseline(spec: Object) -> Iterator[str]:
    asked = [f"{name}=true" for name in _HOST if spec.get(name)]
    if asked:
        yield f"host namespaces ({', '.join(asked)})"
    if who := _named(spec, lambda context: bool(context.get("privileged"))):
        yield f"privileged ({who} must not set securityContext.privileged=true)"
    paths = [f'"{one["name"]}"' for one in spec.get("volumes") or [] if "hostPath" in one]
    if paths:
        yield f"hostPath volumes (volume{'s' if len(paths) > 1 else ''} {', '.join(paths)})"


def _restricted(spec: Object) -> Iterator[str]:
    pod = spec.get("securityContext") or {}
    if who := _named(spec, lambda context: context.get("allowPrivilegeEscalation") is not False):
        yield (f"allowPrivilegeEscalation != false ({who} must set securityContext.allowPrivilegeEscalation=false)")
    if who := _named(spec, lambda context: "ALL" not in ((context.get("capabilities") or {}).get("drop") or [])):
        yield f'unrestricted capabilities ({who} must set securityContext.capabilities.drop=["ALL"])'
    if who := _named(
        spec,
        lambda context: bool(set((context.get("capabilities") or {}).get("add") or []) - {"NET_BIND_SERVICE"}),
    ):
        yield f"unrestricted capabilities ({who} must not add capabilities)"
    other = [f'"{volume["name"]}"' for volume in spec.get("volumes") or [] if not _VOLUMES & (volume.keys() - {"name"})]
    if other:
        yield f"restricted volume types (volume{'s' if len(other) > 1 else ''} {', '.join(other)} use restricted types)"
    if who := _named(
        spec,
        lambda context: (
            context.get("runAsNonRoot") is False
            or (context.get("runAsNonRoot") is None and not pod.get("runAsNonRoot"))
        ),
    ):
        yield f"runAsNonRoot != true (pod or {who} must set securityContext.runAsNonRoot=true)"
    if pod.get("runAsUser") == 0 or _named(spec, lambda context: context.get("runAsUser") == 0):
        yield "runAsUser=0 (pod or container must not set runAsUser=0)"
    good = {"RuntimeDefault", "Localhost"}
    ruled = (pod.get("seccompProfile") or {}).get("type") in good

    def unconfined(context: Object) -> bool:
        own = (context.get("seccompProfile") or {}).get("type")
        return own not in good if own else not ruled

    if who := _named(spec, unconfined):
        yield (
            f"seccompProfile (pod or {who} must set securityContext.seccompProfile.type to "
            '"RuntimeDefault" or "Localhost")'
        )
