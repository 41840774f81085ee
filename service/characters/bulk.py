"""Many operations on characters in one request, each as in a request of its own."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request
from litestar.params import JSONBody
from msgspec import UNSET, Meta, UnsetType

from service.callers import Caller
from service.characters.locks import lock_many
from service.characters.queries import create_character, delete_character, get_character, update_character
from service.characters.schemas import CharacterCreate, CharacterRead, CharacterUpdate
from service.characters.store import check_own
from service.database.engine import DB, Transaction
from service.database.failures import to_service_error
from service.errors import (
    FailedDependency,
    NotFound,
    PreconditionFailed,
    Problem,
    ServiceError,
    TooLarge,
    Unprocessable,
    Violation,
)
from service.etags import etag
from service.inputs import Input, OrDefault
from service.schemas import VersionNumber
from service.validation import convert, pointer
from service.web.guards import WRITE_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import spend
from service.web.read_rows import convert_read, may_be_read
from service.web.responses import Rendered
from service.web.routes import post

MOST_OPERATIONS = 100
MAX_ANSWERED = 16 * 1024 * 1024  # bytes of the characters in one response; a short update may answer a large character


class Operation(Input, kw_only=True):
    """A change of one character: `create` needs `body`, `update` needs `id` and `body`, `delete` needs `id`."""

    action: Literal["create", "update", "delete"]
    id: UUID | None = None
    version: (
        Annotated[
            VersionNumber,
            Meta(description="The version that was read. The operation fails if the character has changed since."),
        ]
        | None
    ) = None
    body: (
        Annotated[dict[str, Any], Meta(title="Body", description="A CharacterCreate or a CharacterUpdate.")] | None
    ) = None


class Bulk(Input, kw_only=True):
    """Up to 100 operations, run in order. If `atomic` is true, all of them take effect or none."""

    operations: Annotated[list[Operation], Meta(min_length=1, max_length=MOST_OPERATIONS)]
    atomic: OrDefault[bool] = False


class Outcome(msgspec.Struct, kw_only=True):
    """The response that a single request would get: 201 or 200 with the character, 204, or a problem. The pointers of a
    problem refer to the operation's `body`. Only those of an unknown `id` and of a stale `version` refer to the
    request, as in `/operations/3/id` and `/operations/3/version`."""

    status: int
    character: CharacterRead | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class Outcomes(msgspec.Struct, kw_only=True):
    """One result for each operation, in the same order."""

    items: list[Outcome]


_LARGE_ANSWER = (
    f"The characters of the response would have more than {MAX_ANSWERED // 1024**2} MiB together. Nothing was changed."
    " Send fewer operations in one request."
)
_STALE = "The character has changed since that version. Read it again, then repeat the change."
_NEEDED = {"create": {"body"}, "update": {"id", "body"}, "delete": {"id"}}
_FOREIGN = {"create": {"id", "version"}, "update": set[str](), "delete": {"body"}}


async def change_characters(user: Caller, operations: Sequence[Operation], *, atomic: bool) -> list[Any]:
    """For each operation, the row that it wrote, None for a deletion, or its ServiceError. A failed operation has no
    effect.

    If ``atomic`` and an operation fails, none has an effect; the others have FailedDependency. Raises Unprocessable if
    an operation lacks a member or has one too many, TooLarge if the rows have more than MAX_ANSWERED bytes; then none
    has an effect either.
    """
    if faults := [fault for index, each in enumerate(operations) for fault in _violations(each, index)]:
        raise Unprocessable.of(faults)
    ids = {each.id for each in operations if each.id is not None}
    renamed = {
        each.id
        for each in operations
        if each.id is not None and (each.action == "delete" or "name" in (each.body or {}))
    }
    async with DB.transaction() as transaction:
        await lock_many(user.id, ids, renamed)
        beginning = await transaction.savepoint()
        results, size = [], 0
        for index, operation in enumerate(operations):
            result = await _attempt(transaction, user, operation, index)
            if not isinstance(result, ServiceError | None):
                size += len(result["item"].encode())
            if size > MAX_ANSWERED:
                raise TooLarge(_LARGE_ANSWER)
            results.append(result)
        if atomic and any(isinstance(result, ServiceError) for result in results):
            await beginning.rollback_to()
            return [result if isinstance(result, ServiceError) else FailedDependency() for result in results]
        return results


async def _attempt(transaction: Transaction, user: Caller, operation: Operation, index: int) -> Any:
    try:
        async with transaction.connection.transaction():  # a savepoint
            return await _run(user, operation)
    except Exception as error:
        problem = to_service_error(error)
        if problem.status >= 500:  # not the fault of this operation: the others would fail, too
            raise
        at = f"/operations/{index}"
        if isinstance(problem, NotFound) and not problem.errors:  # others name what is not found
            fault = Violation("Does not exist, or the caller may not see it.", pointer=pointer(at, "id"))
            return NotFound(problem.detail, errors=[fault])
        if isinstance(problem, PreconditionFailed):  # a single request has the version in a header
            faults = [Violation(fault.detail, pointer=pointer(at, "version")) for fault in problem.errors]
            return PreconditionFailed(_STALE, errors=faults)
        return problem


async def _run(user: Caller, operation: Operation) -> Any:
    if operation.action == "create":
        return await create_character(user, convert(operation.body, CharacterCreate))
    character_id: Any = operation.id  # never None here
    if_match = None if operation.version is None else etag(character_id, operation.version)
    if operation.action == "update":
        data = await _changes(user, character_id, operation.body, if_match)
        return await update_character(user, character_id, data, if_match)
    return await delete_character(user, character_id, if_match)


async def _changes(user: Caller, character_id: UUID, body: Any, if_match: str | None) -> CharacterUpdate:
    """The body of an update, which may be a character that was read. As in a single request, a caller who may not
    change the character is refused before the body is."""
    try:
        return convert(body, CharacterUpdate)
    except Unprocessable as error:
        await check_own(user, character_id)
        if not may_be_read(error):
            raise
    row = await get_character(user, character_id)
    return convert_read(body, row, CharacterUpdate, if_match)


def _violations(operation: Operation, index: int) -> Iterator[Violation]:
    at = f"/operations/{index}"
    for name in ("id", "version", "body"):
        given = getattr(operation, name) is not None
        if name in _NEEDED[operation.action] and not given:
            yield Violation("Is required.", pointer=pointer(at, name))
        elif name in _FOREIGN[operation.action] and given:
            yield Violation(f"Does not belong to a {operation.action}.", pointer=pointer(at, name))


class BulkController(Controller):
    path = "/characters/bulk"
    tags = ("Characters",)

    @post("/", status_code=200, guards=[WRITE_CHARACTERS], dry_run=True, idempotent=True)
    async def change_characters(
        self, request: Request[Any, Any, Any], user: CurrentUser, data: JSONBody[Bulk]
    ) -> Rendered[Outcomes]:
        """Create, update and delete up to 100 characters in one request.

        The status is 200 even if operations fail: each item has a `status` of its own. If `atomic` is true and an
        operation fails, none takes effect: each failed operation has its problem, the others have the status 424.
        If the characters of the response have more than 16 MiB together, the status is 413 and nothing takes effect.
        """
        await spend(request.scope, len(data.operations))
        results = await change_characters(user, data.operations, atomic=data.atomic)
        items = [_outcome(*pair, request.scope) for pair in zip(data.operations, results, strict=True)]
        return Rendered(msgspec.json.encode({"items": items}))


def _outcome(operation: Operation, result: Any, scope: Any) -> dict[str, Any]:
    if isinstance(result, ServiceError):
        return {"status": result.status, "problem": result.problem(scope)}
    if result is None:
        return {"status": 204}
    character = msgspec.Raw(result["item"].encode())
    return {"status": 201 if operation.action == "create" else 200, "character": character}
