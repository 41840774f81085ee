from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody, PathParameter

from service.answers import Rendered, collection, created, page, resource
from service.callers import CurrentUser, requires
from service.parameters import read_query
from service.schemas import Collection, IfMatch, Page
from service.templates import queries
from service.templates.schemas import (
    CopyCreate,
    TemplateChanges,
    TemplateCreate,
    TemplateQuery,
    TemplateRead,
    TemplateSummary,
    TemplateUpdate,
    TemplateVersionCreate,
    TemplateVersionRead,
)

READ, WRITE = requires("templates:read"), requires("templates:write")

Number = Annotated[int, PathParameter(ge=1, le=2**31 - 1)]


class TemplateController(Controller):
    path = "/templates"
    tags = ("Templates",)

    @post("/", guards=[WRITE], dry_run=True, idempotent=True)
    async def create_template(self, user: CurrentUser, data: JSONBody[TemplateCreate]) -> Rendered[TemplateRead]:
        """Make a template; its version 1 is published at once."""
        row = await queries.create_template(user, data)
        return resource(row, created_at=f"/v1/templates/{row['id']}")

    @get("/", public=True, guards=[READ], query=TemplateQuery)
    async def list_templates(
        self, request: Request[Any, Any, Any], user: CurrentUser
    ) -> Rendered[Page[TemplateSummary]]:
        """Your own templates and everyone's public ones, newest first."""
        query = read_query(request, TemplateQuery)
        return page(request, await queries.list_templates(user, query), query.limit)

    @get("/{template_id:uuid}", public=True, guards=[READ])
    async def get_template(self, user: CurrentUser, template_id: FromPath[UUID]) -> Rendered[TemplateRead]:
        """A template, with the prompt and the schema of its newest published version."""
        return resource(await queries.get_template(user, template_id))

    @patch("/{template_id:uuid}", guards=[WRITE], dry_run=True)
    async def update_template(
        self, user: CurrentUser, template_id: FromPath[UUID], data: JSONBody[TemplateUpdate], if_match: IfMatch = None
    ) -> Rendered[TemplateRead]:
        """Change what is said about a template; its rules change with a new version."""
        return resource(await queries.update_template(user, template_id, data, if_match))

    @delete("/{template_id:uuid}", guards=[WRITE], dry_run=True)
    async def delete_template(self, user: CurrentUser, template_id: FromPath[UUID], if_match: IfMatch = None) -> None:
        """Retire a template: no new characters begin on it, the others stay."""
        await queries.delete_template(user, template_id, if_match)

    @post("/{template_id:uuid}/copies", guards=[WRITE], dry_run=True, idempotent=True)
    async def copy_template(
        self, user: CurrentUser, template_id: FromPath[UUID], data: JSONBody[CopyCreate]
    ) -> Rendered[TemplateRead]:
        """Fork a template: a private copy of your own, that knows its original."""
        row = await queries.copy_template(user, template_id)
        return resource(row, created_at=f"/v1/templates/{row['id']}")

    @get("/{template_id:uuid}/versions", public=True, guards=[READ])
    async def list_template_versions(
        self, user: CurrentUser, template_id: FromPath[UUID]
    ) -> Rendered[Collection[TemplateVersionRead]]:
        """A template's versions, oldest first; drafts only for its owner."""
        return collection(await queries.list_versions(user, template_id))

    @post("/{template_id:uuid}/versions", guards=[WRITE], dry_run=True, idempotent=True)
    async def create_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], data: JSONBody[TemplateVersionCreate]
    ) -> Rendered[TemplateVersionRead]:
        """Draft a version. Nobody else sees it until it is published."""
        number, row = await queries.create_version(user, template_id, data)
        return created(row, f"/v1/templates/{template_id}/versions/{number}")

    @get("/{template_id:uuid}/versions/{number:int}", public=True, guards=[READ])
    async def get_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> Rendered[TemplateVersionRead]:
        """One version of a template."""
        return Rendered((await queries.get_version(user, template_id, number))["item"])

    @get("/{template_id:uuid}/versions/{number:int}/schema", public=True, guards=[READ])
    async def get_template_version_schema(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> Response[dict[str, Any]]:
        """A version's JSON Schema, for form generators and validators."""
        row = await queries.get_version(user, template_id, number)
        return Response(row["attribute_schema"].encode(), media_type="application/schema+json")

    @get("/{template_id:uuid}/versions/{number:int}/changes", public=True, guards=[READ])
    async def compare_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> TemplateChanges:
        """What a version did to each attribute, against the version before."""
        return await queries.compare_version(user, template_id, number)

    @put("/{template_id:uuid}/versions/{number:int}/publication", guards=[WRITE], dry_run=True)
    async def publish_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> Rendered[TemplateVersionRead]:
        """Publish a draft: it never changes again, and new characters begin on it."""
        return Rendered((await queries.publish_version(user, template_id, number))["item"])

    @put("/{template_id:uuid}/versions/{number:int}/deprecation", guards=[WRITE], dry_run=True)
    async def deprecate_template_version(
        self, user: CurrentUser, template_id: FromPath[UUID], number: Number
    ) -> Rendered[TemplateVersionRead]:
        """Deprecate a version: no new character begins on it, unless it is asked for by its number."""
        return Rendered((await queries.deprecate_version(user, template_id, number))["item"])
