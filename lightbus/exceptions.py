"""Every error Lightbus raises, grouped by what the reader can do about it.

    LightbusException
    ├── UsageError                         fix the program or its settings
    │   ├── InvalidConfiguration           a setting has a wrong value
    │   │   └── UnexpectedConfigurationFormat   the file is not a mapping of settings
    │   ├── FailedToImportBusModule        `lightbus run` could not import the bus module
    │   ├── NoBusFoundInBusModule          ... or found no bus in it
    │   ├── UnsupportedUse                 this cannot be done here, or not in this order
    │   │   ├── CannotBlockHere            a blocking call inside a running event loop
    │   │   ├── BusAlreadyClosed           the client was closed before
    │   │   ├── ListenersAlreadyStarted    kept for programs that catch it; never raised
    │   │   └── LightbusServerMustStartInMainThread   signals need the main thread
    │   └── InvalidDeclaration             fix the Api class or the listener
    │       ├── MisconfiguredApiOptions, InvalidApiRegistryEntry, InvalidApiEventConfiguration
    │       ├── InvalidName, InvalidSchedule, InvalidEventListener, DuplicateListenerName
    │       └── NothingToListenFor
    ├── SchemaError                        the schema is missing or wrong
    │   ├── InvalidSchema
    │   └── SchemaNotFound
    ├── InvalidArguments                   the arguments of a call or an event are wrong
    │   ├── InvalidParameters              a procedure's
    │   ├── InvalidEventArguments          an event's
    │   ├── ValidationError                they (or the result) do not satisfy the schema
    │   ├── DeformError                    a value cannot be put on the wire
    │   └── PayloadTooLarge                the message is over the size limit
    ├── NotReachable                       no peer can do it; nothing was done
    │   ├── UnknownApi                     no peer advertises the API (a LightbusTimeout, too)
    │   ├── UnknownProcedure               the API has no such procedure
    │   ├── EventNotFound                  the API has no such event
    │   ├── UnknownListener                no publisher knows the consumer group
    │   ├── PeerUnreachable                the API is advertised, but no peer answers (likewise)
    │   ├── PeerRefused                    the peer refuses our key or our bus, or is another instance
    │   └── PeerBusy                       the request queue of every peer is full
    ├── LightbusTimeout                    the deadline passed; it may or may not have been done
    ├── PeerLost                           the peer went away while doing it; likewise
    ├── LightbusWorkerError                the remote handler raised
    ├── ProtocolError                      a peer sent something that is not a message of the protocol
    ├── JournalError                       events cannot be stored on or read from the disk; nothing was accepted
    │   └── EventBackendError              the event backend chosen by apis.<name>.events does not work
    │       └── EventBackendUnreachable    it cannot be reached at the moment, or did not report the outcome
    └── LightbusShutdownInProgress, TransportError ...   the bus itself is in trouble

An error that crosses the wire carries its class's `code`, from which the receiving side makes an error of the same
class (`wire.error_codes`). `exit_code` is the exit code of the command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from .old_names import name_today

__all__ = [
    "BusAlreadyClosed",
    "CannotBlockHere",
    "DeformError",
    "DuplicateListenerName",
    "EventBackendError",
    "EventBackendUnreachable",
    "EventNotFound",
    "FailedToImportBusModule",
    "InvalidApiEventConfiguration",
    "InvalidApiRegistryEntry",
    "InvalidArguments",
    "InvalidConfiguration",
    "InvalidDeclaration",
    "InvalidEventArguments",
    "InvalidEventListener",
    "InvalidName",
    "InvalidParameters",
    "InvalidSchedule",
    "InvalidSchema",
    "JournalError",
    "LightbusException",
    "LightbusServerMustStartInMainThread",
    "LightbusShutdownInProgress",
    "LightbusTimeout",
    "LightbusWorkerError",
    "ListenersAlreadyStarted",
    "MisconfiguredApiOptions",
    "NoBusFoundInBusModule",
    "NotReachable",
    "NothingToListenFor",
    "PayloadTooLarge",
    "PeerBusy",
    "PeerLost",
    "PeerRefused",
    "PeerUnreachable",
    "ProtocolError",
    "SchemaError",
    "SchemaNotFound",
    "TransportError",
    "UnexpectedConfigurationFormat",
    "UnknownApi",
    "UnknownListener",
    "UnknownProcedure",
    "UnsupportedUse",
    "UsageError",
    "ValidationError",
    "did_you_mean",
]


class LightbusException(Exception):
    """The base class: `except LightbusException` catches everything Lightbus raises on purpose."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    peer: str = ""
    """The peer whose answer or schema caused it, `"auth-service 4f2a… on host web-1"`; empty if raised locally."""


