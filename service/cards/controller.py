import re
from typing import Any
from urllib.parse import quote
from uuid import UUID

from litestar import Controller, Request, Response
from litestar.params import FromPath, JSONBody

from service.cards import queries
from service.cards.imports.queries import (
    COST,
    MAX_TOGETHER,
    START,
    NewCard,
    replace_by_file,
    store_card,
)
from service.cards.imports.schemas import base_name
from service.cards.queries import ExportedCard
from service.cards.schemas import CardQuery, CardRead, CardUpdate, Format
from service.characters.store import check_own
from service.errors import ServiceError
from service.etags import etag
from service.media.transfer import MAX_BODY, first_bytes, read_files
from service.web.guards import READ_CHARACTERS, WRITE_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import Cost, spend
from service.web.openapi_content import ETAG, QUOTA, CardOperation, UpdateOrUploadOperation
from service.web.requests import FORM, IfMatch, StrictRequest, check_of, is_dry_run, prepared
from service.web.responses import FromFile, Rendered
from service.web.routes import get, put

MEDIA_TYPES: dict[Format, str] = {"json": "application/json", "png": "image/png", "charx": "application/zip"}

JSON_COST = 5  # writes: the whole card is read and written

_NOT_ASCII = re.compile("[^A-Za-z0-9._-]+")
_SEPARATORS = re.compile(r"[/\\]")


async def _prepare(request: Request[Any, Any, Any]) -> NewCard | None:
    """The card of a form with one file. None for JSON."""
    await request.body()  # a dry run must have it before its transaction begins
    if request.content_type[0] != FORM:
        await spend(request.scope, JSON_COST)
        return None
    await spend(request.scope, COST)
    await check_own(request.user, request.path_params["character_id"], request.headers.get("if-match"))
    (file,) = await read_files(request)
    name = base_name(file.filename)
    start = await first_bytes(file, START)
    card = await store_card(name, start, file.read, room=MAX_TOGETHER, dry_run=is_dry_run(request))
    if isinstance(card, ServiceError):
        try:
            raise card
        finally:
            del card  # its traceback holds this frame, and with it the request and its body
    await spend(request.scope, 1 + card.cost_of_files)
    return card


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

    @put(
        "/",
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        operation_class=UpdateOrUploadOperation,
        response_headers=[ETAG],
        responses=QUOTA,
        request_max_body_size=MAX_BODY,
        or_form=CardUpdate(),
        prepare=_prepare,
        check_caller=check_of(check_own, "character_id"),
    )
    async def update_card(
        self,
        request: Request[Any, Any, Any],
        user: CurrentUser,
        character_id: FromPath[UUID],
        data: JSONBody[CardUpdate],
        if_match: IfMatch = None,
    ) -> Rendered[CardRead]:
        """Update the fields that only a card has, or replace the card by a file.

        A file of up to 10 MiB, in a form, replaces the card and what the character has of it: name, description, tags,
        extensions, and the portrait if the file has a picture. This is one new version of the character.
        """
        if new := await prepared(request):
            card = await replace_by_file(user, character_id, new, if_match)
        else:
            card = await queries.update_card(user, character_id, data, if_match)
        return Rendered(card.content, headers=_headers(card, "json"))


def _headers(card: ExportedCard, suffix: Format) -> dict[str, str]:
    name = _SEPARATORS.sub("_", card.character["name"])
    plain = _NOT_ASCII.sub("_", name).strip("._") or "character"
    disposition = f"attachment; filename=\"{plain}.{suffix}\"; filename*=UTF-8''{quote(name, safe='')}.{suffix}"
    return {"ETag": etag(card.character["id"], card.character["version"]), "Content-Disposition": disposition}
