import asyncio
from uuid import UUID

from litestar import Controller, Response
from litestar.enums import MediaType
from litestar.params import FromPath

from service.relationships.graph import queries
from service.relationships.graph.mermaid import draw
from service.relationships.graph.schemas import Graph, GraphQuery
from service.web.accept import accepted_types
from service.web.guards import READ_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import Cost, Parameters, spend
from service.web.openapi_content import GraphOperation
from service.web.requests import StrictRequest
from service.web.responses import Rendered
from service.web.routes import get

MERMAID = "text/vnd.mermaid"
FOUND_OF_A_READ = 50  # characters and relationships that count as one read


def _cost(parameters: Parameters) -> int:
    depth = parameters.get("depth", "")
    return 2 * (int(depth) if depth in {"1", "2", "3", "4"} else GraphQuery().depth)


class GraphController(Controller):
    tags = ("Relationships",)

    @get(
        "/characters/{character_id:uuid}/graph",
        public=True,
        guards=[READ_CHARACTERS],
        operation_class=GraphOperation,
        middleware=[Cost(_cost)],
    )
    async def get_graph(
        self, request: StrictRequest[GraphQuery], user: CurrentUser, character_id: FromPath[UUID]
    ) -> Response[Graph]:
        """Get the relationships around a character as a graph.

        It has up to 500 characters, only those that you may see. `Accept: text/vnd.mermaid` returns a Mermaid diagram.
        """
        query = request.parameters
        graph = await queries.get_graph(user, character_id, query.depth, query.types)
        await spend(request.scope, 1 + graph.size // FOUND_OF_A_READ)
        if accepted_types(request.scope).best_match([MediaType.JSON, MERMAID]) == MERMAID:
            drawing = await asyncio.to_thread(draw, graph.nodes, graph.edges)
            return Rendered(drawing, media_type=f"{MERMAID}; charset=utf-8", headers={"Vary": "Accept"})
        # Not as objects: to make 5,000 of them would hold up all other requests
        body = f'{{"nodes":{graph.nodes},"edges":{graph.edges},"truncated":{str(graph.truncated).lower()}}}'
        return Rendered(body, headers={"Vary": "Accept"})
