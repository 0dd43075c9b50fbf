"""Authentication (0x29) by challenge and response with a symmetric key (ISO 14229-1:2020, 10.6, concept ACR)."""

import secrets
from collections.abc import Mapping

from ecu_adapters.service_settings import Authentication
from ecu_adapters.simulator.rules import Call, Refused, Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState

_SOURCE = "ISO 14229-1:2020, 10.6"
_DEAUTHENTICATE, _CHALLENGE, _PROOF, _CONFIGURATION = 0x00, 0x05, 0x06, 0x08
_SUBFUNCTIONS = dict.fromkeys((_DEAUTHENTICATE, _CHALLENGE, _PROOF, _CONFIGURATION), SubFunction())
_ACCEPTED, _SYMMETRIC, _DEAUTHENTICATED, _AUTHENTICATED = b"\x00", b"\x04", b"\x10", b"\x12"
"""authenticationReturnParameter (annex B.5)."""
_INDICATOR = slice(2, 18)
_PROOF_AT = 20


def _subfunctions(_state: EcuState) -> Mapping[int, SubFunction]:
    return _SUBFUNCTIONS


def _settings(call: Call) -> Authentication:
    settings = call.state.ecu.authentication
    assert settings is not None, "the service is not offered without settings"  # noqa: S101 - see SERVICE
    return settings


def _wrong_length(call: Call) -> bool:
    pdu = call.pdu
    if call.sub in (_DEAUTHENTICATE, _CONFIGURATION):
        return len(pdu) != 2
    if call.sub == _CHALLENGE:
        # communicationConfiguration and algorithmIndicator
        return len(pdu) != 2 + 1 + 16
    at = 18
    for _ in range(3):  # proof, challenge of the client, additional parameter: each with its length before it
        if len(pdu) < at + 2:
            return True
        at += 2 + int.from_bytes(pdu[at : at + 2], "big")
    return len(pdu) != at


def _out_of_range(call: Call) -> bool:
    if call.sub == _CHALLENGE:
        # 00: no session key for a secured transmission is asked for.
        return call.pdu[2] != 0x00 or call.pdu[3:19] != _settings(call).indicator
    return call.sub == _PROOF and call.pdu[_INDICATOR] != _settings(call).indicator


def _act(call: Call) -> bytes:
    state, settings, sub = call.state, _settings(call), bytes((call.sub,))
    if call.sub == _CONFIGURATION:
        return sub + _SYMMETRIC
    if call.sub == _DEAUTHENTICATE:
        state.authenticated = False
        return sub + _DEAUTHENTICATED
    if call.sub == _CHALLENGE:
        state.challenge = state.random_bytes(settings.challenge_length)
        sized = len(state.challenge).to_bytes(2, "big") + state.challenge
        return sub + _ACCEPTED + settings.indicator + sized + b"\x00\x00"
    challenge, state.challenge = state.challenge or b"", None
    length = int.from_bytes(call.pdu[18:20], "big")
    if not secrets.compare_digest(call.pdu[_PROOF_AT : _PROOF_AT + length], settings.proof_for(challenge)):
        raise Refused(0x58)
    state.authenticated = True
    return sub + _AUTHENTICATED + settings.indicator + b"\x00\x00"


SERVICE = Service(
    0x29,
    _act,
    subfunctions=_subfunctions,
    offered=lambda ecu: ecu.authentication is not None,
    rules=(
        Rule(
            0x24,
            "a proof comes without a challenge before it",
            _SOURCE,
            lambda call: call.sub == _PROOF and call.state.challenge is None,
        ),
        Rule(0x13, "the length is not that of the sub-function and the lengths in it", _SOURCE, _wrong_length),
        Rule(0x31, "the ECU does not have the algorithm or the configuration", _SOURCE, _out_of_range),
    ),
)
