"""The keys beside the store, and whether they are its own: half a restored lab, or one with another's keys, must not go
on as if it were whole. Agents would not know it, and its secrets would stay shut.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from labd.model.identity import LOCAL_OPERATOR
from labd.services.authority import FILE_NAME, authorities_in
from labd.services.identities import require_reason
from labd.services.ledger import Ledger
from labd.services.limits import RunLimits
from labd.services.signing import KEY_NAME, key_id_in
from labd.services.vault import KEY_FILE, key_ids_in
from labd.store.store import Store
from labd.store.unit import Unit

AUTHORITY_KEY = f"ca/{FILE_NAME}"

_KINDS: Mapping[str, tuple[str, Callable[[bytes], tuple[str, ...]]]] = {
    KEY_NAME: ("signing key", lambda pem: (key_id_in(pem),)),
    AUTHORITY_KEY: ("certificate authority", authorities_in),
    KEY_FILE: ("secrets key", key_ids_in),
}
"""By the names that they have in a backup: what they are, and their ID with those of the former ones that they know."""


class KeysDiffer(Exception):
    """The keys beside the store are not its own; the message names the files, and what would help."""


class OwnKeys:
    """Key files, by the names that they have in a backup."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths

    def read(self) -> dict[str, bytes]:
        """Those that are there. Raises KeysDiffer for what cannot be read."""
        try:
            return {name: path.read_bytes() for name, path in self.paths.items() if path.exists()}
        except OSError as error:
            raise KeysDiffer(f"a key of the lab cannot be read: {error}") from error

    def require(self, known: Mapping[str, str]) -> None:
        """Raises KeysDiffer unless those that the store knows are there."""
        faults = list(self.faults(known))
        if faults:
            raise KeysDiffer(
                f"{'; '.join(faults)}. Put back what belongs to this lab: a backup that was made with a passphrase has "
                "the keys. If they are lost for good: `labd accept-keys --help`"
            )

    def faults(self, known: Mapping[str, str]) -> Iterator[str]:
        """What is not as the store knows it."""
        there = self.read()
        for name, path in self.paths.items():
            kind, _ = _KINDS[name]
            wanted = known.get(name)
            if wanted is None:
                continue
            if name not in there:
                yield f"the {kind} {path} is missing: this lab's has the ID {wanted}"
            elif wanted not in (ids := _ids(name, there[name], path)):
                yield f"the {kind} {path} has the ID {ids[0]}, but this lab's has {wanted}"

    def settle(self, store: Store) -> None:
        """Has the store know those that are there, and former ones no more. Raises KeysDiffer and StoreError."""
        present = self.ids()
        with store.read() as unit:
            if {**unit.key_ids(), **present} == unit.key_ids():
                return
        with store.write() as unit:
            self.require(unit.key_ids())
            unit.save_key_ids({**unit.key_ids(), **present})

    def ids(self) -> dict[str, str]:
        """Of those that are there."""
        return {name: _ids(name, content, self.paths[name])[0] for name, content in self.read().items()}


def accept(store: Store, keys: OwnKeys, why: str, now: float) -> list[str]:
    """Has the store take the keys that are there for its own; says what that means, a line each.

    Those that are not there are made when labd starts. Raises KeysDiffer, Invalid without a reason, and StoreError.
    """
    require_reason(LOCAL_OPERATOR, why, "taking other keys for the lab's own")
    with store.write() as unit:
        before, after = unit.key_ids(), keys.ids()
        changed = [name for name in keys.paths if before.get(name) != after.get(name)]
        if not changed:
            return ["the keys are the lab's own already"]
        unit.save_key_ids(after)
        ledger = Ledger(unit, now, lambda _: False, RunLimits(), LOCAL_OPERATOR, granting=False)
        ledger.audit("keys.accepted", "lab", before=_named(before, changed), after=_named(after, changed), why=why)
        return [*_told(unit, changed, after, keys)]


def _told(unit: Unit, changed: list[str], after: Mapping[str, str], keys: OwnKeys) -> Iterator[str]:
    for name in changed:
        what = f"has the ID {after[name]}" if name in after else "will be made when labd starts"
        yield f"the {_KINDS[name][0]} {keys.paths[name]} {what}"
    if AUTHORITY_KEY in changed:
        yield "every agent has to enrol anew, and people sign in with the new fingerprint"
    if KEY_FILE in changed:
        yield f"{len(unit.secrets())} secrets have to be set anew, unless the file has the key that sealed them"


def _named(ids: Mapping[str, str], names: list[str]) -> dict[str, str | None]:
    return {name: ids.get(name) for name in names}


def _ids(name: str, content: bytes, path: Path) -> tuple[str, ...]:
    kind, ids_in = _KINDS[name]
    try:
        return ids_in(content)
    except ValueError as error:
        raise KeysDiffer(f"the {kind} {path} cannot be read: {error}") from error
