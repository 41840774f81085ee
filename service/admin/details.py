"""Details of a row beside its columns: of a revision the differences, of a character its revisions and relationships,
of a template its newest version, of an entry of the audit log the names of the operator and the row.

A script shows them above the columns. All have the same form: sections of tables and texts, whose cells may be links.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from piccolo.querystring import QueryString
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.audit.actions import label_of
from service.database.prepared import Param, Prepared
from service.revisions.queries import differences, kept_after, previous_number

MOST_ROWS = 20  # of a section
MOST_DIFFERENCES = 200
MOST_SHOWN = 20_000  # characters of a text
_ONE_LINE = 60  # bytes of JSON

Cell = str | dict[str, str | None]
Section = dict[str, Any]


def _prepared(query: str, *names: str) -> Prepared:
    return Prepared(lambda: QueryString(query, *map(Param, names)))


_REVISION = _prepared(
    "SELECT revisions.character, number, replaced, name FROM revisions"
    " JOIN characters ON characters.id = revisions.character WHERE revisions.id = {}",
    "id",
)
_CURRENT = _prepared(
    "SELECT jsonb_object_agg(key, value) FROM characters, jsonb_each(to_jsonb(characters))"
    " WHERE id = {} AND key = ANY({}::text[])",
    "id",
    "names",
)
_CHARACTER = _prepared("SELECT portrait, version FROM characters WHERE id = {}", "id")
_REVISIONS = _prepared(
    "SELECT id, number, created_at, ARRAY(SELECT jsonb_object_keys(replaced)) AS changed"
    " FROM revisions WHERE character = {} ORDER BY number DESC LIMIT {}",
    "id",
    "limit",
)
# Of each end the newest, by its index
_RELATIONSHIPS = _prepared(
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
_VERSIONS = _prepared(
    "SELECT id, number, published_at, deprecated_at FROM template_versions"
    " WHERE template = {} ORDER BY number DESC LIMIT {}",
    "id",
    "limit",
)
_NEWEST = _prepared(
    "SELECT number, prompt, attribute_schema FROM template_versions"
    " WHERE template = {} AND published_at IS NOT NULL ORDER BY number DESC LIMIT 1",
    "id",
)
_ENTRY = _prepared(
    'SELECT created_at, action, kind, "row", member, owner, operator, address, detail FROM audit_log WHERE id = {}',
    "id",
)


async def get_details(request: Request) -> Response:
    """The sections about a row; none where the columns say all."""
    about, sections = _ABOUT.get(request.path_params["table"]), []
    with suppress(ValueError):  # an id of another form
        row_id = UUID(request.path_params["row"])
        sections = await about(row_id) if about else []
    return JSONResponse({"sections": sections})


def _link(text: Any, table: str, row: Any) -> Cell:
    return {"text": str(text), "link": f"#/{table}/{row}/"}


def _links(title: str, **queries: str) -> Section:
    """Links to lists, by their names."""
    links = [{"text": name.replace("_", " "), "link": f"#/{query}"} for name, query in queries.items()]
    return {"title": title, "links": links}


def _time(at: datetime | None, otherwise: str = "") -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else otherwise


def _shown(value: Any, name: str = "") -> str:
    if value is msgspec.UNSET or value is None:
        return "—"
    if isinstance(value, str):
        if name.endswith("_at"):
            with suppress(ValueError):
                return _time(datetime.fromisoformat(value).astimezone(UTC))
        text = value
    else:
        encoded = msgspec.json.encode(value)
        text = msgspec.json.format(encoded, indent=2 if len(encoded) > _ONE_LINE else 0).decode()
    return f"{text[:MOST_SHOWN]}…" if len(text) > MOST_SHOWN else text


async def _about_revision(revision_id: UUID) -> list[Section]:
    row = await _REVISION.one(id=revision_id)
    if row is None:
        return []
    before = msgspec.json.decode(row["replaced"])
    current = msgspec.json.decode(await _CURRENT.value(id=row["character"], names=list(before)) or "{}")
    after = current | await kept_after(row["character"], row["number"])
    found = list(differences(before, {name: after.get(name) for name in before}, at=""))
    shown = [
        [
            name := each.pointer.removeprefix("/").replace("/", " / "),
            _shown(each.before, name),
            _shown(each.after, name),
        ]
        for each in found[:MOST_DIFFERENCES]
    ]
    number = await previous_number(row["character"], row["number"])
    section = {
        "title": f"Changes of revision {row['number']} since revision {number}",
        "head": ["Field", "Before", "After"],
        "rows": shown,
    }
    if len(found) > MOST_DIFFERENCES:
        section["note"] = f"The first {MOST_DIFFERENCES} of {len(found)} differences."
    links = [
        _link(row["name"], "characters", row["character"]),
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
                _link(row["source_name"], "characters", row["source"]),
                _link(row["label"] or row["type"], "relationships", row["id"]),
                _link(row["target_name"], "characters", row["target"]),
            ]
            for row in relationships
        ]
        sections.append({"title": "Newest relationships", "head": ["Source", "Type", "Target"], "rows": rows})
    if revisions:
        rows = [
            [_link(row["number"], "revisions", row["id"]), _time(row["created_at"]), ", ".join(sorted(row["changed"]))]
            for row in revisions
        ]
        sections.append({"title": "Newest revisions", "head": ["Revision", "Time", "Changed"], "rows": rows})
    return [
        *sections,
        _links(
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
            {"title": f"Schema of version {newest['number']}", "text": _shown(schema)},
            {"title": f"Prompt of version {newest['number']}", "text": newest["prompt"] or "None."},
        ]
    rows = [
        [
            _link(row["number"], "template_versions", row["id"]),
            _time(row["published_at"], "draft"),
            _time(row["deprecated_at"], "no"),
        ]
        for row in await _VERSIONS.all(id=template_id, limit=MOST_ROWS)
    ]
    versions = {"title": "Newest versions", "head": ["Version", "Published", "Deprecated"], "rows": rows}
    more = _links(
        "More",
        All_versions=f"template_versions/?template={template_id}",
        Characters=f"characters/?template={template_id}",
        Audit_log=f"audit_log/?row={template_id}&row__match=exact",
    )
    return [*sections, versions, more] if rows else []


async def _about_user(user_id: UUID) -> list[Section]:
    return [
        _links(
            "More",
            Characters=f"characters/?owner={user_id}",
            Templates=f"templates/?owner={user_id}",
            Sessions_and_keys=f"tokens/?user={user_id}",
            What_they_did=f"audit_log/?member={user_id}",
            What_operators_did_to_them=f"audit_log/?owner={user_id}",
            Entries_about_the_account=f"audit_log/?row={user_id}&row__match=exact",
        )
    ]


async def _about_entry(entry_id: UUID) -> list[Section]:
    row = await _ENTRY.one(id=entry_id)
    if row is None:
        return []
    by: Cell = row["operator"] or ("A command" if row["address"] is None else "Somebody unknown")
    if row["member"]:
        by = {"id": str(row["member"]), "text": str(row["member"])}
    detail: dict[str, Any] = msgspec.json.decode(row["detail"])
    rows: list[list[Cell]] = [
        ["Time", _time(row["created_at"])],
        ["Action", label_of(row["action"])],
        [row["kind"].capitalize().replace("_", " "), {"id": row["row"] or "", "text": row["row"] or "—"}],
        ["By", by],
    ]
    if row["owner"] and row["kind"] != "user":
        rows.append(["Owner", {"id": str(row["owner"]), "text": str(row["owner"])}])
    rows += [[name.capitalize(), _shown(value)] for name, value in detail.items()]
    return [{"title": "Entry", "rows": rows}]


_ABOUT: dict[str, Callable[[UUID], Awaitable[list[Section]]]] = {
    "audit_log": _about_entry,
    "characters": _about_character,
    "revisions": _about_revision,
    "templates": _about_template,
    "users": _about_user,
}
