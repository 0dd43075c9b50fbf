"""RequestDownload (0x34) and RequestUpload (0x35): open a transfer to or from a memory range."""

from udsoncan.common.DataFormatIdentifier import DataFormatIdentifier
from udsoncan.services.RequestDownload import RequestDownload
from udsoncan.services.RequestUpload import RequestUpload

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service

_OPTIONS = ("address_bytes", "size_bytes", "compression", "encryption")


def data_format(compression: Plain, encryption: Plain) -> DataFormatIdentifier:
    """The dataFormatIdentifier: a nibble each, 0 for none."""
    return DataFormatIdentifier(
        arguments.integer(compression, "compression", 0xF), arguments.integer(encryption, "encryption", 0xF)
    )


async def _open(
    service: type[RequestDownload] | type[RequestUpload],
    use: Call,
    address: Plain,
    size: Plain,
    address_bytes: Plain = None,
    size_bytes: Plain = None,
    compression: Plain = 0,
    encryption: Plain = 0,
) -> Outcome:
    location = arguments.memory(use.ecu, address, size, address_bytes, size_bytes)
    request = service.make_request(location, data_format(compression, encryption))
    response, exchange = await use.exchange(request)
    try:
        longest = service.interpret_response(response).service_data.max_length
    except NotImplementedError as error:  # a block length of more than 8 bytes
        raise use.malformed("has an impossible block length", exchange) from error
    return Outcome({"max_block": longest}, exchange)


async def _request_download(use: Call, **given: Plain) -> Outcome:
    return await _open(RequestDownload, use, **given)


async def _request_upload(use: Call, **given: Plain) -> Outcome:
    return await _open(RequestUpload, use, **given)


SERVICES = {
    "request_download": Service(_request_download, ("address", "size"), _OPTIONS),
    "request_upload": Service(_request_upload, ("address", "size"), _OPTIONS),
}
