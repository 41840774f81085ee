from typing import Any

from litestar import Controller, Request, Response
from litestar.params import FromPath

from service.answers import resource
from service.avatars import queries
from service.callers import CurrentUser, requires_session
from service.parameters import read_query
from service.pictures.schemas import PortraitLinks, SizeQuery
from service.pictures.transfer import MAX_BODY, read_upload, show_picture
from service.routes import Rendered, delete, get, put
from service.schemas import IfMatch
from service.users.schemas import Me


class AvatarController(Controller):
    path = "/users"
    tags = ("Users",)

    @put("/me/avatar", guards=[requires_session], upload=True, request_max_body_size=MAX_BODY)
    async def update_avatar(
        self, request: Request[Any, Any, Any], user: CurrentUser, if_match: IfMatch = None
    ) -> Rendered[Me]:
        """Give yourself a picture: PNG, JPEG, WebP, AVIF or a GIF's first frame, up to 10 MiB and 40 megapixels."""
        return resource(await queries.update_avatar(user, await read_upload(request), if_match))

    @get("/me/avatar", guards=[requires_session], query=SizeQuery, picture=True, may_be_none=True)
    async def get_own_avatar(self, request: Request[Any, Any, Any], user: CurrentUser) -> Response[PortraitLinks]:
        """Your own picture, as WebP. `Accept: application/json` answers links that need no token."""
        query = read_query(request, SizeQuery)
        return await show_picture(request, await queries.get_avatar(user.username), query.size, public=False)

    @delete("/me/avatar", guards=[requires_session], may_be_none=True)
    async def delete_avatar(self, user: CurrentUser, if_match: IfMatch = None) -> None:
        """Take your picture away."""
        await queries.delete_avatar(user, if_match)

    @get("/{username:str}/avatar", public=True, query=SizeQuery, picture=True)
    async def get_avatar(self, request: Request[Any, Any, Any], username: FromPath[str]) -> Response[PortraitLinks]:
        """A member's picture, as WebP. `Accept: application/json` answers links that need no token."""
        query = read_query(request, SizeQuery)
        return await show_picture(request, await queries.get_avatar(username), query.size, public=True)
