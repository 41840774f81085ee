"""Details of a row beside its columns: of a revision the differences, of a character its revisions and relationships,
of a template its newest version, of an entry of the audit log the names of the operator and the row.

A script shows them above the columns. All have the same form: sections of tables and texts, whose cells may be links.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.admin.operator_details import about_entry, about_operator
from service.admin.sections import Section, link, links, shown_value, time_text
from service.database.prepared import Prepared, text_query
from service.revisions.queries import first_differences, kept_after, previous_number

MOST_ROWS = 20  # of a section
MOST_DIFFERENCES = 200

_REVISION = Prepared(
    lambda: text_query(
        "SELECT revisions.character, number, replaced, name FROM revisions"
        " JOIN characters ON characters.id = revisions.character WHERE revisions.id = {}",
        "id",
    )
)
_CURRENT = Prepared(
    lambda: text_query(
        "SELECT jsonb_object_agg(key, value) FROM characters, jsonb_each(to_jsonb(characters))"
        " WHERE id = {} AND key = ANY({}::text[])",
        "id",
        "names",
    )
)
_CHARACTER = Prepared(lambda: text_query("SELECT portrait, version FROM characters WHERE id = {}", "id"))
_REVISIONS = Prepared(
    lambda: text_query(
        "SELECT id, number, created_at, ARRAY(SELECT jsonb_object_keys(replaced)) AS changed"
        " FROM revisions WHERE character = {} ORDER BY number DESC LIMIT {}",
        "id",
        "limit",
    )
)
# Of each end the newest, by its index
_RELATIONSHIPS = Prepared(
    lambda: text_query(
        "SELECT relationship.id, type, label, source, target, one.name AS source_name, other.name AS target_name FROM ("
        "(SELECT * FROM relationships WHERE source = {} ORDER BY created_at DESC, id DESC LIMIT {}) UNION ALL"
        " (SELECT * FROM relationships WHERE target = {} ORDER BY created_at DESC, id DESC LIMIT {})"
        ") AS relationship JOIN characters AS one ON one.id = source JOIN characters AS other ON other.id = target"
        " ORDER BY relationship.created_at DESC, relationship.id DESC LIMIT {}",
        "id",
        "limit",
        "id",
        "limit",
        "limit",
    )
)
_VERSIONS = Prepared(
    lambda: text_query(
        "SELECT id, number, published_at, deprecated_at FROM template_versions"
        " WHERE template = {} ORDER BY number DESC LIMIT {}",
        "id",
        "limit",
    )
)
_NEWEST = Prepared(
    lambda: text_query(
        "SELECT number, prompt, attribute_schema FROM template_versions"
        " WHERE template = {} AND published_at IS NOT NULL ORDER BY number DESC LIMIT 1",
        "id",
    )
)


async def get_details(request: Request) -> Response:
    """The sections about a row; none where the columns say all."""
    table, row, sections = request.path_params["table"], request.path_params["row"], []
    with suppress(ValueError):  # an id of another form
        if table == "piccolo_user":
            sections = await about_operator(int(row)) if row.isascii() and len(row) < 10 else []
        elif about := _ABOUT.get(table):
            sections = await about(UUID(row))
    return JSONResponse({"sections": sections})


async def _about_revision(revision_id: UUID) -> list[Section]:
    row = await _REVISION.one(id=revision_id)
    if row is None:
        return []
    before = msgspec.json.decode(row["replaced"])
    current = msgspec.json.decode(await _CURRENT.value(id=row["character"], names=list(before)) or "{}")
    after = current | await kept_after(row["character"], row["number"])
    found, truncated = await asyncio.to_thread(first_differences, before, {name: after.get(name) for name in before})
    shown = [
        [
            name := each.pointer.removeprefix("/").replace("/", " / "),
            shown_value(each.before, name),
            shown_value(each.after, name),
        ]
        for each in found[:MOST_DIFFERENCES]
    ]
    number = await previous_number(row["character"], row["number"])
    section = {
        "title": f"Changes of revision {row['number']} since revision {number}",
        "head": ["Field", "Before", "After"],
        "rows": shown,
    }
    if truncated or len(found) > len(shown):
        section["note"] = f"The first {len(shown)} of {'more than ' if truncated else ''}{len(found)} differences."
    links = [
        link(row["name"], "characters", row["character"]),
        {"text": "All revisions", "link": f"#/revisions/?character={row['character']}"},
    ]
    return [section, {"title": "Character", "links": links}]


async def _about_character(character_id: UUID) -> list[Section]:
    character = await _CHARACTER.one(id=character_id)
    if character is None:
        return []
    sections: list[Section] = []
    if character["portrait"]:
        sections.append({"title": "Portrait", "picture": character["portrait"]})
    revisions = await _REVISIONS.all(id=character_id, limit=MOST_ROWS)
    relationships = await _RELATIONSHIPS.all(id=character_id, limit=MOST_ROWS)
    if relationships:
        rows = [
            [
                link(row["source_name"], "characters", row["source"]),
                link(row["label"] or row["type"], "relationships", row["id"]),
                link(row["target_name"], "characters", row["target"]),
            ]
            for row in relationships
        ]
        sections.append({"title": "Newest relationships", "head": ["Source", "Type", "Target"], "rows": rows})
    if revisions:
        rows = [
            [
                link(row["number"], "revisions", row["id"]),
                time_text(row["created_at"]),
                ", ".join(sorted(row["changed"])),
            ]
            for row in revisions
        ]
        sections.append({"title": "Newest revisions", "head": ["Revision", "Time", "Changed"], "rows": rows})
    return [
        *sections,
        links(
            "More",
            All_revisions=f"revisions/?character={character_id}",
            Relationships_as_source=f"relationships/?source={character_id}",
            Relationships_as_target=f"relationships/?target={character_id}",
            Cards=f"cards/?character={character_id}",
            Audit_log=f"audit_log/?row={character_id}&row__match=exact",
        ),
    ]


async def _about_template(template_id: UUID) -> list[Section]:
    sections: list[Section] = []
    if newest := await _NEWEST.one(id=template_id):
        schema = msgspec.json.decode(newest["attribute_schema"])
        sections = [
            {"title": f"Schema of version {newest['number']}", "text": shown_value(schema)},
            {"title": f"Prompt of version {newest['number']}", "text": newest["prompt"] or "None."},
        ]
    rows = [
        [
            link(row["number"], "template_versions", row["id"]),
            time_text(row["published_at"], "draft"),
            time_text(row["deprecated_at"], "no"),
        ]
        for row in await _VERSIONS.all(id=template_id, limit=MOST_ROWS)
    ]
    versions = {"title": "Newest versions", "head": ["Version", "Published", "Deprecated"], "rows": rows}
    more = links(
        "More",
        All_versions=f"template_versions/?template={template_id}",
        Characters=f"characters/?template={template_id}",
        Audit_log=f"audit_log/?row={template_id}&row__match=exact",
    )
    return [*sections, versions, more] if rows else []


async def _about_user(user_id: UUID) -> list[Section]:
    return [
        links(
            "More",
            Characters=f"characters/?owner={user_id}",
            Templates=f"templates/?owner={user_id}",
            Sessions_and_keys=f"tokens/?user={user_id}",
            What_they_did=f"audit_log/?member={user_id}",
            What_operators_did_to_them=f"audit_log/?owner={user_id}",
            Entries_about_the_account=f"audit_log/?row={user_id}&row__match=exact",
        )
    ]


_ABOUT: dict[str, Callable[[UUID], Awaitable[list[Section]]]] = {
    "audit_log": about_entry,
    "characters": _about_character,
    "revisions": _about_revision,
    "templates": _about_template,
    "users": _about_user,
}
