from collections.abc import Awaitable
from typing import Any
from uuid import UUID

from litestar import Controller, Request
from litestar.params import FromPath, JSONBody

from service.inputs import CopyCreate
from service.lists.pages import page
from service.schemas import Page
from service.templates import queries
from service.templates.schemas import (
    TemplateCreate,
    TemplateQuery,
    TemplateRead,
    TemplateSummary,
    TemplateUpdate,
)
from service.web.guards import READ_TEMPLATES, WRITE_TEMPLATES, CurrentUser
from service.web.middleware.rate_limit import Cost, list_cost
from service.web.openapi_content import OptionalBodyOperation
from service.web.requests import IfMatch, StrictRequest, check_of
from service.web.responses import Rendered, resource
from service.web.routes import delete, get, patch, post


def _current(request: Request[Any, Any, Any]) -> Awaitable[Any]:
    return queries.get_template(request.user, request.path_params["template_id"])


class TemplateController(Controller):
    path = "/templates"
    tags = ("Templates",)

    @post("/", guards=[WRITE_TEMPLATES], dry_run=True, idempotent=True)
    async def create_template(self, user: CurrentUser, data: JSONBody[TemplateCreate]) -> Rendered[TemplateRead]:
        """Create a template.

        Its version 1 is published immediately.
        """
        row = await queries.create_template(user, data)
        return resource(row, created_at=f"/v1/templates/{row['id']}")

    @get("/", public=True, guards=[READ_TEMPLATES], middleware=[Cost(list_cost)])
    async def list_templates(
        self, request: StrictRequest[TemplateQuery], user: CurrentUser
    ) -> Rendered[Page[TemplateSummary]]:
        """List your own templates and the public ones of all users.

        The newest come first, or with `q` the most relevant. A template must match every filter.
        """
        query = request.parameters
        return page(request, await queries.list_templates(user, query), query.limit)

    @get("/{template_id:uuid}", public=True, guards=[READ_TEMPLATES])
    async def get_template(self, user: CurrentUser, template_id: FromPath[UUID]) -> Rendered[TemplateRead]:
        """Get a template, with the prompt and the schema of its newest published version."""
        return resource(await queries.get_template(user, template_id))

    @patch(
        "/{template_id:uuid}",
        guards=[WRITE_TEMPLATES],
        dry_run=True,
        current=_current,
        check_caller=check_of(queries.read_own, "template_id"),
    )
    async def update_template(
        self, user: CurrentUser, template_id: FromPath[UUID], data: JSONBody[TemplateUpdate], if_match: IfMatch = None
    ) -> Rendered[TemplateRead]:
        """Update a template.

        To change its prompt or its schema, create a new version. A template that was read can be sent back: read-only
        fields are ignored if they have not changed.
        """
        return resource(await queries.update_template(user, template_id, data, if_match))

    @delete("/{template_id:uuid}", guards=[WRITE_TEMPLATES], dry_run=True)
    async def delete_template(self, user: CurrentUser, template_id: FromPath[UUID], if_match: IfMatch = None) -> None:
        """Delete a template.

        New characters cannot use it; existing characters keep it.
        """
        await queries.delete_template(user, template_id, if_match)

    @post(
        "/{template_id:uuid}/copies",
        guards=[WRITE_TEMPLATES],
        dry_run=True,
        idempotent=True,
        operation_class=OptionalBodyOperation,
        check_caller=_current,
    )
    async def copy_template(
        self, user: CurrentUser, template_id: FromPath[UUID], data: JSONBody[CopyCreate | None] = None
    ) -> Rendered[TemplateRead]:
        """Copy a template.

        The copy is yours and private. It has the same name and refers to the original. The request needs no body.
        """
        row = await queries.copy_template(user, template_id)
        return resource(row, created_at=f"/v1/templates/{row['id']}")
