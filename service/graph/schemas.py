from uuid import UUID

import msgspec

from service.relationships.registry import TypeName
from service.schemas import Style, Visibility


class Node(msgspec.Struct, kw_only=True):
    """A character, ``depth`` steps away from the one that was asked about."""

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
    """`truncated`: there is more than is shown."""

    nodes: list[Node]
    edges: list[Edge]
    truncated: bool
