from typing import Any
from uuid import UUID

from litestar import Controller, Response
from litestar.params import FromPath, JSONBody

from service.etags import etag
from service.lists.pages import page
from service.parameters import PageQuery
from service.schemas import Page
from service.templates.queries import read_own
from service.templates.versions import queries
from service.templates.versions.comparison import compare_version
from service.templates.versions.schemas import TemplateChanges, TemplateVersionCreate, TemplateVersionRead
from service.web.guards import READ_TEMPLATES, WRITE_TEMPLATES, CurrentUser
from service.web.middleware.rate_limit import Cost
from service.web.openapi_content import ETAG, QUOTA
from service.web.requests import Number, StrictRequest, check_of
from service.web.responses import Rendered, resource
from service.web.routes import get, post, put

SCHEMA = "application/schema+json"

_FOREVER = {"cache-control": "public, max-age=31536000, immutable"}
_REVALIDATED = {"cache-control": "public, no-cache"}


class VersionController(Controller):
    path = "/templates/{template_id:uuid}/versions"
    tags = ("Templates",)

    @get("/", public=True, guards=[READ_TEMPLATES], middleware=[Cost(2)])
    async def list_template_versions(
        self, request: StrictRequest[PageQuery], user: CurrentUser, template_id: FromPath[UUID]
    ) -> Rendered[Page[TemplateVersionRead]]:
        """List a template's versions, oldest first.

        Only the owner sees drafts.
        """
        query = request.parameters
        return page(request, await queries.list_versions(user, template_id, query), query.limit)

    @post(
        "/",
        guards=[WRITE_TEMPLATES],
        dry_run=True,
        idempotent=True,
        responses=QUOTA,
        response_headers=[ETAG],
        check_caller=check_of(read_own, "template_id"),
    )
    async def create_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], data: JSONBody[TemplateVersionCreate]
    ) -> Rendered[TemplateVersionRead]:
        """Create a draft of a new version.

        Only the owner sees it until it is published.
        """
        number, row = await queries.create_version(user, template_id, data)
        return resource(row, created_at=f"/v1/templates/{template_id}/versions/{number}")

    @get("/{number:int}", public=True, guards=[READ_TEMPLATES], response_headers=[ETAG])
    async def get_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> Rendered[TemplateVersionRead]:
        """Get one version of a template."""
        row = await queries.get_version(user, template_id, number)
        return resource(row, headers=_REVALIDATED if row["is_public"] else {})

    @get("/{number:int}/schema", public=True, guards=[READ_TEMPLATES], media_type=SCHEMA, response_headers=[ETAG])
    async def get_template_version_schema(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> Response[dict[str, Any]]:
        """Get a version's JSON Schema, for form generators and validators.

        It never changes. Shared caches may keep that of a public template for a year.
        """
        row = await queries.get_version(user, template_id, number)
        headers = {"etag": etag(row["id"], 1)} | (_FOREVER if row["is_public"] else {})
        return Rendered(row["attribute_schema"], headers=headers, media_type=SCHEMA)

    @get("/{number:int}/changes", public=True, guards=[READ_TEMPLATES], middleware=[Cost(5)])
    async def compare_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> TemplateChanges:
        """Compare a version with the published version before it, attribute by attribute.

        Drafts in between are left out.

        Each attribute that changed is listed once, with a pointer such as `/attributes/wits`, as faults have it. Values
        that were valid may not be any more if its `kinds` have `narrowed`, `retyped` or `required`. Up to 1,000 changes
        are listed. `truncated` is true if there are more.
        """
        return await compare_version(user, template_id, number)

    @put("/{number:int}/publication", guards=[WRITE_TEMPLATES], dry_run=True, response_headers=[ETAG])
    async def publish_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> Rendered[TemplateVersionRead]:
        """Publish a draft.

        A published version never changes. New characters use it.
        """
        return resource(await queries.publish_version(user, template_id, number))

    @put("/{number:int}/deprecation", guards=[WRITE_TEMPLATES], dry_run=True, response_headers=[ETAG])
    async def deprecate_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> Rendered[TemplateVersionRead]:
        """Deprecate a version.

        New characters use it only if they name it by its number.
        """
        return resource(await queries.deprecate_version(user, template_id, number))
