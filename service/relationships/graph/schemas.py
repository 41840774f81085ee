from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from service.relationships.types import TypeName
from service.schemas import Query, Style, Visibility


class GraphQuery(Query, kw_only=True, frozen=True):
    """How many steps to follow, and which types."""

    depth: Annotated[int, Meta(ge=1, le=4, description="The most steps away.")] = 2
    types: Annotated[tuple[TypeName, ...], Meta(description="Only relationships of these types: `a,b`.")] | None = None


class Node(msgspec.Struct, kw_only=True):
    """A character, `depth` steps away from the one in the address."""

    id: UUID
    name: str
    style: Style | None
    visibility: Visibility
    depth: int


class Edge(msgspec.Struct, kw_only=True):
    """`source` is `type` of `target`."""

    id: UUID
    source: UUID
    target: UUID
    type: TypeName
    label: str | None
    attitude: int | None
    returned_attitude: int | None


class Graph(msgspec.Struct, kw_only=True):
    """`truncated` is true when the graph has more than is shown."""

    nodes: list[Node]
    edges: list[Edge]
    truncated: bool
