"""RequestFileTransfer (0x38): adds, replaces, deletes and reads files, and lists folders; TransferData carries them."""

from dataclasses import dataclass

from ecu_adapters.simulator.files import FileStore, FileTransfer
from ecu_adapters.simulator.rules import Call, Rule, Service

_SOURCE = "ISO 14229-1:2020, 14.7"
_ADD, _DELETE, _REPLACE, _READ, _READ_FOLDER = 0x01, 0x02, 0x03, 0x04, 0x05
"""modeOfOperation (annex G). Resuming (06) is not offered."""
_INCOMING = (_ADD, _REPLACE)
_PLAIN = 0x00


@dataclass(frozen=True, slots=True)
class _Request:
    mode: int
    path: str
    format: int | None
    """dataFormatIdentifier, where the mode has one."""
    size: int | None
    """Bytes of the file, uncompressed; None where the mode has none."""
    compressed: int | None


def _parse(pdu: bytes) -> _Request | None:
    """The request; None when its length is not what it says."""
    mode, path_end = pdu[1], 4 + int.from_bytes(pdu[2:4], "big")
    if path_end == 4 or len(pdu) < path_end:
        return None
    path, rest = pdu[4:path_end].decode("latin-1"), pdu[path_end:]
    if mode in (_DELETE, _READ_FOLDER):
        return _Request(mode, path, None, None, None) if not rest else None
    if mode == _READ:
        return _Request(mode, path, rest[0], None, None) if len(rest) == 1 else None
    if len(rest) < 2 or not rest[1] or len(rest) != 2 + 2 * rest[1]:
        return None
    middle = 2 + rest[1]
    size, compressed = int.from_bytes(rest[2:middle], "big"), int.from_bytes(rest[middle:], "big")
    return _Request(mode, path, rest[0], size, compressed)


def _store(call: Call) -> FileStore:
    store = call.state.files
    assert store is not None, "the service is not offered without files"  # noqa: S101 - see SERVICE
    return store


def _request(call: Call) -> _Request:
    request = _parse(call.pdu)
    assert request is not None, "the row of the length refuses it"  # noqa: S101 - holds by the table's order
    return request


def _unknown_file(call: Call) -> bool:
    store, request = _store(call), _request(call)
    if request.mode == _READ_FOLDER:
        return not store.is_folder(request.path)
    return (request.path in store.files) is (request.mode == _ADD) or not request.path.isascii()


def _bad_format(call: Call) -> bool:
    request = _request(call)
    return request.format not in (None, _PLAIN) or request.size != request.compressed


def _no_room(call: Call) -> bool:
    request = _request(call)
    return request.size is not None and not _store(call).room_for(request.path, request.size)


def _act(call: Call) -> bytes:
    store, request = _store(call), _request(call)
    answer = bytes((request.mode,))
    if request.mode == _DELETE:
        del store.files[request.path]
        return answer
    longest = call.state.ecu.memory.max_block
    incoming = request.mode in _INCOMING
    content = b""
    if request.mode == _READ:
        content = store.files[request.path]
    elif request.mode == _READ_FOLDER:
        content = store.listing(request.path)
    size = request.size if request.size is not None else len(content)
    call.state.transfer = FileTransfer(store, request.path, longest, incoming, size, bytearray(content))
    width = max((longest.bit_length() + 7) // 8, 2)
    answer += bytes((width,)) + longest.to_bytes(width, "big") + bytes((request.format or _PLAIN,))
    if incoming:
        return answer
    length = size.to_bytes(4, "big")
    # A folder has one length, a file two: uncompressed and compressed.
    return answer + b"\x00\x04" + length * (1 if request.mode == _READ_FOLDER else 2)


SERVICE = Service(
    0x38,
    _act,
    offered=lambda ecu: ecu.files is not None,
    outside_default=True,
    rules=(
        Rule(0x13, "the length is below 5", _SOURCE, lambda call: len(call.pdu) < 5),
        Rule(0x31, "there is no such mode of operation", _SOURCE, lambda call: not _ADD <= call.pdu[1] <= _READ_FOLDER),
        Rule(0x13, "the length is not what the lengths in the request make", _SOURCE, lambda c: _parse(c.pdu) is None),
        Rule(0x31, "the file is not there, or is there already", _SOURCE, _unknown_file),
        Rule(0x31, "the ECU takes files neither compressed nor encrypted", _SOURCE, _bad_format),
        Rule(0x22, "a transfer is in work", _SOURCE, lambda call: call.state.transfer is not None),
        Rule(0x70, "there is no room for the file", _SOURCE, _no_room),
    ),
    commits=True,
)
