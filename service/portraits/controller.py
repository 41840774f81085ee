from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response
from litestar.params import FromPath

from service.answers import resource
from service.callers import CurrentUser, requires
from service.characters.schemas import CharacterRead
from service.parameters import read_query
from service.pictures.schemas import PortraitLinks, SizeQuery
from service.pictures.transfer import MAX_BODY, read_upload, show_picture
from service.portraits import queries
from service.routes import Rendered, delete, get, put
from service.schemas import IfMatch

READ, WRITE = requires("characters:read"), requires("characters:write")


class PortraitController(Controller):
    path = "/characters/{character_id:uuid}/portrait"
    tags = ("Characters",)

    @put("/", guards=[WRITE], dry_run=True, upload=True, request_max_body_size=MAX_BODY)
    async def update_portrait(
        self, request: Request[Any, Any, Any], user: CurrentUser, character_id: FromPath[UUID], if_match: IfMatch = None
    ) -> Rendered[CharacterRead]:
        """Give a character a portrait: PNG, JPEG, WebP, AVIF or a GIF's first frame, up to 10 MiB and 40 megapixels.

        Nothing of it is kept but its pixels, upright and in sRGB.
        """
        return resource(await queries.update_portrait(user, character_id, await read_upload(request), if_match))

    @get("/", public=True, guards=[READ], query=SizeQuery, picture=True)
    async def get_portrait(
        self, request: Request[Any, Any, Any], user: CurrentUser, character_id: FromPath[UUID]
    ) -> Response[PortraitLinks]:
        """A character's portrait, as WebP. `Accept: application/json` answers links that need no token."""
        query = read_query(request, SizeQuery)
        row = await queries.get_portrait(user, character_id)
        return await show_picture(request, row, query.size, public=row["visibility"] != "private")

    @delete("/", guards=[WRITE], dry_run=True)
    async def delete_portrait(self, user: CurrentUser, character_id: FromPath[UUID], if_match: IfMatch = None) -> None:
        """Take a character's portrait away; its history keeps it."""
        await queries.delete_portrait(user, character_id, if_match)
