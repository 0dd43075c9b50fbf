"""The interceptor through which every call to the agent goes.

What is not known to be open is closed: a method without an entry here is refused, a new service included.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog
from google.protobuf.message import Message

from bench_agent.protocol import tracing
from bench_agent.protocol.access import Access
from bench_agent.protocol.claims import BENCH_METADATA, PREPARING_METADATA
from bench_agent.protocol.identity import lease_of
from bench_agent.protocol.transport import peer_names
from bench_agent.server.calls import Call
from bench_agent.server.errors import CallError
from bench_agent.server.guard import Gate, Guard
from bench_agent.server.unix_socket import is_local

OPEN_SERVICES = frozenset(
    {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection"}
)
"""Services that anybody may ask."""

_ABORT_S = 2.0
"""How long a refused caller may take to read that it was refused."""

_log = structlog.get_logger()
_current: ContextVar[Call] = ContextVar("call")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Behaviour = Callable[..., Awaitable[Message | None]]


def current_call() -> Call:
    """The admitted call that this code runs in."""
    return _current.get()


class LeaseDoor(grpc.aio.ServerInterceptor):
    """Admits calls of the ``guarded`` methods through the guard; turns CallErrors into gRPC statuses."""

    def __init__(self, guard: Guard, guarded: Mapping[str, Access], *, certified: bool = False) -> None:
        """``guarded`` are the methods that need a lease, as gRPC names them: ``/package.Service/Method``.

        ``certified``: who comes over the network needs a certificate for the lease of the token as well.
        """
        self._guard = guard
        self._certified = certified
        self._guarded_methods = guarded

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """Called by gRPC once per call, before its handler."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or method.split("/")[1] in OPEN_SERVICES:
            return handler
        if method not in self._guarded_methods:
            return grpc.unary_unary_rpc_method_handler(_closed)
        return self._guarded(handler, method)

    def _guarded(self, handler: _Handler, method: str) -> _Handler:
        behaviour, wrap = next(
            (getattr(handler, kind), getattr(grpc, f"{kind}_rpc_method_handler"))
            for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
            if getattr(handler, kind) is not None
        )

        async def admitted(request: object, context: Context) -> Message | None:
            try:
                if handler.response_streaming:
                    # Else the first message would do it, and a call that is cut meanwhile could not be told so:
                    # gRPC takes it for not done, sends it once more with the status, and refuses both.
                    await context.send_initial_metadata(())
                what = {"rpc__system": "grpc", "rpc__method": method[1:], "bench": _metadata(context, BENCH_METADATA)}
                with tracing.span(method[1:], parent=_metadata(context, tracing.HEADER), kind="server", **what):
                    return await self._admitted(behaviour, request, context, method)
            except CallError as error:
                await _abort(context, error.code, error.message, preparing=error.preparing)

        wrapped: _Handler = wrap(admitted, handler.request_deserializer, handler.response_serializer)
        return wrapped

    async def _admitted(self, behaviour: _Behaviour, request: object, context: Context, method: str) -> Message | None:
        token, bench = _credentials(context)
        access = self._guarded_methods[method]
        local = is_local(context.peer())
        gate, call = await self._guard.enter(
            token,
            bench,
            local=local,
            leases=_leases(context) if self._certified and not local else None,
            needs=access.scope,
            what=method.rpartition("/")[2],
        )
        _current.set(call)
        structlog.contextvars.bind_contextvars(bench=bench, lease=call.claims.lease)
        if isinstance(request, AsyncIterable):
            request = _noted(request, call)
        try:
            with call.working() if access.works else contextlib.nullcontext():
                return await _run(behaviour, request, context, gate, call)
        except asyncio.CancelledError:
            if call.cut_reason is None:
                raise  # the caller went away
            if call.task.uncancel():
                raise
            raise CallError(grpc.StatusCode.PERMISSION_DENIED, call.cut_reason) from None
        except (CallError, grpc.aio.AbortError):
            raise
        except Exception as error:
            if _hung_up(error):
                raise asyncio.CancelledError from error
            _log.error("call failed", method=method, exc_info=error)
            raise CallError(grpc.StatusCode.INTERNAL, f"the agent failed: {type(error).__name__}: {error}") from error


async def _run(behaviour: _Behaviour, request: object, context: Context, gate: Gate, call: Call) -> Message | None:
    try:
        return await behaviour(request, context)
    finally:
        gate.leave(call)


def _hung_up(error: Exception) -> bool:
    """Whether all that went wrong is that the caller could not be written to any more."""
    if isinstance(error, ExceptionGroup):
        return all(map(_hung_up, error.exceptions))
    return isinstance(error, grpc.aio.InternalError)


async def _noted(requests: AsyncIterable[Message], call: Call) -> AsyncIterator[Message]:
    """Each message is traffic of the caller's."""
    async for request in requests:
        call.touch()
        yield request


def _credentials(context: Context) -> tuple[str | None, str | None]:
    scheme, _, rest = _metadata(context, "authorization").partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else None, _metadata(context, BENCH_METADATA) or None


def _metadata(context: Context, name: str) -> str:
    """What the caller sent under this name last; empty for nothing, or for no text."""
    sent = [value for key, value in context.invocation_metadata() or () if key == name]
    return sent[-1] if sent and isinstance(sent[-1], str) else ""


def _leases(context: Context) -> list[str]:
    """Those that the caller's certificate was given for."""
    return [lease for lease in map(lease_of, peer_names(context.auth_context())) if lease is not None]


async def _closed(request: bytes, context: Context) -> NoReturn:
    await _abort(context, grpc.StatusCode.PERMISSION_DENIED, "this method is not open to anybody")


async def _abort(context: Context, code: grpc.StatusCode, message: str, *, preparing: bool = False) -> NoReturn:
    # A peer that reads nothing cannot take the status either; it is not waited for longer than this.
    try:
        async with asyncio.timeout(_ABORT_S):
            await context.abort(code, message, ((PREPARING_METADATA, "yes"),) if preparing else ())
    except TimeoutError:
        raise grpc.aio.AbortError(message) from None
