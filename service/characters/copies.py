from typing import Any
from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, JSONBody
from piccolo.querystring import QueryString

from service.callers import Caller
from service.characters import queries as characters
from service.characters.schemas import CharacterRead
from service.database.engine import DB
from service.database.prepared import Param, Prepared
from service.identifiers import uuid7
from service.inputs import CopyCreate
from service.web.guards import WRITE_CHARACTERS, CurrentUser
from service.web.openapi_content import QUOTA, OptionalBodyOperation
from service.web.requests import check_of
from service.web.responses import Rendered, resource
from service.web.routes import post

# Cards are a feature above characters, hence plain SQL: a copy without the card would lose data that only it has.
# With the lock, the document that the copy will share is not deleted meanwhile.
_LOCK_CARD = Prepared(lambda: QueryString("SELECT id FROM cards WHERE character = {} FOR SHARE", Param("original")))
_COPY_CARD = Prepared(
    lambda: QueryString(
        "WITH original AS (SELECT * FROM cards WHERE character = {}), copy AS ("
        " INSERT INTO cards (id, character, file, spec, spec_version, document, icon, created_at, updated_at)"
        " SELECT {}::uuid, {}::uuid, file, spec, spec_version, document, icon, now(), now() FROM original RETURNING id)"
        " INSERT INTO card_assets (card, path, file)"
        " SELECT copy.id, path, card_assets.file FROM copy, original JOIN card_assets ON card = original.id"
        " ORDER BY card_assets.id",
        Param("original"),
        Param("id"),
        Param("copy"),
    )
)


async def copy_character(user: Caller, character_id: UUID) -> Any:
    """Copies a character and its card. Raises NotFound also if the caller may not see it."""
    async with DB.transaction():
        row = await characters.copy_row(user, character_id)
        if await _LOCK_CARD.value(original=character_id):
            await _COPY_CARD.one(original=character_id, id=uuid7(), copy=row["id"])
    return row


class CopyController(Controller):
    tags = ("Characters",)

    @post(
        "/characters/{character_id:uuid}/copies",
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        idempotent=True,
        responses=QUOTA,
        operation_class=OptionalBodyOperation,
        check_caller=check_of(characters.get_columns, "character_id"),
    )
    async def copy_character(
        self, user: CurrentUser, character_id: FromPath[UUID], data: JSONBody[CopyCreate | None] = None
    ) -> Rendered[CharacterRead]:
        """Copy a character.

        The copy is yours and private. It has the same name, includes the card and refers to the original. The request
        needs no body.
        """
        row = await copy_character(user, character_id)
        return resource(row, created_at=f"/v1/characters/{row['id']}")
