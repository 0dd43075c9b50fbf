"""The verbs on stored objects: create, get, list, watch, update, patch, apply, delete."""

import copy
import datetime
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.fake import patches, selectors
from tests.kubernetes.fake.access import Access
from tests.kubernetes.fake.crds import Custom, Customs, Definitions, installed
from tests.kubernetes.fake.errors import (
    Object,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    unsupported_media_type,
)
from tests.kubernetes.fake.ownership import Ledger
from tests.kubernetes.fake.pods import Pods, grace_s
from tests.kubernetes.fake.request import APPLY, JSON, MERGE, STRATEGIC, Request
from tests.kubernetes.fake.resources import CONFIG_MAPS, CRDS, NAMESPACES, SERVICE_ACCOUNTS, STOCK, Resource
from tests.kubernetes.fake.schema import Schema, stock
from tests.kubernetes.fake.storage import Name, Storage
from tests.kubernetes.fake.strategies import (
    ConfigMaps,
    Leases,
    Namespaces,
    Plain,
    Secrets,
    Strategy,
    metadata_faults,
)

CRD_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_KEPT = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "name",
    "namespace",
)


@dataclass(frozen=True)
class Served:
    """One resource in one version, and what is particular to it."""

    resource: Resource
    schema: Schema
    strategy: Strategy
    columns: tuple[Object, ...] = ()
    selectable: tuple[str, ...] = ()
    list_kind: str = ""


def timestamp(ahead_s: float = 0) -> str:
    """Now, in UTC, as objects bear it."""
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead_s)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


