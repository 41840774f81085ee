from typing import IO, Any
from uuid import UUID

from litestar import Controller, Request, Response
from litestar.params import FromPath

from service.callers import Caller
from service.characters.schemas import CharacterRead
from service.characters.scopes import visible_to
from service.characters.store import change, check_own, lock_own
from service.characters.tables import Character
from service.database.engine import DB
from service.database.prepared import Param, Prepared
from service.errors import NotFound
from service.etags import check_if_match
from service.media.queries import NewFile, picture_columns, refer_to, store_picture
from service.media.schemas import PictureQuery, PortraitLinks
from service.media.transfer import MAX_BODY, show_picture, uploaded_picture
from service.web.guards import READ_CHARACTERS, WRITE_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import spend
from service.web.openapi_content import ETAG, QUOTA, EmptyOperation, PictureOperation, UploadOperation
from service.web.requests import IfMatch, StrictRequest, check_of, is_dry_run, prepared
from service.web.responses import Rendered, emptied, resource
from service.web.routes import delete, get, put

_GET = Prepared(
    lambda: Character.select(*picture_columns(Character.portrait), Character.visibility).where(
        Character.id == Param("id"), visible_to(Param("user")), Character.portrait.is_not_null()
    )
)


async def get_portrait(user: Caller, character_id: UUID) -> Any:
    """The row of its file. Raises NotFound also if the caller may not see the character."""
    if row := await _GET.one(id=character_id, user=user.id):
        return row
    raise NotFound


async def store_portrait(
    user: Caller, character_id: UUID, picture: IO[bytes], if_match: str | None, *, dry_run: bool
) -> NewFile:
    """Raises PreconditionFailed if ``if_match`` is stale, and what ``store_picture`` raises."""
    await check_own(user, character_id, if_match)
    return await store_picture(picture, dry_run=dry_run)


async def update_portrait(user: Caller, character_id: UUID, picture: NewFile, if_match: str | None) -> Any:
    """The changed row. Raises PreconditionFailed if ``if_match`` is stale."""
    return await _change(user, character_id, picture, if_match)


async def delete_portrait(user: Caller, character_id: UUID, if_match: str | None) -> Any:
    """The changed row. Raises NotFound if there is none."""
    return await _change(user, character_id, None, if_match)


async def _change(user: Caller, character_id: UUID, picture: NewFile | None, if_match: str | None) -> Any:
    async with DB.transaction():
        row = await lock_own(user, character_id)
        check_if_match(if_match, character_id, row["version"])
        if picture is None and row["portrait"] is None:
            raise NotFound
        return await change(row, {"portrait": await refer_to(picture) if picture else None})


async def _prepare(request: Request[Any, Any, Any]) -> NewFile:
    await spend(request.scope, 10)
    character_id, if_match = request.path_params["character_id"], request.headers.get("if-match")
    async with uploaded_picture(request) as picture:
        return await store_portrait(request.user, character_id, picture, if_match, dry_run=is_dry_run(request))


class PortraitController(Controller):
    path = "/characters/{character_id:uuid}/portrait"
    tags = ("Characters",)

    @put(
        "/",
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        operation_class=UploadOperation,
        responses=QUOTA,
        request_max_body_size=MAX_BODY,
        one_file_at_a_time=True,
        prepare=_prepare,
        check_caller=check_of(check_own, "character_id"),
    )
    async def update_portrait(
        self, request: Request[Any, Any, Any], user: CurrentUser, character_id: FromPath[UUID], if_match: IfMatch = None
    ) -> Rendered[CharacterRead]:
        """Upload a character's portrait.

        PNG, JPEG, WebP and AVIF images and the first frame of a GIF are accepted, up to 10 MiB and 40 megapixels. Only
        the pixels are stored, upright and in sRGB; all metadata is removed.
        """
        return resource(await update_portrait(user, character_id, await prepared(request), if_match))

    @get("/", public=True, guards=[READ_CHARACTERS], operation_class=PictureOperation, response_headers=[ETAG])
    async def get_portrait(
        self, request: StrictRequest[PictureQuery], user: CurrentUser, character_id: FromPath[UUID]
    ) -> Response[PortraitLinks]:
        """Get a character's portrait as WebP.

        `Accept: application/json` returns links that need no token.
        """
        query = request.parameters
        row = await get_portrait(user, character_id)
        return await show_picture(request, row, query, public=row["visibility"] == "public")

    @delete("/", guards=[WRITE_CHARACTERS], dry_run=True, operation_class=EmptyOperation, response_headers=[ETAG])
    async def delete_portrait(
        self, user: CurrentUser, character_id: FromPath[UUID], if_match: IfMatch = None
    ) -> Response[None]:
        """Delete a character's portrait.

        Revisions of the character keep it.
        """
        return emptied(await delete_portrait(user, character_id, if_match))
