"""RequestFileTransfer (0x38): open a transfer to or from a file of the ECU, or delete one."""

from udsoncan.common.Filesize import Filesize
from udsoncan.services.RequestFileTransfer import RequestFileTransfer

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid
from ecu_adapters.uds.services.request_download import data_format

MODES = {"add": 1, "delete": 2, "replace": 3, "read": 4, "read_directory": 5, "resume": 6}
"""Modes of operation by name (ISO 14229-1:2020, annex G.1)."""
_WITH_SIZE = (1, 3, 6)
_WITH_FORMAT = (1, 3, 4, 6)


async def _file_transfer(
    use: Call,
    mode: Plain,
    path: Plain,
    size: Plain = None,
    compressed_size: Plain = None,
    compression: Plain = 0,
    encryption: Plain = 0,
) -> Outcome:
    number = arguments.named(mode, MODES, "mode", 6)
    if number == 0:
        raise UdsInvalid("mode is 0; it must be 1 .. 6, or a name")
    if not isinstance(path, str) or not path.isascii() or not 0 < len(path) <= 0xFFFF:
        raise UdsInvalid(f"path is {path!r}; it must be ASCII text of 1 .. 65535 characters")
    if (size is not None) != (number in _WITH_SIZE):
        raise UdsInvalid("size (bytes) goes with the modes add, replace and resume, and only with them")
    sizes = None
    if size is not None:
        whole = arguments.integer(size, "size", (1 << 63) - 1)
        packed = whole if compressed_size is None else arguments.integer(compressed_size, "compressed_size", whole)
        sizes = Filesize(whole, packed)
    form = data_format(compression, encryption) if number in _WITH_FORMAT else None
    response, exchange = await use.exchange(RequestFileTransfer.make_request(number, path, form, sizes))
    try:
        data = RequestFileTransfer.interpret_response(response, tolerate_zero_padding=False).service_data
    except NotImplementedError as error:  # a length of more than 8 bytes
        raise use.malformed("has an impossible length", exchange) from error
    result: dict[str, Plain] = {"mode": arguments.name_of(data.moop_echo, MODES)}
    if data.max_length is not None:
        result["max_block"] = data.max_length
    if data.filesize is not None:
        result["size"], result["compressed_size"] = data.filesize.uncompressed, data.filesize.compressed
    if data.dirinfo_length is not None:
        result["directory_size"] = data.dirinfo_length
    if data.fileposition is not None:
        result["position"] = data.fileposition
    return Outcome(result, exchange)


_OPTIONS = ("size", "compressed_size", "compression", "encryption")
SERVICES = {"request_file_transfer": Service(_file_transfer, ("mode", "path"), _OPTIONS)}