class UsageError(LightbusException):
    """The program or its settings must change; trying again will not help."""

    code = "usage"
    exit_code = 2


class InvalidConfiguration(UsageError):
    """A setting has a value that cannot be used. The message names the setting and where it came from."""

    code = "invalid_configuration"


class UnexpectedConfigurationFormat(InvalidConfiguration):
    """The configuration file was read, but is not a mapping of settings."""

    code = "unexpected_configuration_format"


class FailedToImportBusModule(UsageError):
    """The bus module could not be imported. The cause is chained (`__cause__`)."""

    code = "failed_to_import_bus_module"
    exit_code = 1


class NoBusFoundInBusModule(UsageError):
    """The bus module was imported, but no `lightbus.create()` result was found in it."""

    code = "no_bus_found_in_bus_module"
    exit_code = 1


class UnsupportedUse(UsageError):
    """The operation is not possible here, or not in this order."""

    code = "unsupported_use"


class CannotBlockHere(UnsupportedUse):
    """A blocking call was made inside a running event loop, which would stop that loop."""

    code = "cannot_block_here"


class BusAlreadyClosed(UnsupportedUse):
    """The client was closed; create a new one."""

    code = "bus_already_closed"


class ListenersAlreadyStarted(UnsupportedUse):
    """Raised by Lightbus 1.x on listening after the start. Listening later works here, so it is never raised."""

    code = "listeners_already_started"


class LightbusServerMustStartInMainThread(UnsupportedUse):
    """`run_forever` handles signals, and Python delivers those to the main thread only."""

    code = "must_start_in_main_thread"


class InvalidDeclaration(UsageError):
    """An Api class, an event or a listener is declared in a way that cannot work."""

    code = "invalid_declaration"


class MisconfiguredApiOptions(InvalidDeclaration):
    """The `Meta` class of an Api is missing, or lacks something."""

    code = "misconfigured_api_options"


class InvalidApiRegistryEntry(InvalidDeclaration):
    """Something that is no Api instance was registered (often: the class itself)."""

    code = "invalid_api_registry_entry"


class InvalidApiEventConfiguration(InvalidDeclaration):
    """An `Event` attribute of an Api is declared wrongly."""

    code = "invalid_api_event_configuration"


class InvalidName(InvalidDeclaration):
    """A name of an Api, a procedure, an event or a listener cannot be used."""

    code = "invalid_name"


class InvalidSchedule(InvalidDeclaration):
    """`every()` or `schedule()` was given no usable interval."""

    code = "invalid_schedule"


class InvalidEventListener(InvalidDeclaration):
    """The listener is not callable, or cannot take the arguments of the event."""

    code = "invalid_event_listener"


class DuplicateListenerName(InvalidDeclaration):
    """Two listeners of one API have the same name, so they would be one consumer group."""

    code = "duplicate_listener_name"


class NothingToListenFor(InvalidDeclaration):
    """`listen_for_events` was given no event."""

    code = "nothing_to_listen_for"


class SchemaError(LightbusException):
    """A schema is missing or cannot be used."""

    code = "schema"


class InvalidSchema(SchemaError):
    """A schema is not valid JSON Schema, or not of the form `dumpschema` writes."""

    code = "invalid_schema"


class SchemaNotFound(SchemaError):
    """No schema is known for this API, procedure or event."""

    code = "schema_not_found"


class InvalidArguments(LightbusException):
    """The arguments of a call or an event are wrong; nothing was executed."""

    code = "invalid_arguments"
    exit_code = 2


class InvalidParameters(InvalidArguments):
    """The arguments of a procedure are wrong: unknown, missing or given by position."""

    code = "invalid_parameters"


class InvalidEventArguments(InvalidArguments):
    """The arguments of an event are wrong: unknown, missing or given by position."""

    code = "invalid_event_arguments"


class ValidationError(InvalidParameters, InvalidEventArguments):
    """A value does not satisfy its schema. It is an InvalidParameters and an InvalidEventArguments at once."""

    code = "validation_error"


