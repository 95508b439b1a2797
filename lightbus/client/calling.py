"""Calling: what a client does around a call, on either door. How the call travels is the runtime's matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..blocking import forbid_in_loop
from ..deadline import LONGEST, Deadline
from ..engine.engine import Engine
from ..exceptions import InvalidParameters, LightbusException, SchemaNotFound, did_you_mean
from ..message import ResultMessage, RpcMessage
from ..rpc.request import OutboundCall
from ..typing import BusOptions, Kwargs
from .engine_holder import ClientCore

__all__ = ["Calls", "check_options", "timeout_of"]

CALL_OPTIONS = ("timeout", "idempotent", "trace", "peer")
_NO_KWARGS: Kwargs = {}


class Calls(ClientCore):
    """The part of the client that calls."""

    async def call_rpc_remote(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> Any:
        """Call a procedure and return its result. Raises what `BusPath.__call__` raises."""
        kwargs = _NO_KWARGS if kwargs is None else kwargs
        engine = self.engine
        outgoing = self._outgoing_call(engine, api_name, name, kwargs, options)
        if not self._runs_hooks(api_name):
            return self._result(outgoing, await engine.caller().request(outgoing))
        message = RpcMessage(api_name=api_name, procedure_name=name, kwargs=kwargs, id=engine.event_ids.next())
        await self.run_hook("before_rpc_call", rpc_message=message)
        try:
            value = self._result(outgoing, await engine.caller().request(outgoing))
        except LightbusException as error:
            await self.run_hook("after_rpc_call", rpc_message=message, result_message=_error_message(message, error))
            raise
        await self.run_hook("after_rpc_call", rpc_message=message, result_message=_result_message(message, value))
        return value

    def call_rpc_blocking(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> Any:
        """Do the same from a plain thread. Raises CannotBlockHere inside a running event loop."""
        forbid_in_loop(f"bus.{api_name}.{name}()", f"bus.{api_name}.{name}.call_async()")
        kwargs = _NO_KWARGS if kwargs is None else kwargs
        engine = self.engine
        outgoing = self._outgoing_call(engine, api_name, name, kwargs, options)
        if not self._runs_hooks(api_name):
            return self._result(outgoing, self._door().request(outgoing))
        message = RpcMessage(api_name=api_name, procedure_name=name, kwargs=kwargs, id=engine.event_ids.next())
        self.run_hook_blocking("before_rpc_call", rpc_message=message)
        try:
            value = self._result(outgoing, self._door().request(outgoing))
        except LightbusException as error:
            failure = _error_message(message, error)
            self.run_hook_blocking("after_rpc_call", rpc_message=message, result_message=failure)
            raise
        self.run_hook_blocking("after_rpc_call", rpc_message=message, result_message=_result_message(message, value))
        return value

    def _runs_hooks(self, api_name: str) -> bool:
        """Return whether a call is to be told to hooks: not where this library, or one of its tools, asks a worker."""
        hooks = self.hooks
        return (hooks.has("before_rpc_call") or hooks.has("after_rpc_call")) and not api_name.startswith("internal.")

    def _outgoing_call(
        self, engine: Engine, api_name: str, name: str, kwargs: Kwargs, options: BusOptions | None
    ) -> OutboundCall:
        settings = self.config.api(api_name)
        if settings.validation.outgoing:
            self._validate_call(api_name, name, kwargs, strict=settings.strict_validation)
        if options is None:
            return OutboundCall(engine, api_name, name, Deadline.after(settings.rpc_timeout), kwargs)
        check_options(options, CALL_OPTIONS, f"{api_name}.{name}")
        return OutboundCall(
            engine,
            api_name,
            name,
            Deadline.after(timeout_of(options, settings.rpc_timeout, f"{api_name}.{name}")),
            kwargs,
            idempotent=bool(options.get("idempotent", False)),
            trace=options.get("trace"),
            only=options.get("peer"),
        )

    def _validate_call(self, api_name: str, name: str, kwargs: Kwargs, *, strict: bool) -> None:
        api = self.api_registry.find(api_name)
        if api is not None:
            api.get_procedure(name).signature.validate(kwargs)
        elif self.schema.knows(api_name):
            self.schema.validate_parameters(api_name, name, kwargs)
        elif strict:
            raise SchemaNotFound(
                f"strict_validation is on for '{api_name}', and no schema of it is registered or loaded here. "
                "Load one (bus.schema.load_local, lightbus run --schema), or turn strict_validation off."
            )

    def _result(self, outgoing: OutboundCall, value: Any) -> Any:
        api = self.api_registry.find(outgoing.api)
        if api is None:
            return value
        procedure = api.procedures.get(outgoing.name)
        settings = self.config.api(outgoing.api)
        if procedure is None:
            return value
        if settings.validation.incoming:
            procedure.signature.validate_response(value)
        return procedure.signature.cast_result(value) if settings.cast_values else value


_OPTION_TYPES: dict[str, type] = {"idempotent": bool, "trace": dict, "peer": str}


def check_options(options: BusOptions, known: Sequence[str], what: str) -> None:
    """Raise InvalidParameters where there is an option that `what` does not have, or that has an impossible value."""
    if not isinstance(options, Mapping):
        raise InvalidParameters(f"bus_options of {what} is {options!r:.100}. It is a dict, as {{'timeout': 3}}.")
    for option, value in options.items():
        if option not in known:
            raise InvalidParameters(
                f"bus_options of {what} has no option '{option}'.{did_you_mean(str(option), known)} "
                f"There are: {', '.join(known)}."
            )
        kind = _OPTION_TYPES.get(option)
        if kind is not None and value is not None and not isinstance(value, kind):
            raise InvalidParameters(
                f"bus_options of {what}: {option} is {value!r:.100}, and has to be of type {kind.__name__}."
            )


def timeout_of(options: BusOptions, default: float, what: str) -> float:
    """Return the seconds that the options give, or else `default`. Raises InvalidParameters where they are none."""
    timeout = options.get("timeout")
    if timeout is None:
        return default
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidParameters(
            f"bus_options of {what}: timeout is {timeout!r:.100}. It is a positive number of seconds."
        )
    return float(min(timeout, LONGEST))


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
