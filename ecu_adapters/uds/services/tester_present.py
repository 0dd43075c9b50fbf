"""TesterPresent (0x3E). In a session other than the default one, the tester sends it by itself."""

from udsoncan.services.TesterPresent import TesterPresent

from ecu_adapters.uds.services.base import Call, Outcome, Service


async def _tester_present(use: Call) -> Outcome:
    _, exchange = await use.exchange(TesterPresent.make_request())
    return Outcome(None, exchange)


SERVICES = {"tester_present": Service(_tester_present)}
