"""Checks every JSON response of the app against the type that its route declares, and every problem document.

Unknown fields and missing fields both fail. With ``fields``, an item has exactly these fields and ``id``. With
``expand``, the named fields may have any value.
"""

import re
import types
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Union, get_args, get_origin

import httpx
import msgspec
from litestar.handlers.http_handlers import HTTPRouteHandler
from msgspec import UNSET, UnsetType

from service.parameters import FieldsQuery
from service.web.query import query_of

OF_A_LIBRARY = re.compile(
    r"Expected `|\[Errno|Traceback|<class |object at 0x|codec can't|\(byte \d+\)|\(char \d+\)"
    r"|Input data was truncated|JSON is malformed|RFC3339|enum value|matching regex"
    r"|truncated file|cannot identify image|not a zip file|Bad magic number"
    r"|violates \w+ constraint|syntax at or near|invalid input (syntax|for query)|out of int(32|64) range"
    r"|Validation failed for"
)  # texts of msgspec, Litestar, Pillow, zipfile, asyncpg, PostgreSQL, json and the operating system


class CheckingTransport(httpx.ASGITransport):
    """Raises AssertionError when ``check_answer`` or ``check_problem`` does."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        scope: Any = {}

        async def remember(of_request: Any, receive: Any, send: Any) -> None:
            nonlocal scope
            scope = of_request
            await self.app(of_request, receive, send)

        response = await httpx.ASGITransport(
            remember, raise_app_exceptions=self.raise_app_exceptions, client=self.client
        ).handle_async_request(request)
        handler = scope.get("route_handler")
        media_type = response.headers.get("content-type", "").partition(";")[0]
        if media_type == "application/problem+json":
            check_problem(await _content(response))
        elif (
            response.is_success
            and media_type == "application/json"
            and request.method != "HEAD"
            and isinstance(handler, HTTPRouteHandler)
        ):
            check_answer(handler, request.url.params, await _content(response))
        return response


async def _content(response: httpx.Response) -> bytes:
    """Decompressed. The client can still read the response."""
    sent = b"".join([chunk async for chunk in response.stream])
    response.stream = httpx.ByteStream(sent)
    return httpx.Response(response.status_code, headers=response.headers, content=sent).content


def check_problem(content: bytes) -> None:
    """Raises AssertionError if a problem contains a text of a library, or is a 409 or a 412 without ``errors``."""
    if content:  # not the answer to a HEAD
        _check_problem(msgspec.json.decode(content))


def _check_problem(problem: Any) -> None:
    assert problem["status"] not in (409, 412) or problem.get("errors"), f"no errors: {problem['detail']}"
    for text in (problem["detail"], *(error["detail"] for error in problem.get("errors", ()))):
        assert not OF_A_LIBRARY.search(text), f"the text of a library: {text}"


def check_answer(handler: HTTPRouteHandler, query: httpx.QueryParams, content: bytes) -> None:
    """Raises AssertionError unless ``content`` is what the route declares."""
    is_shaped = issubclass(query_of(handler), FieldsQuery)
    names = {name: _names(query, name) for name in ("fields", "expand") if is_shaped and name in query}
    try:
        _decoder(handler, names.get("fields"), names.get("expand", frozenset())).decode(content)
    except msgspec.ValidationError as error:
        raise AssertionError(f"{handler} does not answer a {declared_by(handler)}: {error}") from None
    for outcome in _outcomes(content) if b'"problem":' in content else ():
        if "problem" in outcome:
            _check_problem(outcome["problem"])


def _outcomes(content: bytes) -> list[Any]:
    """The items of a bulk request or an import."""
    answer = msgspec.json.decode(content)
    return [item for item in answer.get("items", ()) if isinstance(item, dict)] if isinstance(answer, dict) else []


def declared_by(handler: HTTPRouteHandler) -> Any:
    """``T`` of a handler that returns ``T``, ``Rendered[T]`` or ``Response[T]``."""
    returned = handler.parsed_fn_signature.return_type
    is_wrapped = returned.inner_types and not _is_struct(returned.annotation)
    return returned.inner_types[0].annotation if is_wrapped else returned.annotation


def _names(query: httpx.QueryParams, parameter: str) -> frozenset[str]:
    return frozenset(name.strip(' "') for name in ",".join(query.get_list(parameter)).split(","))


@cache
def _decoder(
    handler: HTTPRouteHandler, chosen: frozenset[str] | None, expanded: frozenset[str]
) -> msgspec.json.Decoder[Any]:
    declared = declared_by(handler)
    if not _is_struct(declared):
        return msgspec.json.Decoder()
    items = next((field.type for field in msgspec.structs.fields(declared) if field.name == "items"), None)
    if items is None:
        return msgspec.json.Decoder(_strict_struct(declared, chosen, dict.fromkeys(expanded, Any)))
    (item,) = get_args(items)
    rows = list[_strict_struct(item, chosen, dict.fromkeys(expanded, Any))]
    return msgspec.json.Decoder(_strict_struct(declared, replaced={"items": rows}))


def _strict(kind: Any) -> Any:
    """As ``kind``, but each Struct in it requires all its fields and accepts no others."""
    if _is_struct(kind):
        return _strict_struct(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[(_strict(arguments[0]), *arguments[1:])]
    if origin in (Union, types.UnionType):
        return Union[tuple(_strict(each) for each in arguments)]  # noqa: UP007 (the types are known at run time only)
    if origin in (list, dict, tuple):
        return origin[tuple(_strict(each) for each in arguments)]
    return kind


def _strict_struct(
    kind: Any, chosen: frozenset[str] | None = None, replaced: Mapping[str, Any] = MappingProxyType({})
) -> Any:
    """``chosen``: only these fields, and ``id``. ``replaced`` has types for some fields."""
    fields: list[Any] = []
    may_omit = (get_origin(kind) or kind).__struct_config__.omit_defaults
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        wanted = replaced.get(name, None) or _strict(field.type)
        has_default = (field.default, field.default_factory) != (msgspec.NODEFAULT, msgspec.NODEFAULT)
        if chosen is not None and name not in {"id", *chosen, *replaced}:
            continue
        if UnsetType in get_args(field.type) or (may_omit and has_default):
            fields.append((field.name, Union[wanted, UnsetType], msgspec.field(name=name, default=UNSET)))  # noqa: UP007 (as above)
        else:
            fields.append((field.name, wanted, msgspec.field(name=name)))
    of_the_whole = {*(chosen or ()), *replaced} - {field.encode_name for field in msgspec.structs.fields(kind)}
    fields += [(name, Any) for name in sorted(of_the_whole)]  # a query may name fields that summaries lack
    struct_name = (get_origin(kind) or kind).__name__
    return msgspec.defstruct(struct_name, fields, kw_only=True, forbid_unknown_fields=True)


def _is_struct(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, msgspec.Struct)
