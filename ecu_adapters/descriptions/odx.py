"""ODX and PDX files (ISO 22901-1) through odxtools: the services of one ECU that read, write and run things."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import odxtools
from odxtools.database import Database
from odxtools.diaglayers.hierarchyelement import HierarchyElement
from odxtools.diagservice import DiagService

from ecu_adapters.descriptions import DescriptionError, Imported
from ecu_adapters.descriptions.layout import Unmapped, fields, identifier, single
from ecu_adapters.descriptions.odx_parameters import constants, placed_from
from ecu_adapters.uds import dtc as dtc_code
from ecu_adapters.yaml_file import nearest

_READ, _WRITE, _ROUTINE = 0x22, 0x2E, 0x31
_STEPS = {1: "start", 2: "stop", 3: "results"}
_AFFIXES = {"read", "write", "get", "set", "start", "stop", "request", "results", "result", "routine", "control"}
"""Words around the name of what a service is about."""


def load(path: Path, ecu: str) -> Imported:
    """What one ECU (a variant, or a base variant) of the file describes. Raises DescriptionError."""
    database = _database(path)
    layers: dict[str, HierarchyElement] = {
        layer.short_name: layer for layer in [*database.base_variants, *database.ecu_variants]
    }
    if not ecu and len(layers) == 1:
        ecu = next(iter(layers))
    if ecu not in layers:
        named = f"no ECU {ecu!r}" if ecu else "several ECUs: write FILE#ECU"
        raise DescriptionError(f"{path.name} has {named if layers else 'no ECU at all'}; {nearest(ecu, layers)}")
    imported = Imported()
    for service in layers[ecu].services:
        try:
            _service(service, imported)
        except Unmapped as reason:
            imported.unmapped.append(f"service {service.short_name}: {reason}")
    _dtcs(layers[ecu], imported)
    return imported


def _database(path: Path) -> Database:
    try:
        with warnings.catch_warnings():
            # odxtools warns of what it then reads all the same.
            warnings.simplefilter("ignore")
            if path.suffix.lower() != ".pdx":
                return odxtools.load_odx_file(path, use_weakrefs=False)
            database = Database(use_weakrefs=False)
            with ZipFile(path) as archive:
                database.add_pdx_file(archive)
                for file in database.auxiliary_files.values():
                    file.close()
            database.refresh()
            return database
    except Exception as error:
        # odxtools lets out what ZIP, XML and its own checks raise, AssertionError and KeyError among it.
        raise DescriptionError(f"{path} cannot be read as ODX: {type(error).__name__}: {error}") from error


def _service(service: DiagService, imported: Imported) -> None:
    """Adds one service to what was found. Raises Unmapped."""
    if service.request is None:
        raise Unmapped("it has no request")
    head = constants(service.request.parameters)
    kind = head[0] if head else None
    if kind in (_READ, _WRITE) and len(head) >= 3:
        add = _read if kind == _READ else _write
        add(service, int.from_bytes(head[1:3], "big"), imported)
    elif kind == _ROUTINE and len(head) >= 4 and head[1] in _STEPS:
        _routine(service, head[1], int.from_bytes(head[2:4], "big"), imported)
    elif kind in (_READ, _WRITE, _ROUTINE):
        raise Unmapped(f"its identifier is no constant (it begins with {head.hex(' ').upper()})")
    # Every other service is the same for all ECUs; our own coding knows it.


def _read(service: DiagService, number: int, imported: Imported) -> None:
    if not service.positive_responses:
        raise Unmapped("it has no positive response")
    parts, notes = placed_from(service.positive_responses[0].parameters, 3)
    _add_did(service, number, parts, notes, imported)


def _write(service: DiagService, number: int, imported: Imported) -> None:
    if service.request is None:
        return
    known = next((did for did in imported.dids.values() if did["did"] == number), None)
    if known is None:
        parts, notes = placed_from(service.request.parameters, 3)
        known = _add_did(service, number, parts, notes, imported)
        known["read"] = False
    known["write"] = {}


def _add_did(
    service: DiagService, number: int, parts: list[Any], notes: list[str], imported: Imported
) -> dict[str, Any]:
    if not parts:
        raise Unmapped("it carries no data")
    known = next((did for did in imported.dids.values() if did["did"] == number), None)
    if known is not None:
        if known.pop("read", True) is not False:
            raise Unmapped(f"another service reads data identifier 0x{number:04X} too")
        return known
    name = _free(_subject(service.short_name), imported.dids)
    only = single(parts)
    coding = only if only is not None else {"type": "struct", "fields": fields(parts)}
    imported.dids[name] = {"did": number, **coding}
    imported.unmapped += [f"data identifier {name} (0x{number:04X}): {note}" for note in notes]
    return imported.dids[name]


def _routine(service: DiagService, sub: int, number: int, imported: Imported) -> None:
    options, status, notes = list[Any](), list[Any](), list[str]()
    if service.request is not None:
        options, found = placed_from(service.request.parameters, 4)
        notes += found
    if service.positive_responses:
        status, found = placed_from(service.positive_responses[0].parameters, 4)
        notes += found
    step = {"options": fields(options), "status": fields(status)}
    known = next(((name, one) for name, one in imported.routines.items() if one["id"] == number), None)
    if known is None:
        name = _free(_subject(service.short_name), imported.routines)
        known = (name, {"id": number, "start": None})
        imported.routines[name] = known[1]
    known[1][_STEPS[sub]] = step
    imported.unmapped += [f"routine {known[0]} (0x{number:04X}): {note}" for note in notes]


def _dtcs(layer: HierarchyElement, imported: Imported) -> None:
    seen: set[str] = set()
    for dop in layer.diag_data_dictionary_spec.dtc_dops:
        # Codes of two bytes have no failure type.
        shift = 8 if dop.diag_coded_type.get_static_bit_length() == 16 else 0
        for dtc in dop.dtcs:
            number = dtc.trouble_code << shift
            if not 0 <= number <= 0xFFFFFF:
                imported.unmapped.append(f"trouble code {dtc.short_name}: {number} has more than three bytes")
                continue
            code = dtc_code.text(number)
            if code not in seen:
                seen.add(code)
                entry = {"code": code, "text": str(dtc.text), "status": dtc_code.NOT_COMPLETED}
                imported.dtcs.append(entry)


def _subject(name: str) -> str:
    """What a service is about: ``Read_VIN`` and ``VIN_Read`` are about ``VIN``."""
    words = name.split("_")
    kept = list(_trimmed(words)) or words
    return identifier("_".join(kept))


def _trimmed(words: list[str]) -> Iterable[str]:
    inside = [index for index, word in enumerate(words) if word.lower() not in _AFFIXES]
    return words[inside[0] : inside[-1] + 1] if inside else []


def _free(name: str, taken: Iterable[str]) -> str:
    return next(candidate for candidate in _candidates(name) if candidate not in taken)


def _candidates(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
