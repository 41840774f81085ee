from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from service.parameters import Query
from service.relationships.types import TypeName
from service.schemas import Style, Visibility


class GraphQuery(Query, kw_only=True, frozen=True):
    """The depth of the graph, and the types of its relationships."""

    depth: Annotated[
        int, Meta(ge=1, le=4, description="The maximum distance from the character, in relationships.")
    ] = 2
    types: Annotated[tuple[TypeName, ...], Meta(description="Only relationships of these types: `a,b`.")] | None = None


class Node(msgspec.Struct, kw_only=True):
    """A character. `depth` is its distance, in relationships, from the character in the URL."""

    id: UUID
    name: str
    style: Style | None
    visibility: Visibility
    depth: int


class Edge(msgspec.Struct, kw_only=True):
    """A relationship, as read from the character in the URL of its creation: `source` is the `type` of `target`. A
    custom one has a `label`, and an `inverse_label` from the side of the target."""

    id: UUID
    source: UUID
    target: UUID
    type: TypeName
    label: str | None
    inverse_label: str | None
    attitude: int | None
    returned_attitude: int | None


class Graph(msgspec.Struct, kw_only=True):
    """Characters and the relationships between them. `truncated` is true if some were left out."""

    nodes: list[Node]
    edges: list[Edge]
    truncated: bool
