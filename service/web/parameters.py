"""The faults of headers and of parameters in the path. service/web/guards.py reports them with those of the query."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
from litestar.handlers import BaseRouteHandler
from litestar.params import PathParameter

from service.errors import Violation
from service.etags import if_match_fault
from service.parameters import CURSOR_LENGTH, NO_CURSOR, is_cursor
from service.validation import sentence
from service.web.middleware.headers import request_header

_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")


def header_violations(scope: Any, handler: BaseRouteHandler) -> Iterator[Violation]:
    """A route ignores a header that it does not take, except an Idempotency-Key: a client that sends one relies on
    it."""
    taken = _headers_of(handler)
    for name, fault_of in _HEADERS.items():
        if (value := request_header(scope, name.lower().encode())) is None:
            continue
        if name in taken:
            if fault := fault_of(value.decode("latin-1")):
                yield Violation(fault, header=name)
        elif name == "Idempotency-Key":
            yield Violation("Is not supported by this operation.", header=name)


def path_violations(parameters: Mapping[str, Any], handler: BaseRouteHandler) -> Iterator[Violation]:
    for name, wanted in _bounded(handler).items():
        try:
            msgspec.convert(parameters[name], wanted)
        except msgspec.ValidationError as error:
            yield Violation(sentence(str(error)), parameter=name)


@cache
def _headers_of(handler: BaseRouteHandler) -> set[str]:
    arguments = handler.parsed_fn_signature.parameters.values()
    named = {getattr(argument.kwarg_definition, "name", None) for argument in arguments}
    taken = {name for name in _HEADERS if name in named}
    return taken | {"Idempotency-Key"} if handler.opt.get("idempotent") else taken


@cache
def _bounded(handler: BaseRouteHandler) -> dict[str, Any]:
    """The numbers in the path, which are all that has bounds there, with their types."""
    arguments = handler.parsed_fn_signature.parameters
    return {
        field.name: field.type
        for field in msgspec.structs.fields(handler.signature_model)
        if isinstance(place := arguments[field.name].kwarg_definition, PathParameter) and place.ge is not None
    }


def _key_fault(key: str) -> str | None:
    return None if _IDEMPOTENCY_KEY.fullmatch(key) else "Must be 1 to 255 visible ASCII characters."


def _event_id_fault(event_id: str) -> str | None:
    if len(event_id) > CURSOR_LENGTH:
        return f"Must be at most {CURSOR_LENGTH:,} characters."
    return NO_CURSOR if event_id and not is_cursor(event_id) else None


_HEADERS: dict[str, Callable[[str], str | None]] = {
    "Idempotency-Key": _key_fault,
    "If-Match": if_match_fault,
    "Last-Event-ID": _event_id_fault,
}
