from typing import Any

import msgspec
from litestar import Controller, Request
from litestar.params import JSONBody

from service.bulk import queries
from service.bulk.schemas import Bulk, Operation, Outcomes
from service.callers import CurrentUser, requires
from service.errors import ServiceError
from service.routes import Rendered, post


class BulkController(Controller):
    path = "/characters/bulk"
    tags = ("Characters",)

    @post("/", status_code=200, guards=[requires("characters:write")], dry_run=True, idempotent=True)
    async def change_characters(
        self, request: Request[Any, Any, Any], user: CurrentUser, data: JSONBody[Bulk]
    ) -> Rendered[Outcomes]:
        """Make, change and delete up to 100 characters at once.

        The answer is 200 whatever becomes of the operations: each has its own `status`. When they are `atomic` and one
        fails, nothing is done: those that failed tell their problem, the others have 424.
        """
        results = await queries.change_characters(user, data.operations, atomic=data.atomic)
        items = [_outcome(*pair, request.scope) for pair in zip(data.operations, results, strict=True)]
        return Rendered(msgspec.json.encode({"items": items}))


def _outcome(operation: Operation, result: Any, scope: Any) -> dict[str, Any]:
    if isinstance(result, ServiceError):
        return {"status": result.status, "problem": result.problem(scope)}
    if result is None:
        return {"status": 204}
    character = msgspec.Raw(result["item"].encode())
    return {"status": 201 if operation.action == "create" else 200, "character": character}
