"""The usage and the quotas of a user. Triggers keep the numbers (see the migrations)."""

import msgspec
from litestar import Controller
from piccolo.querystring import QueryString

from service.callers import Caller
from service.database.prepared import Param, Prepared
from service.settings import settings
from service.web.guards import READ_CHARACTERS, CurrentUser
from service.web.routes import get

_GET = Prepared(lambda: QueryString('SELECT characters, stored_bytes FROM user_usage WHERE "user" = {}', Param("user")))


class QuotaUsage(msgspec.Struct, kw_only=True):
    used: int
    limit: int


class AccountUsage(msgspec.Struct, kw_only=True):
    """`characters` includes those in the trash. `stored_bytes` are those of portraits in all their sizes, also of
    earlier ones that revisions keep, and of cards; a file that is used twice counts twice. `versions_per_template`,
    `relationships_per_character` and `revisions_per_character` are limits; beyond the last one, older revisions are
    thinned."""

    characters: QuotaUsage
    stored_bytes: QuotaUsage
    versions_per_template: int
    relationships_per_character: int
    revisions_per_character: int


async def get_usage(user: Caller) -> AccountUsage:
    row = await _GET.one(user=user.id) or {"characters": 0, "stored_bytes": 0}
    return AccountUsage(
        characters=QuotaUsage(used=row["characters"], limit=settings.quota_characters),
        stored_bytes=QuotaUsage(used=row["stored_bytes"], limit=settings.quota_stored_bytes),
        versions_per_template=settings.quota_template_versions,
        relationships_per_character=settings.quota_relationships,
        revisions_per_character=settings.revisions_kept,
    )


class UsageController(Controller):
    path = "/users/me/usage"
    tags = ("Users",)

    @get("/", guards=[READ_CHARACTERS])
    async def get_usage(self, user: CurrentUser) -> AccountUsage:
        """Get what you use of your quotas.

        A request that would exceed a quota is refused with 403 and the problem `quota-exceeded`.
        """
        return await get_usage(user)
