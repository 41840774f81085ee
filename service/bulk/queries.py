"""Many changes of characters at once, each as its own request would make it."""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UNSET

from service.answers import etag
from service.bodies import converted, pointer
from service.bulk.schemas import Operation
from service.callers import Caller
from service.characters.queries import create_character, delete_character, update_character
from service.characters.schemas import CharacterCreate, CharacterUpdate
from service.database import DB, Transaction
from service.errors import FailedDependency, ServiceError, Unprocessable, Violation, told

_NEEDED = {"create": {"body"}, "update": {"id", "body"}, "delete": {"id"}}
_FOREIGN = {"create": {"id", "version"}, "update": set[str](), "delete": {"body"}}


async def change_characters(user: Caller, operations: Sequence[Operation], *, atomic: bool) -> list[Any]:
    """For each operation the row it wrote, None for a deletion, or the ServiceError it failed with, leaving nothing.

    ``atomic``: when any fails, none leaves anything, and those that did not fail are told FailedDependency. Raises
    Unprocessable for operations that lack a member or have one too many.
    """
    if faults := [fault for index, each in enumerate(operations) for fault in _violations(each, index)]:
        raise Unprocessable.of(faults)
    async with DB.transaction() as transaction:
        beginning = await transaction.savepoint()
        results = [await _attempt(transaction, user, operation) for operation in operations]
        if atomic and any(isinstance(result, ServiceError) for result in results):
            await beginning.rollback_to()
            return [result if isinstance(result, ServiceError) else FailedDependency() for result in results]
        return results


async def _attempt(transaction: Transaction, user: Caller, operation: Operation) -> Any:
    try:
        async with transaction.connection.transaction():  # a savepoint
            return await _run(user, operation)
    except Exception as error:
        problem = told(error)
        if problem.status >= 500:  # no fault of this operation: the others would meet it, too
            raise
        return problem


async def _run(user: Caller, operation: Operation) -> Any:
    if operation.action == "create":
        return await create_character(user, converted(operation.body, CharacterCreate))
    character_id: Any = operation.id  # never UNSET here
    if_match = None if operation.version is UNSET else etag(character_id, operation.version)
    if operation.action == "update":
        return await update_character(user, character_id, converted(operation.body, CharacterUpdate), if_match)
    return await delete_character(user, character_id, if_match)


def _violations(operation: Operation, index: int) -> Iterator[Violation]:
    at = f"/operations/{index}"
    for name in ("id", "version", "body"):
        given = getattr(operation, name) is not UNSET
        if name in _NEEDED[operation.action] and not given:
            yield Violation("Is required.", pointer=pointer(at, name))
        elif name in _FOREIGN[operation.action] and given:
            yield Violation(f"Does not belong to a {operation.action}.", pointer=pointer(at, name))
