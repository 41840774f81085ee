from uuid import UUID

import msgspec
from litestar import Controller
from litestar.params import FromPath

from service.characters.schemas import CharacterRead
from service.lists.pages import page
from service.parameters import PageQuery
from service.revisions import queries
from service.revisions.schemas import AgainstQuery, RevisionDifferences, RevisionRead, RevisionSummary
from service.schemas import Page
from service.web.guards import READ_CHARACTERS, WRITE_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import Cost
from service.web.openapi_content import QUOTA
from service.web.requests import IfMatch, Number, StrictRequest
from service.web.responses import Rendered, resource
from service.web.routes import get, post


class RevisionController(Controller):
    path = "/characters/{character_id:uuid}/revisions"
    tags = ("Revisions",)

    @get("/", guards=[READ_CHARACTERS])
    async def list_revisions(
        self, request: StrictRequest[PageQuery], user: CurrentUser, character_id: FromPath[UUID]
    ) -> Rendered[Page[RevisionSummary]]:
        """List the revisions of your character, newest first.

        The creation and the newest changes are always kept. Of older ones, more and more are removed with their age.
        A revision whose predecessors were removed names the fields that they changed, too.
        """
        query = request.parameters
        return page(request, await queries.list_revisions(user, character_id, query), query.limit)

    @get("/{number:int}", guards=[READ_CHARACTERS])
    async def get_revision(
        self, user: CurrentUser, character_id: FromPath[UUID], number: Number
    ) -> Rendered[RevisionRead]:
        """Get your character as it was after one change.

        The status is 404 if the revision was removed because the character has too many.
        """
        return Rendered(msgspec.json.encode(await queries.get_revision(user, character_id, number)))

    @get("/{number:int}/changes", guards=[READ_CHARACTERS], middleware=[Cost(5)])
    async def compare_revisions(
        self,
        request: StrictRequest[AgainstQuery],
        user: CurrentUser,
        character_id: FromPath[UUID],
        number: Number,
    ) -> RevisionDifferences:
        """Compare two revisions.

        Up to 1,000 differences are listed. `truncated` is true if there are more.
        """
        return await queries.compare_revisions(user, character_id, request.parameters.against, number)

    @post(
        "/{number:int}/restorations",
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        responses=QUOTA,
        may_change_nothing=True,
    )
    async def restore_revision(
        self, user: CurrentUser, character_id: FromPath[UUID], number: Number, if_match: IfMatch = None
    ) -> Rendered[CharacterRead]:
        """Restore your character to a revision.

        The restored content becomes a new revision; the existing ones are kept. The visibility stays as it is now.
        If the character has this content already, the status is 200, and there is no new revision.
        """
        row, is_new = await queries.restore_revision(user, character_id, number, if_match)
        return resource(row, created_at=f"/v1/characters/{character_id}" if is_new else None)
