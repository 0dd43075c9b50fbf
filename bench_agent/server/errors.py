"""How a call on the Bench service ends when it does not end well."""

import grpc


class CallError(Exception):
    """Ends a call with a gRPC status and a message for the caller."""

    def __init__(self, code: grpc.StatusCode, message: str, *, preparing: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.preparing = preparing
        """The bench is not ready for its new holder yet: the call was not carried out, and may be made again."""


def invalid(message: str) -> CallError:
    """INVALID_ARGUMENT: the request cannot be carried out as it stands."""
    return CallError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> CallError:
    """NOT_FOUND: no such bench, bus or ECU."""
    return CallError(grpc.StatusCode.NOT_FOUND, message)


def unavailable(message: str) -> CallError:
    """UNAVAILABLE: the bus or the agent cannot do it now."""
    return CallError(grpc.StatusCode.UNAVAILABLE, message)


def unauthenticated(message: str) -> CallError:
    """UNAUTHENTICATED: no token, or none that can be accepted from anybody."""
    return CallError(grpc.StatusCode.UNAUTHENTICATED, message)


def denied(message: str) -> CallError:
    """PERMISSION_DENIED: a sound token, but not for this bench, or not any more."""
    return CallError(grpc.StatusCode.PERMISSION_DENIED, message)


def in_use(message: str) -> CallError:
    """FAILED_PRECONDITION: somebody else uses it; the message names who."""
    return CallError(grpc.StatusCode.FAILED_PRECONDITION, message)


def device_fault(message: str) -> CallError:
    """DATA_LOSS: a device of the bench failed, or answered what makes no sense."""
    return CallError(grpc.StatusCode.DATA_LOSS, message)


def bus_fault(message: str) -> CallError:
    """ABORTED: the bus or its driver refused."""
    return CallError(grpc.StatusCode.ABORTED, message)


class CleanUpError(Exception):
    """What a former holder left behind could not be cleaned up; the bench must not be handed on."""


class LeaseFailed(Exception):
    """The bench cannot be prepared for the lease, which is over before its first call; the message says why."""
