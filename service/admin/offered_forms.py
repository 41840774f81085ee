"""Offers an operator the forms of their role. ``check_role`` refuses the others, however they are sent."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.admin.additions import api_of
from service.admin.roles import get_role, may_use


def offer_forms_of_role(site: Any) -> None:
    """Replaces Piccolo Admin's two lists of forms, of which the sidebar is made."""

    async def get_forms(request: Request) -> Response:
        role = await get_role(request.user.user_id)
        return JSONResponse([form.model_dump() for form in site.get_forms() if may_use(role, form.slug)])

    async def get_grouped_forms(request: Request) -> Response:
        role = await get_role(request.user.user_id)
        grouped = {
            group: [form.model_dump() for form in forms if may_use(role, form.slug)]
            for group, forms in site.get_grouped_forms().grouped.items()
        }
        return JSONResponse({"grouped": {group: forms for group, forms in grouped.items() if forms}, "ungrouped": []})

    routes = [Route("/forms/", get_forms), Route("/forms/grouped/", get_grouped_forms)]
    api_of(site).router.routes[:0] = routes
