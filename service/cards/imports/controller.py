from typing import Any

import msgspec
from litestar import Controller, Request

from service.cards.imports import queries
from service.cards.imports.schemas import ImportOutcomes, ImportQuery, base_name
from service.errors import ServiceError, UnsupportedMediaType
from service.media.transfer import first_bytes, read_files
from service.web.guards import WRITE_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import spend
from service.web.openapi_content import UploadsOperation
from service.web.requests import FORM, StrictRequest, is_dry_run, prepared
from service.web.responses import Rendered
from service.web.routes import post

MAX_FILES = 100
MAX_BODY = 50 * 1024 * 1024


async def _prepare(request: Request[Any, Any, Any]) -> list[tuple[str, queries.NewCard | ServiceError]]:
    """Each file's name, and its card or the reason why it is refused."""
    if request.content_type[0] != FORM:
        raise UnsupportedMediaType.of(f"The body must be a form ({FORM}) with one or more files as 'file'.")
    cards, room, dry_run = [], queries.MAX_TOGETHER, is_dry_run(request)
    files = await read_files(request, most=MAX_FILES)
    await spend(request.scope, queries.COST * len(files))
    for file in files:
        name = base_name(file.filename)
        start = await first_bytes(file, queries.START)
        card = await queries.store_card(name, start, file.read, room=room, dry_run=dry_run)
        if not isinstance(card, ServiceError):
            room -= card.size
            await spend(request.scope, 1 + card.cost_of_files)
        cards.append((name, card))
    return cards


class ImportController(Controller):
    path = "/imports"
    tags = ("Cards",)

    @post(
        "/",
        status_code=200,
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        idempotent=True,
        operation_class=UploadsOperation,
        request_max_body_size=MAX_BODY,
        one_file_at_a_time=True,
        prepare=_prepare,
    )
    async def import_cards(self, request: StrictRequest[ImportQuery], user: CurrentUser) -> Rendered[ImportOutcomes]:
        """Import characters from up to 100 Character Cards.

        Cards of V1, V2 and V3 and those of similar programs are accepted, as PNG, WebP, JPEG, CHARX, BYAF, JSON or YAML
        files. The status is 200 even if files are refused: each item has a `status` of its own, and `notes` that list
        what was corrected or converted. All data of a card is kept for its export. Files that a card links to are not
        downloaded. The [guide](/docs/guide#cards) has a table of all containers and dialects.
        """
        on_duplicate = request.parameters.on_duplicate
        cards = await prepared(request)
        items = [
            {"file": name} | _outcome(await queries.import_card(user, card, on_duplicate), request.scope)
            for name, card in cards
        ]
        return Rendered(msgspec.json.encode({"items": items}))


def _outcome(result: queries.Imported | ServiceError, scope: Any) -> dict[str, Any]:
    if isinstance(result, ServiceError):
        return {"status": result.status, "problem": result.problem(scope), "notes": []}
    shown = {"status": result.status, "character": msgspec.Raw(result.character.encode()), "notes": result.notes}
    return shown | ({"duplicate_of": result.duplicate_of} if result.duplicate_of else {})
