"""The rules of visibility for characters, and how they are rendered."""

from typing import Any

from piccolo.querystring import QueryString

from service.characters.tables import Character
from service.database.prepared import Param, json_object, utc
from service.media.queries import picture_fields
from service.templates.queries import visible_to as template_visible_to
from service.users.scopes import has_active_owner, is_public

# Only what changes with the version; values of other rows belong in expand (service/etags.py says why).
SUMMARY: dict[str, Any] = {
    "id": Character.id,
    "version": Character.version,
    "name": Character.name,
    "style": Character.style,
    "tags": Character.tags,
    "visibility": Character.visibility,
    "owner": json_object({"id": Character.owner.id, "username": Character.owner.username}),
    "template": QueryString(
        "CASE WHEN {} IS NOT NULL THEN {} END",
        Character.template,
        json_object({"id": Character.template, "version": Character.template_version}),
    ),
    "portrait": picture_fields(Character.portrait, QueryString("'/v1/characters/' || {} || '/portrait'", Character.id)),
    "created_at": utc(Character.created_at),
    "updated_at": utc(Character.updated_at),
}
CHARACTER = SUMMARY | {
    "description": Character.description,
    "prompt": Character.prompt,
    "attributes": Character.attributes,
    "extensions": Character.extensions,
    "forked_from": Character.forked_from,
}
TEMPLATE_SHOWN = QueryString(
    "CASE WHEN {} THEN {} ELSE {} END",
    template_visible_to(Param("user"), Character.template).querystring,
    json_object(
        {
            "id": Character.template,
            "version": Character.template_version,
            "name": Character.template.name,
            "description": Character.template.description,
            "style": Character.template.style,
            "tags": Character.template.tags,
            "newest_version": Character.template.newest_version,
        }
    ),
    SUMMARY["template"],
)


def alive() -> Any:
    """Characters that are not in the trash."""
    return Character.deleted_at.is_null()


def visible_to(user: Any) -> Any:
    """Characters outside the trash that ``user`` (an id, or None) may see: their own, and those of others that are not
    private, unless the owner is inactive."""
    return alive() & ((Character.owner == user) | ((Character.visibility != "private") & has_active_owner(Character)))


def listed_to(user: Any, of: Any = Character) -> Any:
    """Characters outside the trash that lists, counts and graphs show to ``user``. Unlisted characters of other users
    are visible only by their id. ``of`` is the table or a foreign key to it."""
    return of.deleted_at.is_null() & ((of.owner == user) | is_public(of))


def owned_by(user: Any) -> Any:
    return alive() & (Character.owner == user)


def read() -> Any:
    """The query that renders a whole character; every answer uses it."""
    return Character.select(Character.id, Character.version, json_object(CHARACTER).as_alias("item"))
