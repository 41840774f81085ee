from typing import IO, Any

from litestar import Controller, Request, Response
from litestar.params import FromPath

from service.callers import Caller
from service.database.engine import DB
from service.database.prepared import NOW, Param, Prepared
from service.errors import NotFound
from service.etags import check_if_match
from service.media.queries import picture_columns, store_picture
from service.media.schemas import PictureQuery, PortraitLinks
from service.media.transfer import MAX_BODY, show_picture, uploaded_picture
from service.users.queries import get_me, lock_me
from service.users.schemas import Me, name_or_id
from service.users.scopes import is_active
from service.users.tables import User
from service.web.guards import CurrentUser, requires_session
from service.web.middleware.rate_limit import spend
from service.web.openapi_content import ETAG, NOT_FOUND, EmptyOperation, PictureOperation, UploadOperation
from service.web.requests import IfMatch, StrictRequest
from service.web.responses import Rendered, emptied, resource
from service.web.routes import delete, get, put

_GET = Prepared(
    lambda: User.select(*picture_columns(User.avatar)).where(
        (User.username == Param("username")) | (User.id == Param("id")), is_active(), User.avatar.is_not_null()
    )
)


async def get_avatar(name: str) -> Any:
    """The row of the avatar's file, of the user with this username, in any case, or this id. Raises NotFound if
    there is no such active user, or no avatar."""
    if row := await _GET.one(**name_or_id(name)):
        return row
    raise NotFound


async def update_avatar(user: Caller, picture: IO[bytes], if_match: str | None) -> Any:
    """The user's row to render. Raises what ``store_picture`` raises, PreconditionFailed when ``if_match`` is stale."""
    check_if_match(if_match, user.id, (await get_me(user))["version"])  # before the picture is decoded
    return await _change(user, (await store_picture(picture)).name, if_match)


async def delete_avatar(user: Caller, if_match: str | None) -> Any:
    """The user's row. Raises NotFound if the user has no avatar, PreconditionFailed when ``if_match`` is stale."""
    return await _change(user, None, if_match)


async def _change(user: Caller, name: str | None, if_match: str | None) -> Any:
    async with DB.transaction():
        row = await lock_me(user)
        check_if_match(if_match, user.id, row["version"])
        if name is None and row["avatar"] is None:
            raise NotFound
        if name != row["avatar"]:
            await User.update({User.avatar: name, User.version: User.version + 1, User.updated_at: NOW}).where(
                User.id == user.id
            )
        return await get_me(user)


class AvatarController(Controller):
    path = "/users"
    tags = ("Users",)

    @put(
        "/me/avatar",
        guards=[requires_session],
        operation_class=UploadOperation,
        request_max_body_size=MAX_BODY,
        one_file_at_a_time=True,
    )
    async def update_avatar(
        self, request: Request[Any, Any, Any], user: CurrentUser, if_match: IfMatch = None
    ) -> Rendered[Me]:
        """Upload your avatar.

        PNG, JPEG, WebP and AVIF images and the first frame of a GIF are accepted, up to 10 MiB and 40 megapixels.
        """
        await spend(request.scope, 10)
        async with uploaded_picture(request) as picture:
            return resource(await update_avatar(user, picture, if_match))

    @get(
        "/me/avatar",
        guards=[requires_session],
        operation_class=PictureOperation,
        response_headers=[ETAG],
        responses=NOT_FOUND,
    )
    async def get_own_avatar(self, request: StrictRequest[PictureQuery], user: CurrentUser) -> Response[PortraitLinks]:
        """Get your own avatar as WebP.

        `Accept: application/json` returns links that need no token.
        """
        query = request.parameters
        return await show_picture(request, await get_avatar(user.username), query, public=False)

    @delete(
        "/me/avatar",
        guards=[requires_session],
        operation_class=EmptyOperation,
        responses=NOT_FOUND,
        response_headers=[ETAG],
    )
    async def delete_avatar(self, user: CurrentUser, if_match: IfMatch = None) -> Response[None]:
        """Delete your avatar."""
        return emptied(await delete_avatar(user, if_match))

    @get("/{username:str}/avatar", public=True, operation_class=PictureOperation, response_headers=[ETAG])
    async def get_avatar(
        self, request: StrictRequest[PictureQuery], username: FromPath[str]
    ) -> Response[PortraitLinks]:
        """Get a user's avatar as WebP.

        `Accept: application/json` returns links that need no token.
        """
        query = request.parameters
        return await show_picture(request, await get_avatar(username), query, public=True)
