"""Reads JSON bodies strictly and reports all faults at once.

msgspec decodes a body directly into its Struct. Only if that fails is the body decoded again, to collect all faults.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cached_property, lru_cache
from typing import Annotated, Any, Generic
from uuid import UUID

import msgspec
from litestar import Request
from litestar.params import HeaderParameter, PathParameter
from litestar.types import Empty

from service.callers import Caller
from service.errors import BadRequest, TooLarge, Unprocessable, UnsupportedMediaType
from service.limits.rate_limits import WRITTEN_BYTES
from service.validation import MAX_DEPTH, convert, reported, valid_members
from service.web.query import Q, query_of, read_query
from service.web.read_rows import convert_read, may_be_read

# Matches an unterminated string, too, so that no input is slow
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_TOO_DEEP = b"[" * (MAX_DEPTH + 1)
_ALL_ELSE = bytes(set(range(256)) - set(b"[]{}"))

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
FORM = "multipart/form-data"
MAX_PARTS = 200  # of a form
MAX_JSON = 1024 * 1024  # bytes of a JSON body
MAX_VALUES = 20_000  # of a JSON body: decoding takes up to 5 ms then, and a thread would not help, as it holds the GIL
UNCOUNTED = 4 * 1024  # bytes; a shorter body counts as a request only
LARGE = 16 * 1024  # bytes; a longer body is read in a thread, because collecting its faults takes longer than 5 ms

_NUL = re.compile(rb"\\u0000")
_BYTE = re.compile(r"\(byte (\d+)\)")  # in the text of a msgspec.DecodeError


Current = Callable[[Request[Any, Any, Any]], Awaitable[Any]]  # returns a row of (id, version, item)
Prepare = Callable[[Request[Any, Any, Any]], Awaitable[Any]]
CheckCaller = Callable[[Request[Any, Any, Any]], Awaitable[Any]]  # raises NotFound or Forbidden


def check_of(check: Callable[[Caller, UUID], Awaitable[Any]], parameter: str) -> CheckCaller:
    """``check`` with the caller and the id that the path has as ``parameter``."""
    return lambda request: check(request.user, request.path_params[parameter])


_FAULTS_OF_BODY = (BadRequest, TooLarge, UnsupportedMediaType, Unprocessable)


class StrictRequest(Request[Caller, Any, Any], Generic[Q]):
    """Reads the query string as a ``Q``, and a JSON body as the Struct of the handler's ``data``. A problem names every
    fault of either. ``or_form`` of a route is its ``data`` if the body is a form, which its ``prepare`` reads. Before a
    body is refused, ``check_caller`` of the route refuses callers who may not do this with any body."""

    @cached_property
    def parameters(self) -> Q:
        """The query parameters. Raises BadRequest with every fault."""
        parameters: Any = read_query(self.scope["query_string"], query_of(self.route_handler))
        return parameters  # type: ignore[no-any-return] # query_of finds the Q of the handler's own signature

    async def body(self) -> bytes:
        body = await super().body()
        if not body and (field := self.route_handler.parsed_data_field) and not field.is_optional:
            async with refused_callers_first(self):
                raise BadRequest.missing_body()
        return body

    async def json(self) -> Any:
        if self._json is Empty:
            async with refused_callers_first(self):
                self._json = await self._read_body()
        return self._json

    async def _read_body(self) -> Any:
        field = self.route_handler.parsed_data_field
        wanted = field.annotation if field else Any
        if field and field.is_optional:
            if not await self.body():
                return None
            wanted = field.inner_types[0].annotation  # null is no body
        media_type, options = self.content_type
        if media_type == FORM and "or_form" in self.route_handler.opt:
            return self.route_handler.opt["or_form"]
        self._check_media_type(media_type, options)
        body = await self.body()
        if len(body) > MAX_JSON:
            raise TooLarge.over(MAX_JSON)
        if len(body) > UNCOUNTED:
            key = WRITTEN_BYTES.key(self.scope)
            WRITTEN_BYTES.check(*await WRITTEN_BYTES.counter.count(key, len(body)))
        try:
            if len(body) > LARGE:
                return await asyncio.to_thread(read_json, body, wanted)
            return read_json(body, wanted)
        except Unprocessable as error:
            return await self._read_row(body, wanted, error)

    def _check_media_type(self, media_type: str, options: dict[str, str]) -> None:
        """Other kinds of JSON mean something else: a JSON Patch is no row. Raises UnsupportedMediaType."""
        accepted = (JSON, MERGE_PATCH) if self.method == "PATCH" else (JSON,)
        charset = options.get("charset", "utf-8").lower()
        if media_type in accepted and options.keys() <= {"charset"} and charset in ("utf-8", "utf8"):
            return
        types = " or ".join(f"'{name}'" for name in accepted)
        form = f", or a form ({FORM})" if "or_form" in self.route_handler.opt else ""
        headers = {"Accept-Patch": ", ".join(accepted)} if self.method == "PATCH" else {}
        raise UnsupportedMediaType.of(f"The body must be JSON in UTF-8, with the Content-Type {types}{form}.", headers)

    async def _read_row(self, body: bytes, wanted: Any, error: Unprocessable) -> Any:
        """Accepts the body after all if it is the route's ``current`` row, with changes. Else raises ``error``."""
        current: Current | None = self.route_handler.opt.get("current")
        try:
            if current is None or not may_be_read(error):
                raise error
            plain, row = msgspec.json.decode(body), await current(self)
            return await asyncio.to_thread(convert_read, plain, row, wanted, self.headers.get("if-match"))
        except Unprocessable as fault:
            raise await self._with_further_faults(fault, wanted) from None

    async def _with_further_faults(self, error: Unprocessable, wanted: Any) -> Unprocessable:
        """Adds the faults that the route's own checks find in the valid members, so that a client sees all at once."""
        look_further = self.route_handler.opt.get("look_further")
        if look_further is None or not error.errors:
            return error
        sound = valid_members(msgspec.json.decode(await self.body()), wanted)
        known = {fault.pointer for fault in error.errors}
        further = [fault for fault in await look_further(self, sound) if fault.pointer not in known]
        return Unprocessable.of(reported([*error.errors, *further]))


