"""TransferData (0x36) and RequestTransferExit (0x37): the blocks of a transfer, and its end."""

from udsoncan.services.RequestTransferExit import RequestTransferExit
from udsoncan.services.TransferData import TransferData

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service


async def _transfer_data(use: Call, counter: Plain, data: Plain = b"") -> Outcome:
    request = TransferData.make_request(arguments.byte(counter, "counter"), arguments.octets(data, "data"))
    response, exchange = await use.exchange(request)
    return Outcome(TransferData.interpret_response(response).service_data.parameter_records, exchange)


async def _transfer_exit(use: Call, record: Plain = b"") -> Outcome:
    response, exchange = await use.exchange(RequestTransferExit.make_request(arguments.octets(record, "record")))
    return Outcome(RequestTransferExit.interpret_response(response).service_data.parameter_records, exchange)


SERVICES = {
    "transfer_data": Service(_transfer_data, ("counter",), ("data",)),
    "transfer_exit": Service(_transfer_exit, optional=("record",)),
}
