"""Calling: checks, hooks and casts around a call, on an event loop or in a thread. The engine sends the call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..blocking import forbid_in_loop
from ..config import ApiSettings, Config
from ..deadline import Deadline
from ..engine.engine import Engine
from ..exceptions import InvalidArguments, InvalidParameters, LightbusException
from ..message import ResultMessage, RpcMessage, trace_sent
from ..rpc.outbound_call import OutboundCall
from ..tracing import trace_of_execution
from ..typing import BusOptions, Kwargs
from .engine_holder import EngineHolder
from .hook_runner import HookRunner
from .options import CALL_OPTIONS, check_options, timeout_of
from .peer_schemas import PeerSchemas
from .registration import Registration

__all__ = ["Calling"]


class Calling:
    """The part of a client that calls."""

    def __init__(
        self,
        config: Config,
        engines: EngineHolder,
        registration: Registration,
        hooks: HookRunner,
        schemas: PeerSchemas,
    ) -> None:
        self._schemas = schemas
        self._config = config
        self._engines = engines
        self._registration = registration
        self._hooks = hooks
        self._apis = registration.apis

    async def call(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> Any:
        """Call a procedure and return its result. Raises what `BusPath.__call__` raises."""
        engine, settings = self._engines.engine, self._config.api(api_name)
        if settings.strict_validation and self._schemas.wants(api_name):
            await self._schemas.learn(api_name, _deadline(settings, api_name, name, options))
        request = self._request(engine, settings, api_name, name, {} if kwargs is None else kwargs, options)
        if "rpc_call" not in self._hooks.registry.subjects or api_name.startswith("internal."):
            try:  # `_ask`, inlined: saves a coroutine for each call
                value = await engine.caller().request(request)
            except InvalidArguments:
                await self._schemas.learn_of_refusal(api_name, request.deadline)
                raise
            return value if api_name not in self._apis.by_name else self._result(request, value)
        message = _message(engine, request)
        with self._hooks.around("around_rpc_call", rpc_message=message):
            return await self._call_with_hooks(engine, request, message)

    def call_blocking(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> Any:
        """Call a procedure from a plain thread. Raises CannotBlockHere inside a running event loop."""
        if asyncio._get_running_loop() is not None:  # checked first: making the texts takes longer than the check
            forbid_in_loop(f"bus.{api_name}.{name}()", f"bus.{api_name}.{name}.call_async()")
        engine, settings = self._engines.engine, self._config.api(api_name)
        if settings.strict_validation and self._schemas.wants(api_name):
            self._schemas.learn_blocking(api_name, _deadline(settings, api_name, name, options))
        request = self._request(engine, settings, api_name, name, {} if kwargs is None else kwargs, options)
        # No hooks run where this library, or one of its tools, calls a worker.
        if "rpc_call" not in self._hooks.registry.subjects or api_name.startswith("internal."):
            value = self._ask_blocking(request)
            return value if api_name not in self._apis.by_name else self._result(request, value)
        message = _message(engine, request)
        with self._hooks.around("around_rpc_call", rpc_message=message):
            return self._call_with_hooks_blocking(request, message)

    async def _call_with_hooks(self, engine: Engine, request: OutboundCall, message: RpcMessage) -> Any:
        await self._hooks.run("before_rpc_call", rpc_message=message)
        self._apply_hook_changes(request, message)
        try:
            value = self._result(request, await self._ask(engine, request))
        except LightbusException as error:
            failure = _error_message(message, error)
            await self._hooks.run("after_rpc_call", rpc_message=message, result_message=failure)
            if not failure.error:
                return failure.result
            raise
        result = _result_message(message, value)
        await self._hooks.run("after_rpc_call", rpc_message=message, result_message=result)
        return result.result

    def _call_with_hooks_blocking(self, request: OutboundCall, message: RpcMessage) -> Any:
        self._hooks.run_blocking("before_rpc_call", rpc_message=message)
        self._apply_hook_changes(request, message)
        try:
            value = self._result(request, self._ask_blocking(request))
        except LightbusException as error:
            failure = _error_message(message, error)
            self._hooks.run_blocking("after_rpc_call", rpc_message=message, result_message=failure)
            if not failure.error:
                return failure.result
            raise
        result = _result_message(message, value)
        self._hooks.run_blocking("after_rpc_call", rpc_message=message, result_message=result)
        return result.result

    async def _ask(self, engine: Engine, request: OutboundCall) -> Any:
        try:
            return await engine.caller().request(request)
        except InvalidArguments:
            await self._schemas.learn_of_refusal(request.api, request.deadline)
            raise

    def _ask_blocking(self, request: OutboundCall) -> Any:
        try:
            return self._engines.channel.request(request)
        except InvalidArguments:
            self._schemas.learn_of_refusal_blocking(request.api, request.deadline)
            raise

    def _apply_hook_changes(self, request: OutboundCall, message: RpcMessage) -> None:
        """Take over the trace context and the arguments that a hook has put into the message of a call."""
        request.trace = trace_sent(message)
        if message.kwargs is request.kwargs:
            return
        request.kwargs = _as_dict(message.kwargs, str(request))
        settings = self._config.api(request.api)
        if settings.validation.outgoing:
            self._validate_call(request.api, request.name, request.kwargs)

    def _request(
        self,
        engine: Engine,
        settings: ApiSettings,
        api_name: str,
        name: str,
        kwargs: Kwargs,
        options: BusOptions | None,
    ) -> OutboundCall:
        if type(kwargs) is not dict:
            kwargs = _as_dict(kwargs, f"{api_name}.{name}")
        if settings.validation.outgoing:
            self._validate_call(api_name, name, kwargs)
        if options is None:
            deadline = Deadline.after(settings.rpc_timeout)
            return OutboundCall(engine, api_name, name, deadline, kwargs, trace=trace_of_execution.get())
        check_options(options, CALL_OPTIONS, f"{api_name}.{name}")
        return OutboundCall(
            engine,
            api_name,
            name,
            _deadline(settings, api_name, name, options),
            kwargs,
            idempotent=bool(options.get("idempotent", False)),
            trace=options.get("trace") or trace_of_execution.get(),
            only=options.get("peer"),
            version=options.get("version"),
        )

    def _validate_call(self, api_name: str, name: str, kwargs: Kwargs) -> None:
        api = self._apis.by_name.get(api_name)
        if api is not None:
            api.get_procedure(name).signature.validate(kwargs)
        elif self._registration.schema.knows(api_name):
            self._registration.schema.validate_parameters(api_name, name, kwargs)
        elif self._schemas.are_known:
            self._schemas.check(api_name, name, kwargs)

    def _result(self, request: OutboundCall, value: Any) -> Any:
        api = self._apis.by_name.get(request.api)
        if api is None or request.api.startswith("internal."):  # `OutboundCall` has checked these answers
            return value
        procedure = api.procedures.get(request.name)
        settings = self._config.api(request.api)
        if procedure is None:
            return value
        if settings.validation.incoming:
            procedure.signature.validate_response(value)
        if not settings.cast_values:
            return value
        return procedure.signature.cast_result(value, strict=settings.strict_validation)


def _deadline(settings: ApiSettings, api_name: str, name: str, options: BusOptions | None) -> Deadline:
    return Deadline.after(timeout_of(options or {}, settings.rpc_timeout, f"{api_name}.{name}"))


def _as_dict(kwargs: Any, what: str) -> Kwargs:
    if not isinstance(kwargs, Mapping):
        raise InvalidParameters(f"The arguments of {what} are {kwargs!r:.100}. They are a dict, by their names.")
    return dict(kwargs)


def _message(engine: Engine, request: OutboundCall) -> RpcMessage:
    return RpcMessage(
        api_name=request.api,
        procedure_name=request.name,
        kwargs=request.kwargs,
        id=engine.event_ids.next(),
        trace=None if request.trace is None else dict(request.trace),
    )


def _result_message(message: RpcMessage, value: Any) -> ResultMessage:
    return ResultMessage(
        result=value,
        rpc_message_id=message.id,
        api_name=message.api_name,
        procedure_name=message.procedure_name,
    )


def _error_message(message: RpcMessage, error: LightbusException) -> ResultMessage:
    return ResultMessage(
        result=error,
        rpc_message_id=message.id,
        api_name=message.api_name,
        procedure_name=message.procedure_name,
        error=True,
        trace=getattr(error, "trace", ""),
    )
