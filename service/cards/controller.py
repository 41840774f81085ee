import re
from urllib.parse import quote
from uuid import UUID

from litestar import Controller, Response
from litestar.params import FromPath, JSONBody

from service.cards import queries
from service.cards.queries import ExportedCard
from service.cards.schemas import CardQuery, CardRead, CardUpdate, Format
from service.etags import etag
from service.web.guards import READ_CHARACTERS, WRITE_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import Cost
from service.web.openapi_content import ETAG, QUOTA, CardOperation
from service.web.requests import IfMatch, StrictRequest
from service.web.responses import FromFile, Rendered
from service.web.routes import get, put

MEDIA_TYPES: dict[Format, str] = {"json": "application/json", "png": "image/png", "charx": "application/zip"}

_NOT_ASCII = re.compile("[^A-Za-z0-9._-]+")
_SEPARATORS = re.compile(r"[/\\]")


class CardController(Controller):
    path = "/characters/{character_id:uuid}/card"
    tags = ("Cards",)

    @get(
        "/",
        public=True,
        guards=[READ_CHARACTERS],
        operation_class=CardOperation,
        response_headers=[ETAG],
        middleware=[Cost(5)],
    )
    async def get_card(
        self, request: StrictRequest[CardQuery], user: CurrentUser, character_id: FromPath[UUID]
    ) -> Response[CardRead]:
        """Export a character as a Character Card."""
        query = request.parameters
        card = await queries.get_card(user, character_id, query)
        media_type, headers = MEDIA_TYPES[query.format], _headers(card, query.format)
        if card.file is not None:
            return FromFile(card.file, media_type, headers=headers)
        return Rendered(card.content, media_type=media_type, headers=headers)

    @put("/", guards=[WRITE_CHARACTERS], dry_run=True, response_headers=[ETAG], responses=QUOTA)
    async def update_card(
        self, user: CurrentUser, character_id: FromPath[UUID], data: JSONBody[CardUpdate], if_match: IfMatch = None
    ) -> Rendered[CardRead]:
        """Update the fields that only a card has, such as greetings and the lorebook."""
        card = await queries.update_card(user, character_id, data, if_match)
        return Rendered(card.content, headers=_headers(card, "json"))


def _headers(card: ExportedCard, suffix: Format) -> dict[str, str]:
    name = _SEPARATORS.sub("_", card.character["name"])
    plain = _NOT_ASCII.sub("_", name).strip("._") or "character"
    disposition = f"attachment; filename=\"{plain}.{suffix}\"; filename*=UTF-8''{quote(name, safe='')}.{suffix}"
    return {"ETag": etag(card.character["id"], card.character["version"]), "Content-Disposition": disposition}
