"""The rows of relationships that a caller sees, and how one is rendered."""

from typing import Any

from piccolo.querystring import QueryString

from service.characters.scopes import listed_to
from service.database.prepared import Param, json_object, utc
from service.relationships.tables import Relationship


def by_end(from_source: Any, from_target: Any) -> QueryString:
    """``from_target`` when the Param ``side`` is the target's id, else ``from_source``. If ``side`` is None, the side
    from which the relationship was created decides."""
    is_target = QueryString(
        "coalesce({} = {}::uuid, {})", Relationship.target, Param("side"), Relationship.created_from_target
    )
    return QueryString("CASE WHEN {} THEN {} ELSE {} END", is_target, from_target, from_source)


_SOURCE = json_object({"id": Relationship.source.id, "name": Relationship.source.name})
_TARGET = json_object({"id": Relationship.target.id, "name": Relationship.target.name})


# The names come from other rows: a trigger raises the version when one changes (service/etags.py says why)
RELATIONSHIP = {
    "id": Relationship.id,
    "version": Relationship.version,
    "type": by_end(Relationship.type, Relationship.inverse_type),
    "label": QueryString("nullif({}, '')", by_end(Relationship.label, Relationship.inverse_label)),
    "inverse_label": QueryString("nullif({}, '')", by_end(Relationship.inverse_label, Relationship.label)),
    "source": by_end(_SOURCE, _TARGET),
    "target": by_end(_TARGET, _SOURCE),
    "description": Relationship.description,
    "attitude": by_end(Relationship.source_attitude, Relationship.target_attitude),
    "returned_attitude": by_end(Relationship.target_attitude, Relationship.source_attitude),
    "created_at": utc(Relationship.created_at),
    "updated_at": utc(Relationship.updated_at),
}


def visible_to(user: Any) -> Any:
    """Relationships between two characters that ``user``, an id or None, may see in lists."""
    return listed_to(user, Relationship.source) & listed_to(user, Relationship.target)
