from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response
from litestar.datastructures.headers import Accept
from litestar.enums import MediaType
from litestar.params import FromPath

from service.relationships.graph import queries
from service.relationships.graph.mermaid import draw
from service.relationships.graph.schemas import Graph, GraphQuery
from service.web.guards import CurrentUser, requires
from service.web.query import read_query
from service.web.routes import get

MERMAID = "text/vnd.mermaid"


class GraphController(Controller):
    tags = ("Relationships",)

    @get(
        "/characters/{character_id:uuid}/graph",
        public=True,
        guards=[requires("characters:read")],
        query=GraphQuery,
        also=MERMAID,
    )
    async def get_graph(
        self, request: Request[Any, Any, Any], user: CurrentUser, character_id: FromPath[UUID]
    ) -> Response[Graph]:
        """Who is around a character, up to 500 of those you may see. `Accept: text/vnd.mermaid` draws it."""
        query = read_query(request, GraphQuery)
        graph = await queries.get_graph(user, character_id, query.depth, query.types)
        if Accept(request.headers.get("accept", "")).best_match([MediaType.JSON, MERMAID]) == MERMAID:
            # Response[Graph] is the type for OpenAPI; this answer is text
            return Response(draw(graph), media_type=MERMAID, headers={"Vary": "Accept"})  # type: ignore[arg-type]
        return Response(graph, headers={"Vary": "Accept"})
