"""Authentication (0x29; ISO 14229-1:2020, 10.6): certificates or challenge and response, step by step.

What a certificate or a proof holds is the manufacturer's: the caller computes them, from the challenge that a step
brought.
"""

from typing import Any

from udsoncan.services.Authentication import Authentication

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid

TASKS = {
    "deauthenticate": 0x00,
    "verify_certificate_unidirectional": 0x01,
    "verify_certificate_bidirectional": 0x02,
    "proof_of_ownership": 0x03,
    "transmit_certificate": 0x04,
    "request_challenge": 0x05,
    "verify_proof_unidirectional": 0x06,
    "verify_proof_bidirectional": 0x07,
    "configuration": 0x08,
}
"""Authentication tasks by name."""
RETURNS = {
    "request_accepted": 0x00,
    "general_reject": 0x01,
    "configuration_apce": 0x02,
    "configuration_acr_asymmetric": 0x03,
    "configuration_acr_symmetric": 0x04,
    "deauthentication_successful": 0x10,
    "certificate_verified_ownership_verification_necessary": 0x11,
    "ownership_verified_authentication_complete": 0x12,
    "certificate_verified": 0x13,
}
"""Return values by name (annex B.5)."""

_CERTIFICATE = ("configuration", "certificate", "challenge")
_PROOF = ("algorithm", "proof", "challenge", "parameter")
_TAKES: dict[int, tuple[str, ...]] = {
    0x01: _CERTIFICATE,
    0x02: _CERTIFICATE,
    0x03: ("proof", "public_key"),
    0x04: ("evaluation", "certificate"),
    0x05: ("configuration", "algorithm"),
    0x06: _PROOF,
    0x07: _PROOF,
}
"""Which arguments a task takes."""
_OPTIONS = (
    "configuration", "certificate", "challenge", "algorithm", "proof", "public_key", "evaluation", "parameter",
)  # fmt: skip
_FIELDS = {
    "configuration": "communication_configuration",
    "challenge": "challenge_client",
    "algorithm": "algorithm_indicator",
    "proof": "proof_of_ownership_client",
    "public_key": "ephemeral_public_key_client",
    "evaluation": "certificate_evaluation_id",
    "parameter": "additional_parameter",
}
"""udsoncan's names of them."""
_ALGORITHM_LENGTH = 16


async def _authenticate(use: Call, task: Plain, **given: Plain) -> Outcome:
    number = arguments.named(task, TASKS, "task", 0x08)
    takes = _TAKES.get(number, ())
    for name in given:
        if name not in takes:
            shown = ", ".join(takes) or "no arguments"
            raise UdsInvalid(f"{arguments.name_of(number, TASKS)} does not take {name}; it takes {shown}")
    fields = {_field(number, name): _coded(name, value) for name, value in given.items()}
    if "configuration" in takes:
        fields.setdefault(_FIELDS["configuration"], 0)
    if "evaluation" in takes and "evaluation" not in given:
        raise UdsInvalid("transmit_certificate needs the argument 'evaluation'")
    if "algorithm" in takes:
        fields.setdefault(_FIELDS["algorithm"], bytes(_ALGORITHM_LENGTH))
    response, exchange = await use.exchange(Authentication.make_request(number, **fields))
    data = Authentication.interpret_response(response).service_data
    result: dict[str, Plain] = {
        "task": arguments.name_of(data.authentication_task_echo, TASKS),
        "result": arguments.name_of(data.return_value, RETURNS),
    }
    brought = {
        "challenge": data.challenge_server,
        "public_key": data.ephemeral_public_key_server,
        "certificate": data.certificate_server,
        "proof": data.proof_of_ownership_server,
        "session_key": data.session_key_info,
        "algorithm": data.algorithm_indicator,
        "parameter": data.needed_additional_parameter,
    }
    return Outcome(result | {name: value for name, value in brought.items() if value is not None}, exchange)


def _field(task: int, name: str) -> str:
    if name == "certificate":
        return "certificate_data" if task == TASKS["transmit_certificate"] else "certificate_client"
    return _FIELDS[name]


def _coded(name: str, value: Plain) -> Any:
    if name == "configuration":
        return arguments.byte(value, name)
    if name == "evaluation":
        return arguments.integer(value, name, 0xFFFF)
    if name == "algorithm":
        # An object identifier in BER, left aligned and filled up with zeros.
        return arguments.octets(value, name, most=_ALGORITHM_LENGTH).ljust(_ALGORITHM_LENGTH, b"\0")
    return arguments.octets(value, name, most=0xFFFF)


SERVICES = {"authenticate": Service(_authenticate, ("task",), _OPTIONS)}
