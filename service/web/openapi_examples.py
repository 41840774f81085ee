"""Examples in the OpenAPI document that succeed as they stand: bodies, and the paths of public rows."""

from typing import Any

_PASSWORD = "a difference engine"  # noqa: S105 (an example)
_NEW_PASSWORD = "an analytical engine"  # noqa: S105 (an example)
_ATTRIBUTES = {
    "role": {"type": "string", "enum": ["inspector", "informant", "suspect"], "default": "suspect"},
    "wits": {"type": "integer", "minimum": 1, "maximum": 20, "default": 10},
}
_ALIBI = {"alibi": {"type": "string", "maxLength": 200, "default": "none"}}
_OBJECT = {"type": "object", "additionalProperties": False}

ID = "0199c0de-0000-7000-8000-000000000000"  # in place of the id of a character
TOKEN = "the token in the e-mail"  # noqa: S105 (a placeholder)

# For each operation that takes JSON. In this order, with ids and tokens filled in, all succeed.
EXAMPLES: dict[str, dict[str, Any]] = {
    "create_user": {"email": "ada@example.org", "username": "ada", "password": _PASSWORD},
    "request_email_verification": {"email": "ada@example.org"},
    "verify_email": {"token": TOKEN, "current_password": _PASSWORD},
    "create_session": {"login": "ada", "password": _PASSWORD},
    "update_me": {"display_name": "Ada", "bio": "Writes detectives.", "links": []},
    "create_api_key": {
        "name": "Image generator",
        "scopes": ["characters:read", "characters:write"],
        "current_password": _PASSWORD,
    },
    "create_template": {
        "name": "Night detective",
        "style": "vintage",
        "prompt": "{name}, {role}, wits {wits}, rain on a tin roof",
        "attribute_schema": _OBJECT | {"required": ["role", "wits"], "properties": _ATTRIBUTES},
    },
    "update_template": {"description": "People of a city at night.", "tags": ["detective", "night"]},
    "create_template_version": {
        "prompt": "{name}, {role}, alibi: {alibi}",
        "attribute_schema": _OBJECT | {"required": ["role", "wits"], "properties": _ATTRIBUTES | _ALIBI},
    },
    "copy_template": {},
    "create_character": {
        "name": "Mira Halloran",
        "description": "Solves what the day shift could not.",
        "tags": ["detective"],
        "attributes": {"role": "inspector", "wits": 17},
    },
    "update_character": {"description": "Retired. Almost.", "attributes": {"wits": 18}},
    "copy_character": {},
    "change_characters": {
        "atomic": True,
        "operations": [
            {"action": "create", "body": {"name": "Otto Brandt"}},
            {"action": "create", "body": {"name": "Ines Duarte", "tags": ["sea"]}},
        ],
    },
    "update_card": {"personality": "wry", "first_mes": "Mind the rope."},
    "create_relationship": {"target": ID, "type": "mentor_of", "attitude": 40},
    "update_relationship": {"description": "Since the harbour case.", "returned_attitude": 60},
    "update_password": {"current_password": _PASSWORD, "new_password": _NEW_PASSWORD},
    "request_password_reset": {"email": "ada@example.org"},
    "reset_password": {"token": TOKEN, "password": _PASSWORD},
    "delete_account": {"password": _PASSWORD},
}

OTHER_ID = "0199c0de-0000-7000-8000-000000000001"  # in place of the id of another character

# More examples of the same operations, by name. They have ids of the caller's own characters, which no document knows.
FURTHER_EXAMPLES: dict[str, dict[str, Any]] = {
    "change_characters": {
        "Create, update and delete: put in the ids of your characters": {
            "atomic": True,
            "operations": [
                {"action": "create", "body": {"name": "Otto Brandt"}},
                {"action": "update", "id": ID, "version": 1, "body": {"tags": ["sea"], "attributes": {"wits": 18}}},
                {"action": "delete", "id": OTHER_ID},
            ],
        },
    },
}

# Public rows of the demo data.
PATH_EXAMPLES: dict[str, Any] = {
    "username": "maren_oduya",
    "template_id": "01920000-0000-7000-8000-010000000008",
    "number": 1,
    "character_id": "01920000-0000-7000-8000-020000000005",
    "relationship_id": "01920000-0000-7000-8000-030000000008",
}


def examples_of(operation: str) -> dict[str, Any]:
    """The members of a media type that hold its examples. The first one is what documentation offers to send."""
    first, further = EXAMPLES[operation], FURTHER_EXAMPLES.get(operation)
    if further is None:
        return {"example": first}
    return {"examples": {name: {"value": value} for name, value in ({"Create": first} | further).items()}}