@asynccontextmanager
async def refused_callers_first(request: Request[Any, Any, Any]) -> AsyncGenerator[None, None]:
    """If the block refuses the body, the route's ``check_caller`` runs first, and may refuse the caller instead. A
    valid body does without it, because it costs a query."""
    try:
        yield
    except _FAULTS_OF_BODY:
        check_caller: CheckCaller | None = request.route_handler.opt.get("check_caller")
        if check_caller is not None:
            await check_caller(request)
        raise


async def prepared(request: Request[Any, Any, Any]) -> Any:
    """The result of the route's ``prepare``, which does the slow work of a request, such as decoding a picture.

    It runs once: for a dry run or an idempotent write before the transaction begins, else when the handler asks.
    """
    state = request.scope["state"]
    if "prepared" not in state:
        prepare: Prepare = request.route_handler.opt["prepare"]
        async with refused_callers_first(request):
            state["prepared"] = await prepare(request)
    return state["prepared"]


def is_dry_run(request: Request[Any, Any, Any]) -> bool:
    """Whether the request asks for a dry run. ``known_parameters`` refuses it where a route has none."""
    return bool(request.scope["query_string"]) and request.query_params.get("dry_run") == "true"


def read_json(body: bytes, wanted: Any) -> Any:
    """``body`` as a ``wanted``. Raises BadRequest if it is not JSON, Unprocessable with all its faults."""
    try:
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_too_deep(body):
            raise BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
        if _separators(body) > MAX_VALUES and _separators(_STRING.sub(b"", body)) > MAX_VALUES:
            raise BadRequest(f"The body holds more than {MAX_VALUES:,} values.")
        with suppress(msgspec.ValidationError):
            if not _NUL.search(body):
                return _decoder(wanted).decode(body)
        plain = msgspec.json.decode(body)
    except msgspec.ValidationError as error:
        raise Unprocessable("A number in the body is out of range.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON (UTF-8): {_place(body, error)}.") from error
    return convert(plain, wanted, _NUL.search(body) is not None)


def _place(body: bytes, error: Exception) -> str:
    """The line and the column, in characters and from 1, at which ``body`` stops being JSON in UTF-8."""
    try:
        body.decode()
        found = _BYTE.search(str(error))
        at = int(found[1]) if found else len(body)  # without a number, the body ends too early
    except UnicodeDecodeError as invalid:
        at = invalid.start
    lines = body[:at].decode(errors="replace").split("\n")
    return f"line {len(lines)}, column {len(lines[-1]) + 1}"


@lru_cache(maxsize=256)
def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted)


def _separators(body: bytes) -> int:
    """At least the number of values, unless they are within strings."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _is_too_deep(body: bytes) -> bool:
    """Whether lists and objects are nested deeper than MAX_DEPTH. Works on whole byte strings, without a loop over
    characters: a body may consist of brackets only."""
    brackets = _STRING.sub(b"", body).translate(_BRACKETS, _ALL_ELSE)
    if _TOO_DEEP in brackets:
        return True
    for _ in range(MAX_DEPTH):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            return False  # no pair is left, or the body is not JSON
        brackets = outer
    return bool(brackets)


IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="The ETag that was read. If the resource has changed since, the response is 412.",
        schema_extra={"pattern": r'^(\*|(W/)?"[!#-+.-~-]*"( *, *(W/)?"[!#-+.-~-]*")*)$'},
    ),
]

Number = Annotated[int, PathParameter(ge=1, le=2**31 - 1)]  # of a version or a revision