class DeformError(InvalidArguments):
    """A value of this type cannot be put on the wire."""

    code = "deform_error"


class PayloadTooLarge(InvalidArguments):
    """The encoded message is larger than `network.max_message_size` allows."""

    code = "payload_too_large"


class NotReachable(LightbusException):
    """No peer can do it. Nothing was executed, so trying again is safe."""

    code = "not_reachable"
    exit_code = 3


class LightbusTimeout(LightbusException, TimeoutError):
    """The deadline passed. A call may or may not have been executed."""

    code = "timeout"
    exit_code = 4


class UnknownApi(NotReachable, LightbusTimeout):
    """No peer advertises this API; the message lists the advertised APIs and near names. In 1.x: a timeout."""

    code = "unknown_api"


class UnknownProcedure(NotReachable):
    """The API exists, but has no such procedure (nor event)."""

    code = "unknown_procedure"


class EventNotFound(NotReachable):
    """The API exists, but has no such event."""

    code = "event_not_found"


class UnknownListener(NotReachable):
    """No publisher of the API knows a consumer group of this name."""

    code = "unknown_listener"


class PeerUnreachable(NotReachable, LightbusTimeout):
    """The API is advertised, but no peer that advertises it answers. Like UnknownApi, also a LightbusTimeout."""

    code = "peer_unreachable"


class PeerRefused(NotReachable):
    """The peer refuses this process: another key, another bus, or the peer is not the requested instance."""

    code = "peer_refused"


class PeerBusy(NotReachable):
    """Every peer of the API has a full request queue, or is shutting down."""

    code = "peer_busy"


class PeerLost(LightbusException):
    """The peer went away while it may have been executing the call. Lightbus does not repeat the call."""

    code = "peer_lost"
    exit_code = 4


class LightbusWorkerError(LightbusException):
    """
    The remote handler raised an exception.

    Attributes:
        remote_type: qualified name of the exception's class, `"builtins.ValueError"`.
        remote_args: the exception's `args`; a value that could not be encoded is replaced by its `repr`.
        trace: the remote traceback as text.
        peer: the peer that executed it, `"auth-service 4f2a… on host web-1"`.

    """

    code = "worker_error"
    exit_code = 5

    def __init__(
        self, message: str, *, remote_type: str = "", remote_args: Sequence[Any] = (), trace: str = "", peer: str = ""
    ) -> None:
        super().__init__(message)
        self.remote_type = remote_type
        self.remote_args = tuple(remote_args)
        self.trace = trace
        self.peer = peer

    def __str__(self) -> str:
        message = super().__str__()
        if not self.trace:
            return message
        return f"{message}\n\nTraceback of the peer {self.peer or 'that executed it'}:\n\n{self.trace}"


class ProtocolError(LightbusException):
    """A peer (or an unknown sender) sent bytes that are not a message of this protocol."""

    code = "protocol_error"


class TransportError(LightbusException):
    """A socket could not be opened, bound or written to. The message names the endpoint and the remedy."""

    code = "transport_error"


class JournalError(LightbusException):
    """A journal or the outbox cannot be opened, read or written. The message names the file and what to do."""

    code = "journal_error"
    exit_code = 6


class EventBackendError(JournalError):
    """
    The event backend that `apis.<name>.events` names cannot store or deliver events at the moment.

    The message names the backend and what to do.
    """

    code = "event_backend_error"


class EventBackendUnreachable(EventBackendError):
    """The event backend cannot be reached, or did not report the outcome: `.fire()` puts the event into the outbox."""

    code = "event_backend_unreachable"


class LightbusShutdownInProgress(LightbusException):
    """The bus is closing; pending requests will not get an answer."""

    code = "shutdown_in_progress"


MAX_NAME = 300
"""The longest name for which near names are searched, in characters: the time grows with the square of the length."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'auth'?"` for near names of `name` among `known`, or an empty string."""
    import difflib  # here: only error paths pay for the import

    if len(name) > MAX_NAME:
        return ""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return " Did you mean " + " or ".join(f"'{candidate}'" for candidate in near) + "?" if near else ""


if not TYPE_CHECKING:  # with it, a type checker would accept any name

    def __getattr__(name: str) -> Any:
        return globals()[name_today(name)]