class Api:
    """What the server does with objects, once it knows who asks and that they may."""

    def __init__(self, history: int, issuer: str) -> None:
        self.storage = Storage(history)
        self.access = Access(self.storage, issuer)
        special: dict[str, Strategy] = {
            "pods": Pods(self.storage),
            "configmaps": ConfigMaps(),
            "secrets": Secrets(),
            "namespaces": Namespaces(),
            "leases": Leases(),
            "serviceaccounts": Plain(),
            "events": Plain(),
            "customresourcedefinitions": Definitions(timestamp),
        }
        self._stock = {
            (one.group, one.version, one.plural): Served(
                one, stock(one), special.get(one.plural, Strategy()), list_kind=f"{one.kind}List"
            )
            for one in STOCK
        }
        self._custom: dict[tuple[str, str, str], Served] = {}

    def served(self) -> list[Served]:
        return [*self._stock.values(), *self._custom.values()]

    def find(self, group: str, version: str, plural: str) -> Served | None:
        return self._stock.get((group, version, plural)) or self._custom.get((group, version, plural))

    def of_key(self, key: tuple[str, str]) -> Served:
        return next(one for one in self.served() if one.resource.key == key)

    def of_kind(self, api_version: str, kind: str) -> Served | None:
        group = api_version.rpartition("/")[0]
        found = (one for one in self.served() if one.resource.group == group and one.resource.kind == kind)
        return next(found, None)

    # Reading

    def get(self, served: Served, request: Request) -> Object:
        return self._in_version(served, self._present(served, (request.namespace, request.name)))

    def _present(self, served: Served, name: Name) -> Object:
        found = self.storage.get(served.resource.key, name)
        if found is None:
            raise not_found(served.resource, name[1])
        return found

    def _in_version(self, served: Served, thing: Object) -> Object:
        if thing["apiVersion"] == served.resource.api_version:
            return thing
        return {**thing, "apiVersion": served.resource.api_version}

    def wanted(self, served: Served, request: Request) -> Callable[[Object], bool]:
        """What a list or watch selects."""
        by_label = selectors.labels(request.query.get("labelSelector", ""))
        chosen = request.query.get("fieldSelector", "")
        if request.name:
            chosen = ",".join(filter(None, [chosen, f"metadata.name={request.name}"]))
        by_field = selectors.fields(chosen, served.resource.kind, served.selectable)
        return lambda thing: by_label(thing) and by_field(thing)

    def selected(self, served: Served, request: Request) -> list[Object]:
        wanted = self.wanted(served, request)
        found = self.storage.all_of(served.resource.key, request.namespace)
        return [self._in_version(served, thing) for thing in found if wanted(thing)]

    # Writing

    def create(self, served: Served, request: Request) -> Object:
        thing = self._decoded(served, request, request.thing())
        meta = thing["metadata"]
        resource = served.resource
        if resource.namespaced:
            if meta.setdefault("namespace", request.namespace) != request.namespace:
                raise bad_request(
                    f"the namespace of the provided object does not match the namespace sent on the request"
                    f" ({meta['namespace']} vs {request.namespace})"
                )
        else:
            meta.pop("namespace", None)
        with self.storage.changed:
            self._place(resource, request.namespace, meta.get("name", ""))
            return self._created(served, request, thing)

    def _place(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        place = self.storage.get(NAMESPACES.key, ("", namespace))
        if place is None:
            raise not_found(NAMESPACES, namespace)
        if place["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(resource, name, why)

    def _created(self, served: Served, request: Request, thing: Object) -> Object:
        meta, resource = thing["metadata"], served.resource
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + "".join(secrets.choice(_LETTERS) for _ in range(5))
        if not meta.get("name"):
            cause = {"field": "metadata.name", "message": "Required value: name or generateName is required"}
            raise invalid(resource, "", [cause])
        name = (meta.get("namespace", ""), meta["name"])
        for field in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(field, None)
        managed = meta.pop("managedFields", None)
        if resource.status:
            thing.pop("status", None)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = timestamp()
        thing = self._whole(served, thing)
        served.strategy.create(thing)
        if served.strategy.generation and "spec" in thing:
            thing["metadata"]["generation"] = 1
        self._validate(served, thing, None)
        if self.storage.get(resource.key, name) is not None:
            raise already_exists(resource, name[1])
        self._own(served, request, {"metadata": {"managedFields": managed}}, thing)
        if resource.key == CRDS.key:
            thing["metadata"]["finalizers"] = [CRD_CLEANUP]
        return self._put(served, request, name, thing)

    def _whole(self, served: Served, thing: Object) -> Object:
        if not served.resource.custom:
            return thing
        filled: Object = served.schema.defaulted(thing)
        return filled

    def _decoded(self, served: Served, request: Request, thing: Object) -> Object:
        """The object without what its kind does not know; raises ApiError 400 where that is not wanted."""
        resource = served.resource
        kind, version = thing.get("kind", resource.kind), thing.get("apiVersion", resource.api_version)
        if version != resource.api_version:
            raise bad_request(
                f"the API version in the data ({version}) does not match the expected API version "
                f"({resource.api_version})"
            )
        if kind != resource.kind:
            raise bad_request(
                f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
                "the kind in the data does not match the expected kind"
            )
        kept, unknown = served.schema.pruned(thing)
        told = [f'unknown field "{path}"' for path in unknown]
        if told and request.query.get("fieldValidation") == "Strict":
            raise bad_request(
                f'{kind} in version "{resource.version}" cannot be handled as a {kind}: '
                f"strict decoding error: {', '.join(told)}"
            )
        if request.query.get("fieldValidation") != "Ignore":
            request.warnings += told
        if not isinstance(kept.get("metadata", {}), dict | None):
            raise bad_request(f"json: cannot unmarshal into Go struct field {kind}.metadata of type v1.ObjectMeta")
        result = {"apiVersion": version, "kind": kind, **_without_nulls(kept)}
        result.setdefault("metadata", {})
        if not resource.custom:
            for cause in served.schema.faults(result):
                if "must be of type" in cause["message"]:
                    said = f"json: cannot unmarshal into Go struct field {kind}.{cause['field']}: {cause['message']}"
                    raise bad_request(f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {said}')
        return result

    def _validate(self, served: Served, thing: Object, before: Object | None) -> None:
        causes = [*metadata_faults(served.resource, thing)]
        if not served.resource.custom:
            causes += served.schema.faults(thing)
        seen = {cause["field"] for cause in causes}
        causes += [cause for cause in served.strategy.faults(thing, before) if cause["field"] not in seen]
        if causes:
            raise invalid(served.resource, thing["metadata"].get("name", ""), causes)

    def _own(self, served: Served, request: Request, before: Object, thing: Object) -> None:
        ledger = Ledger(before)
        who = request.manager(served.resource.api_version)
        if who.operation == "Update":
            ledger.updated(who, before, thing, served.schema, timestamp())
        entries = ledger.entries() if who.operation == "Update" else before["metadata"]["managedFields"]
        thing["metadata"]["managedFields"] = entries

    def _put(self, served: Served, request: Request, name: Name, thing: Object) -> Object:
        if request.dry:
            return thing
        stored = self.storage.put(served.resource.key, name, thing)
        if served.resource.key == CRDS.key:
            self._install()
        elif served.resource.key == NAMESPACES.key:
            self._furnish(name[1])
        return stored

    def _install(self) -> None:
        found: list[Custom] = [one for crd in self.storage.all_of(CRDS.key) for one in installed(crd)]
        self._custom = {
            (one.resource.group, one.resource.version, one.resource.plural): Served(
                one.resource, one.schema, Customs(one.schema), one.columns, one.selectable, one.list_kind
            )
            for one in found
        }

    def _furnish(self, namespace: str) -> None:
        """What the controllers of a cluster put into each new namespace."""
        for resource, name, content in (
            (SERVICE_ACCOUNTS, "default", {}),
            (CONFIG_MAPS, "kube-root-ca.crt", {"data": {"ca.crt": self.access.authority}}),
        ):
            if self.storage.get(resource.key, (namespace, name)) is None:
                meta = {
                    "name": name,
                    "namespace": namespace,
                    "uid": str(uuid.uuid4()),
                    "creationTimestamp": timestamp(),
                }
                base = {"apiVersion": "v1", "kind": resource.kind, "metadata": meta}
                self.storage.put(resource.key, (namespace, name), {**base, **content})

    def update(self, served: Served, request: Request) -> Object:
        with self.storage.changed:
            thing = self._decoded(served, request, request.thing())
            name = (request.namespace, request.name)
            said = thing["metadata"].setdefault("name", request.name)
            if said != request.name:
                raise bad_request(
                    f"the name of the object ({said}) does not match the name on the URL ({request.name})"
                )
            before = self._present(served, name)
            if served.resource.custom and not thing["metadata"].get("resourceVersion"):
                cause = {
                    "field": "metadata.resourceVersion",
                    "message": "Invalid value: 0: must be specified for an update",
                }
                raise invalid(served.resource, request.name, [cause])
            return self._updated(served, request, before, thing)

    def _updated(self, served: Served, request: Request, before: Object, thing: Object) -> Object:
        resource, old, meta = served.resource, before["metadata"], thing["metadata"]
        wanted = meta.get("resourceVersion")
        if wanted and wanted != old["resourceVersion"]:
            raise conflict(resource, request.name)
        if meta.get("uid") and meta["uid"] != old["uid"]:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old['uid']}"
            raise conflict(resource, request.name, why)
        if request.subresource == "status":
            fields = {**meta, **old} if resource.custom else {**old}
            fields["managedFields"] = meta.get("managedFields", old.get("managedFields"))
            thing = {**before, "metadata": fields, "status": thing.get("status", {})}
        elif resource.status:
            thing.pop("status", None)
            if "status" in before:
                thing["status"] = copy.deepcopy(before["status"])
        thing = self._whole(served, thing)
        meta = thing["metadata"] = {**thing["metadata"]}
        for field in _KEPT:
            meta.pop(field, None)
            if field in old:
                meta[field] = old[field]
        meta["resourceVersion"] = old["resourceVersion"]
        self._check_finalizers(served, before, thing)
        self._validate(served, thing, before)
        managed = meta.pop("managedFields", None)
        if _essence(before) == _essence(thing) and (managed is None or managed == old.get("managedFields")):
            return self._in_version(served, before)
        if request.content_type == APPLY:
            meta["managedFields"] = managed
        else:
            self._own(served, request, before, thing)
        if served.strategy.generation and _specification(before) != _specification(thing):
            meta["generation"] = old.get("generation", 0) + 1
        name = (old.get("namespace", ""), old["name"])
        if old.get("deletionTimestamp") and not meta.get("finalizers") and not old.get("deletionGracePeriodSeconds"):
            self._put(served, request, name, thing)
            return thing if request.dry else self._removed(served, name)
        return self._put(served, request, name, thing)

    def _check_finalizers(self, served: Served, before: Object, thing: Object) -> None:
        if not before["metadata"].get("deletionTimestamp"):
            return
        new = set(thing["metadata"].get("finalizers") or []) - set(before["metadata"].get("finalizers") or [])
        if new:
            listed = ", ".join(f'"{one}"' for one in sorted(new))
            said = (
                "Forbidden: no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{listed}}}"
            )
            cause = {"field": "metadata.finalizers", "message": said}
            raise invalid(served.resource, thing["metadata"]["name"], [cause])

    def patch(self, served: Served, request: Request) -> tuple[Object, bool]:
        """The object, and whether it is new."""
        kinds = [JSON, MERGE, APPLY] if served.resource.custom else [JSON, MERGE, STRATEGIC, APPLY]
        if request.content_type not in kinds:
            raise unsupported_media_type(request.name, kinds)
        change = request.patch()
        with self.storage.changed:
            if request.content_type == APPLY:
                return self._apply(served, request, change)
            before = self._present(served, (request.namespace, request.name))
            present = copy.deepcopy(self._in_version(served, before))
            if request.content_type == JSON:
                after = patches.json_patch(present, change)
            elif not isinstance(change, dict):
                raise bad_request("error decoding patch: json: cannot unmarshal array into a map")
            elif request.content_type == MERGE:
                after = patches.merge(present, change)
            else:
                after = patches.strategic(present, change, served.schema)
            return self._updated(served, request, before, self._decoded(served, request, after)), False

    def _apply(self, served: Served, request: Request, config: Any) -> tuple[Object, bool]:
        manager = request.query.get("fieldManager")
        if not manager:
            cause = {"field": "fieldManager", "message": "Required value: is required for apply patch"}
            raise invalid(served.resource, request.name, [cause])
        if not isinstance(config, dict):
            raise bad_request("error decoding YAML: the configuration is no object")
        config = self._decoded(served, request, config)
        if config["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        said = config["metadata"].setdefault("name", request.name)
        if said != request.name:
            raise bad_request(f"the name of the object ({said}) does not match the name on the URL ({request.name})")
        name = (request.namespace, request.name)
        before = self.storage.get(served.resource.key, name)
        live: Object = copy.deepcopy(before) if before else {"metadata": {}}
        who = request.manager(served.resource.api_version)
        ledger = Ledger(live)
        force = request.query.get("force") == "true"
        ours = {key: value for key, value in config.items() if key != "status" or request.subresource == "status"}
        if not served.resource.status:
            ours = config
        after = ledger.applied(who, live, ours, served.schema, force=force, now=timestamp())
        after["metadata"] = {**after["metadata"], "managedFields": ledger.entries()}
        if before is not None:
            return self._updated(served, request, before, after), False
        if request.subresource:
            raise not_found(served.resource, request.name)
        if served.resource.namespaced:
            after["metadata"]["namespace"] = request.namespace
        self._place(served.resource, request.namespace, request.name)
        return self._created(served, request, after), True

    # Deleting

    def delete(self, served: Served, request: Request) -> tuple[Object, bool]:
        """The object, and whether it is gone already."""
        with self.storage.changed:
            before = self._present(served, (request.namespace, request.name))
            return self.end(served, before, request.options(), dry=request.dry)

    def delete_collection(self, served: Served, request: Request) -> list[Object]:
        with self.storage.changed:
            found = self.selected(served, request)
            for thing in found:
                self.end(served, thing, request.options(), dry=request.dry)
            return found

    def end(self, served: Served, before: Object, options: Object, *, dry: bool = False) -> tuple[Object, bool]:
        """Deletes, or marks as being deleted what has finalizers or a grace."""
        resource, old = served.resource, before["metadata"]
        for field, code in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted = (options.get("preconditions") or {}).get(field)
            if wanted and wanted != old[field]:
                why = f"Precondition failed: {code} in precondition: {wanted}, {code} in object meta: {old[field]}"
                raise conflict(resource, old["name"], why)
        asked = options.get("gracePeriodSeconds")
        grace = grace_s(before, asked) if resource.full == "pods" else 0
        policy = options.get("propagationPolicy")
        if options.get("orphanDependents"):
            policy = "Orphan"
        added = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(str(policy))
        finalizers = [*(old.get("finalizers") or [])]
        if added and added not in finalizers:
            finalizers.append(added)
        name = (old.get("namespace", ""), old["name"])
        lingering = bool(finalizers) or grace > 0 or resource.key == NAMESPACES.key
        if dry:
            return before, not lingering
        if not lingering:
            return self._removed(served, name), True
        meta = {**old}
        first = not old.get("deletionTimestamp")
        if first or grace < old.get("deletionGracePeriodSeconds", 0):
            meta["deletionTimestamp"] = timestamp(grace)
            meta["deletionGracePeriodSeconds"] = grace
            if first and "generation" in meta:
                meta["generation"] += 1
        if finalizers:
            meta["finalizers"] = finalizers
        after = {**before, "metadata": meta}
        if resource.key == NAMESPACES.key:
            after["status"] = {**before.get("status", {}), "phase": "Terminating"}
        if after == before:
            return before, False
        return self.storage.put(resource.key, name, after), False

    def _removed(self, served: Served, name: Name) -> Object:
        last = self.storage.remove(served.resource.key, name)
        if served.resource.key == CRDS.key:
            self._install()
        return last

    def without_finalizer(self, served: Served, thing: Object, finalizer: str) -> None:
        """Takes one away; the object goes when it was the last and is being deleted."""
        with self.storage.changed:
            meta = thing["metadata"]
            name = (meta.get("namespace", ""), meta["name"])
            left = [one for one in meta.get("finalizers") or [] if one != finalizer]
            if not left and meta.get("deletionTimestamp") and not meta.get("deletionGracePeriodSeconds"):
                self._removed(served, name)
                return
            self.storage.put(served.resource.key, name, {**thing, "metadata": {**meta, "finalizers": left}})

    def namespace_emptied(self, name: str) -> None:
        """The last step of a namespace's deletion."""
        self.storage.remove(NAMESPACES.key, ("", name))


def _without_nulls(thing: Object) -> Object:
    """Go's decoder makes nothing of a null, save for the timestamps that are shown so."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cleaned(inner) for key, inner in value.items() if inner is not None}
        if isinstance(value, list):
            return [cleaned(inner) for inner in value]
        return value

    result: Object = cleaned(thing)
    return result


def _essence(thing: Object) -> Object:
    hidden = {"managedFields", "resourceVersion", "generation"}
    meta = {key: value for key, value in thing["metadata"].items() if key not in hidden and value}
    return {**thing, "metadata": meta}


def _specification(thing: Object) -> Object:
    return {key: value for key, value in thing.items() if key not in {"metadata", "status", "apiVersion", "kind"}}
