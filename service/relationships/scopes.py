"""The rows of relationships that a caller sees, and how one is rendered."""

from collections.abc import Callable
from typing import Any

from piccolo.querystring import QueryString

from service.characters.scopes import listed_to
from service.database.prepared import Param, json_object, utc
from service.relationships.tables import Relationship


def by_end(from_source: Any, from_target: Any) -> QueryString:
    """``from_target`` when the Param ``side`` is the target's id, else ``from_source``."""
    return QueryString(
        "CASE WHEN {} = {}::uuid THEN {} ELSE {} END", Relationship.target, Param("side"), from_target, from_source
    )


_SOURCE = json_object({"id": Relationship.source.id, "name": Relationship.source.name})
_TARGET = json_object({"id": Relationship.target.id, "name": Relationship.target.name})


def _fields(either: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """``either`` chooses between the values as read from the source and from the target.

    The names come from other rows: a trigger raises the version when one changes (service/etags.py says why)."""
    return {
        "id": Relationship.id,
        "version": Relationship.version,
        "type": either(Relationship.type, Relationship.inverse_type),
        "label": QueryString("nullif({}, '')", either(Relationship.label, Relationship.inverse_label)),
        "inverse_label": QueryString("nullif({}, '')", either(Relationship.inverse_label, Relationship.label)),
        "source": either(_SOURCE, _TARGET),
        "target": either(_TARGET, _SOURCE),
        "description": Relationship.description,
        "attitude": either(Relationship.source_attitude, Relationship.target_attitude),
        "returned_attitude": either(Relationship.target_attitude, Relationship.source_attitude),
        "created_at": utc(Relationship.created_at),
        "updated_at": utc(Relationship.updated_at),
    }


RELATIONSHIP = _fields(by_end)
FROM_SOURCE = _fields(lambda from_source, from_target: from_source)


def visible_to(user: Any) -> Any:
    """Relationships between two characters that ``user``, an id or None, may see in lists."""
    return listed_to(user, Relationship.source) & listed_to(user, Relationship.target)
