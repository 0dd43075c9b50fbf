"""CDD files through cantools, which reads their data identifiers and nothing else."""

import warnings
from pathlib import Path
from typing import Any

from ecu_adapters.descriptions import DescriptionError, Imported
from ecu_adapters.descriptions.layout import Placed, Unmapped, big_endian, fields, identifier, single

_NOT_READ = "routines, trouble codes, text encodings and signs of a CDD are not read by cantools; export it as PDX"


def load(path: Path, ecu: str) -> Imported:
    """All data identifiers of the file's first ECU, the only one that cantools reads. Raises DescriptionError."""
    if ecu:
        raise DescriptionError(f"{path.name} is a CDD, of which the first ECU is read; leave #{ecu} out")
    with warnings.catch_warnings():
        # cantools would rather see ODX; CDD is what many suppliers deliver.
        warnings.simplefilter("ignore", DeprecationWarning)
        from cantools.database.diagnostics.formats import cdd

        try:
            database = cdd.load_string(path.read_text(encoding="utf-8", errors="replace"))
        except Exception as error:
            # cantools lets whatever the XML trips it with out: KeyError, ValueError, AttributeError, ParseError, ...
            raise DescriptionError(f"{path} cannot be read as CDD: {type(error).__name__}: {error}") from error
    imported = Imported(unmapped=[_NOT_READ])
    for did in database.dids:
        name = identifier(did.name)
        try:
            imported.dids[name] = _did(did)
        except Unmapped as reason:
            imported.unmapped.append(f"data identifier {name} (0x{did.identifier:04X}): {reason}")
    return imported


def _did(did: Any) -> dict[str, Any]:
    placed = [_placed(data) for data in did.datas]
    if not placed:
        raise Unmapped("it has no data")
    head = {"did": did.identifier}
    only = single(placed)
    return head | only if only is not None else head | {"type": "struct", "fields": fields(placed)}


def _placed(data: Any) -> Placed:
    byte, bit, bits = data.start // 8, data.start % 8, data.length
    if bits > 64:
        # Text and byte fields alike: the encoding is not read.
        return Placed(data.name, 8 * byte + 7 - bit, bits, {"type": "hex"})
    coding: dict[str, Any] = {"type": "uint"}
    if data.byte_order == "big_endian":
        start = 8 * byte + 7 - bit
    elif bit + bits <= 8:
        start = big_endian(byte, bit, bits)
    elif bit == 0 and bits % 8 == 0:
        start, coding["byte_order"] = 8 * byte, "little"
    else:
        raise Unmapped(f"{data.name} has {bits} bits in Intel byte order")
    if data.conversion.scale != 1:
        coding["scale"] = float(data.conversion.scale)
    if data.conversion.offset:
        coding["offset"] = float(data.conversion.offset)
    if data.unit:
        coding["unit"] = data.unit
    if data.conversion.choices:
        coding["choices"] = {int(raw): str(text) for raw, text in data.conversion.choices.items()}
    return Placed(data.name, start, bits, coding)
