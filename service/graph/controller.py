from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.params import FromPath, QueryParameter

from service.callers import CurrentUser, requires
from service.errors import BadRequest, Violation
from service.graph import queries
from service.graph.mermaid import draw
from service.graph.schemas import Graph
from service.relationships.registry import TYPES

MERMAID = "text/vnd.mermaid"

Depth = Annotated[int, QueryParameter(name="depth", ge=1, le=4, description="How many steps away at most.")]
Types = Annotated[
    str | None,
    QueryParameter(name="types", max_length=1000, description="Only relationships of these types: `a,b`."),
]


class GraphController(Controller):
    tags = ("Relationships",)

    @get("/characters/{character_id:uuid}/graph", public=True, guards=[requires("characters:read")], also=MERMAID)
    async def get_graph(
        self,
        request: Request[Any, Any, Any],
        user: CurrentUser,
        character_id: FromPath[UUID],
        depth: Depth = 2,
        types: Types = None,
    ) -> Response[Graph]:
        """Who is around a character, up to 500 of those you may see. `Accept: text/vnd.mermaid` draws it."""
        graph = await queries.get_graph(user, character_id, depth, _names(types))
        if MERMAID in request.headers.get("accept", ""):
            return Response(draw(graph), media_type=MERMAID, headers={"Vary": "Accept"})  # type: ignore[arg-type]
        return Response(graph, headers={"Vary": "Accept"})


def _names(types: str | None) -> list[str] | None:
    if types is None:
        return None
    names = [name.strip() for name in types.split(",")]
    if unknown := [name for name in names if name not in TYPES]:
        fault = Violation(f"Unknown: {', '.join(unknown)[:200]}.", parameter="types")
        raise BadRequest("There is no such type of relationship.", errors=[fault])
    return names
