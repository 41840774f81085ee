from typing import Any
from uuid import UUID

from litestar import Controller, Request
from litestar.params import FromPath, JSONBody

from service.lists.pages import page
from service.schemas import Page
from service.templates import queries
from service.templates.schemas import (
    TemplateCopy,
    TemplateCreate,
    TemplateQuery,
    TemplateRead,
    TemplateSummary,
    TemplateUpdate,
)
from service.users.schemas import Profile
from service.web.guards import CurrentUser, requires
from service.web.query import read_query
from service.web.requests import IfMatch
from service.web.responses import Rendered, resource
from service.web.routes import delete, get, patch, post

READ, WRITE = requires("templates:read"), requires("templates:write")


class TemplateController(Controller):
    path = "/templates"
    tags = ("Templates",)

    @post("/", guards=[WRITE], dry_run=True, idempotent=True)
    async def create_template(self, user: CurrentUser, data: JSONBody[TemplateCreate]) -> Rendered[TemplateRead]:
        """Make a template; its version 1 is published at once."""
        row = await queries.create_template(user, data)
        return resource(row, created_at=f"/v1/templates/{row['id']}")

    @get("/", public=True, guards=[READ], query=TemplateQuery, listing=queries.TEMPLATES, expanded={"owner": Profile})
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
        self, user: CurrentUser, template_id: FromPath[UUID], data: JSONBody[TemplateCopy]
    ) -> Rendered[TemplateRead]:
        """Fork a template: a private copy of your own, that knows its original."""
        row = await queries.copy_template(user, template_id)
        return resource(row, created_at=f"/v1/templates/{row['id']}")
