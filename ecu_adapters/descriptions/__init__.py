"""Diagnostic descriptions of other tools: ODX and PDX through odxtools, CDD through cantools.

What they say becomes the sections ``dids``, ``dtcs`` and ``routines`` of an ECU's file, in the very same form; what
has no such form is listed, and can still be asked for raw.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ecu_adapters.dids import Did
from ecu_adapters.routines import Routine

MAX_BYTES = 256 << 20
"""Larger files are refused."""

_DID: TypeAdapter[Did] = TypeAdapter(Did)
_ROUTINE = TypeAdapter(Routine)


class DescriptionError(Exception):
    """A description cannot be read, or does not have that ECU."""


@dataclass(slots=True)
class Imported:
    """Sections of an ECU's file, and what could not be expressed in them."""

    dids: dict[str, dict[str, Any]] = field(default_factory=dict)
    dtcs: list[dict[str, Any]] = field(default_factory=list)
    routines: dict[str, dict[str, Any]] = field(default_factory=dict)
    unmapped: list[str] = field(default_factory=list)


def load(reference: str, folder: Path) -> Imported:
    """Reads ``FILE`` or ``FILE#ECU``; a relative path counts from ``folder``. Raises DescriptionError."""
    name, _, ecu = reference.partition("#")
    path = folder / name
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DescriptionError(f"{path} cannot be read: {error.strerror}") from error
    if size > MAX_BYTES:
        raise DescriptionError(f"{path} is larger than {MAX_BYTES} bytes")
    imported = _read(path, ecu)
    _keep_valid(imported)
    return imported


def _read(path: Path, ecu: str) -> Imported:
    suffix = path.suffix.lower()
    if suffix == ".pdx" or suffix.startswith(".odx"):
        from ecu_adapters.descriptions import odx  # odxtools takes most of a second to import

        return odx.load(path, ecu)
    if suffix == ".cdd":
        from ecu_adapters.descriptions import cdd

        return cdd.load(path, ecu)
    raise DescriptionError(f"{path} is of no known kind: .pdx, .odx-d or .cdd")


def _keep_valid(imported: Imported) -> None:
    """One entry that our models refuse (too long, two choices of one name) must not spoil the others."""
    models: tuple[tuple[str, dict[str, dict[str, Any]], TypeAdapter[Any]], ...] = (
        ("data identifier", imported.dids, _DID),
        ("routine", imported.routines, _ROUTINE),
    )
    for kind, entries, model in models:
        for name in list(entries):
            try:
                model.validate_python(entries[name])
            except ValidationError as error:
                reason = "; ".join(detail["msg"] for detail in error.errors(include_url=False, include_input=False))
                imported.unmapped.append(f"{kind} {name}: {reason}")
                del entries[name]


def merge(data: dict[str, Any], imported: Imported) -> dict[str, Any]:
    """The file's own data over what was imported: a field of a data identifier, routine or trouble code at a time."""
    merged = dict(data)
    for section in ("dids", "routines"):
        found, own = getattr(imported, section), data.get(section)
        if found and (own is None or isinstance(own, dict)):
            merged[section] = _over(_without_renamed(found, own or {}), own or {})
    own_dtcs = data.get("dtcs")
    if imported.dtcs and (own_dtcs is None or isinstance(own_dtcs, list)):
        codes = {dtc["code"]: dtc for dtc in imported.dtcs}
        # The file's own come first, where they stand in the file: their mistakes keep their lines.
        mine = [_over(codes.pop(_code(dtc), {}), dtc) if isinstance(dtc, dict) else dtc for dtc in own_dtcs or []]
        merged["dtcs"] = [*mine, *codes.values()]
    return merged


def _without_renamed(found: dict[str, dict[str, Any]], own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Leaves out what the file describes itself under another name."""
    numbers = {entry.get("did", entry.get("id")): name for name, entry in own.items() if isinstance(entry, dict)}
    return {
        name: entry for name, entry in found.items() if numbers.get(entry.get("did", entry.get("id")), name) == name
    }


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """``top`` over ``base``. A data identifier of another type replaces the imported one as a whole."""
    if "type" in top and top["type"] != base.get("type"):
        return dict(top)
    merged = dict(base)
    for key, value in top.items():
        known = merged.get(key)
        merged[key] = _over(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _code(dtc: dict[str, Any]) -> str:
    return str(dtc.get("code", "")).upper().removesuffix("-00")
