"""The interceptor through which every gRPC call to labd goes: a method that the authorisation table does not list is
closed to everybody."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc

from labd.model.access import Rule
from labd.model.access_table import LABD_GRPC

_Handler = grpc.RpcMethodHandler


class ListedOnly(grpc.aio.ServerInterceptor):
    """Lets listed methods pass; who may call them, their servicers look at."""

    def __init__(self, table: Mapping[str, Rule] = LABD_GRPC) -> None:
        self._table = table

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler[Any, Any] | None":
        """Called by gRPC once per call, before its handler."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method in self._table:
            return handler
        return grpc.stream_stream_rpc_method_handler(_closed)


async def _closed(request: object, context: "grpc.aio.ServicerContext[Any, Any]") -> NoReturn:
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this method is not open to anybody")
    raise AssertionError("abort raises")
