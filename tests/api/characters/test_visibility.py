"""Visibility of characters, through every route that could show one."""

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import httpx
import pytest

from tests.conftest import PASSWORD, character, client, create, template, with_key
from tests.support.pictures import give_portrait
from tests.support.routes import routes_with

Client = httpx.AsyncClient

VISIBILITIES = ("private", "unlisted", "public", "trashed")

# The status for each caller of Alice's private, unlisted, public, and public but trashed character. `key` is an
# API key of hers that may only read characters. A number is a refusal's status.
BY_ID = {
    "stranger": "404  seen seen 404",
    "charlie": " 404  seen seen 404",
    "key": "     seen seen seen 404",
    "alice": "   seen seen seen 404",
}
LISTED = {
    "stranger": "hidden hidden seen hidden",
    "charlie": " hidden hidden seen hidden",
    "key": "     seen   seen   seen hidden",
    "alice": "   seen   seen   seen hidden",
}
COUNTED = LISTED | {"key": "403 403 403 403"}
RELATED = {
    "stranger": "404  404  seen 404",
    "charlie": " 404  404  seen 404",
    "key": "     seen seen seen 404",
    "alice": "   seen seen seen 404",
}
ITS_OWNERS = {
    "stranger": "401  401  401  401",
    "charlie": " 404  404  404  404",
    "key": "     seen seen seen 404",
    "alice": "   seen seen seen 404",
}
TRASHED = {
    "stranger": "401    401    401    401",
    "charlie": " hidden hidden hidden hidden",
    "key": "     hidden hidden hidden seen",
    "alice": "   hidden hidden hidden seen",
}
COPIED = {
    "stranger": "401  401  401  401",
    "charlie": " 404  seen seen 404",
    "key": "     403  403  403  403",
    "alice": "   seen seen seen 404",
}
MINE_TO_RELATE = COPIED | {"charlie": "404 404 404 404"}
MINE_TO_MOVE = COPIED | {"charlie": "hidden hidden hidden hidden", "alice": "seen seen seen hidden"}
MINE_TO_CHANGE = COPIED | {"charlie": "404 403 403 404"}
MINE_TO_DELETE = MINE_TO_CHANGE | {"alice": "hidden hidden hidden 404"}
NO_PICTURE = MINE_TO_CHANGE | {"alice": "400 400 400 404"}  # the probe sends none
PORTRAIT_TO_DELETE = MINE_TO_CHANGE | {"alice": "hidden hidden hidden 404"}
RELATED_TO_CHANGE = MINE_TO_CHANGE | {"charlie": "404 404 403 404"}
RELATED_TO_DELETE = RELATED_TO_CHANGE | {"alice": "hidden hidden hidden 404"}
MINE_TO_RESTORE = {
    "stranger": "401 401 401 401",
    "charlie": " 404 404 404 404",
    "key": "     403 403 403 403",
    "alice": "   404 404 404 seen",
}
MINE_TO_END = MINE_TO_RESTORE | {"alice": "404 404 404 hidden"}

FOLLOWED = {
    "stranger": "401    401    401    401",
    "charlie": " hidden hidden hidden hidden",
    "key": "     seen   seen   seen   hidden",
    "alice": "   seen   seen   seen   hidden",
}
EXPORTED = FOLLOWED | {"key": "403 403 403 403", "alice": "seen seen seen seen"}
CHANGED_IN_BULK = {
    "stranger": "401    401    401    401",
    "charlie": " hidden hidden hidden hidden",
    "key": "     403    403    403    403",
    "alice": "   seen   seen   seen   hidden",
}

NAME = "Ines the Unmistakable"


class Probe(NamedTuple):
    """One request, and what is expected of it; ``tells`` says of an answer whether the character is in it."""

    route: str
    expected: dict[str, str]
    path: str
    body: Any = None
    tells: Callable[[httpx.Response], bool] = lambda answer: NAME in answer.text


# In this order on one character, so what ends something comes last. `witness` is a public character of Alice's,
# related to the one in question; `friend` is the caller's own.
PROBES = [
    Probe("GET /characters", LISTED, "/characters"),
    Probe("GET /characters/{character_id}", BY_ID, "/characters/{character}"),
    Probe(
        "GET /characters/{character_id}/portrait",
        BY_ID,
        "/characters/{character}/portrait",
        tells=lambda answer: answer.headers["content-type"] == "image/webp",
    ),
    Probe("GET /characters/{character_id}/prompt", BY_ID, "/characters/{character}/prompt"),
    Probe(
        "GET /characters/{character_id}/validation",
        BY_ID,
        "/characters/{character}/validation",
        tells=lambda answer: answer.json()["state"] == "stale",
    ),
    Probe("GET /characters/{character_id}/card", BY_ID, "/characters/{character}/card"),
    Probe("GET /characters/{character_id}/graph", BY_ID, "/characters/{character}/graph"),
    Probe("GET /characters/{character_id}/graph", LISTED, "/characters/{witness}/graph"),
    Probe(
        "GET /characters/{character_id}/graph",
        LISTED,
        "/characters/{witness}/graph?depth=4",
        tells=lambda answer: answer.json()["edges"] != [],
    ),
    Probe("GET /characters/{character_id}/relationships", BY_ID, "/characters/{character}/relationships"),
    Probe("GET /characters/{character_id}/relationships", LISTED, "/characters/{witness}/relationships"),
    Probe("GET /relationships/{relationship_id}", RELATED, "/relationships/{relationship}"),
    Probe("GET /characters/{character_id}/revisions/{number}", ITS_OWNERS, "/characters/{character}/revisions/1"),
    Probe(
        "GET /characters/{character_id}/revisions",
        ITS_OWNERS,
        "/characters/{character}/revisions",
        tells=lambda answer: answer.json()["items"] != [],
    ),
    Probe(
        "GET /characters/{character_id}/revisions/{number}/changes",
        ITS_OWNERS,
        "/characters/{character}/revisions/1/changes",
        tells=lambda answer: "differences" in answer.json(),
    ),
    Probe(
        "GET /templates/{template_id}/usage",
        COUNTED,
        "/templates/{template}/usage",
        tells=lambda answer: answer.json() == {"characters": 1, "versions": {"1": 1}},
    ),
    Probe("GET /trash", TRASHED, "/trash"),
    Probe("GET /changes", FOLLOWED, "/changes?limit=100"),
    Probe("GET /users/me/export", EXPORTED, "/users/me/export"),
    Probe(
        "POST /characters/bulk",
        CHANGED_IN_BULK,
        "/characters/bulk?dry_run=true",
        {"operations": [{"action": "update", "id": "{character}", "body": {"tags": ["bulk"]}}]},
    ),
    Probe(
        "POST /templates/{template_id}/versions/{number}/migration",
        MINE_TO_MOVE,
        "/templates/{template}/versions/2/migration?dry_run=true",
    ),
    Probe("POST /characters/{character_id}/copies", COPIED, "/characters/{character}/copies", {}),
    Probe(
        "POST /characters/{character_id}/relationships",
        MINE_TO_RELATE,
        "/characters/{friend}/relationships",
        {"target": "{character}", "type": "rival_of"},
    ),
    Probe(
        "POST /characters/{character_id}/revisions/{number}/restorations",
        MINE_TO_CHANGE,
        "/characters/{character}/revisions/1/restorations",
    ),
    Probe(
        "PATCH /relationships/{relationship_id}", RELATED_TO_CHANGE, "/relationships/{relationship}", {"attitude": 1}
    ),
    Probe("PATCH /characters/{character_id}", MINE_TO_CHANGE, "/characters/{character}", {"tags": ["seen"]}),
    Probe(
        "PUT /characters/{character_id}/card", MINE_TO_CHANGE, "/characters/{character}/card", {"scenario": "Night."}
    ),
    Probe("DELETE /relationships/{relationship_id}", RELATED_TO_DELETE, "/relationships/{relationship}"),
    Probe("POST /trash/{character_id}/restorations", MINE_TO_RESTORE, "/trash/{character}/restorations"),
]
ENDINGS = [
    Probe("PUT /characters/{character_id}/portrait", NO_PICTURE, "/characters/{character}/portrait"),
    Probe("DELETE /characters/{character_id}/portrait", PORTRAIT_TO_DELETE, "/characters/{character}/portrait"),
    Probe("DELETE /trash/{character_id}", MINE_TO_END, "/trash/{character}"),
    Probe("DELETE /characters/{character_id}", MINE_TO_DELETE, "/characters/{character}"),
]


def test_every_route_that_may_reveal_a_character_is_tried() -> None:
    probed = {probe.route.replace(" ", " /v1", 1) for probe in PROBES + ENDINGS}
    assert probed == routes_with("tells"), "add a probe for it"


@pytest.fixture
async def key(app: Any, alice: Client) -> AsyncIterator[Client]:
    """An API key of Alice's that may only read characters."""
    made = await create(alice, "/v1/api-keys", name="reader", scopes=["characters:read"], current_password=PASSWORD)
    async with client(app, Authorization=f"Bearer {made['token']}") as key:
        yield key


@pytest.fixture
async def cast(stranger: Client, alice: Client, charlie: Client, key: Client) -> dict[str, Client]:
    return {"stranger": stranger, "alice": alice, "charlie": charlie, "key": key}


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize("name", ["stranger", "charlie", "key", "alice"])
async def test_each_caller_sees_only_visible_characters(cast: dict[str, Client], name: str, visibility: str) -> None:
    expected, found = {}, {}
    for probes in (PROBES, ENDINGS):
        ids = await _world(cast["alice"], visibility)
        ids["friend"] = (await character(cast["charlie" if name == "charlie" else "alice"], name="Friend"))["id"]
        for probe in probes:
            place = f"{probe.route} at {probe.path}"
            expected[place] = probe.expected[name].split()[VISIBILITIES.index(visibility)]
            found[place] = await _outcome(cast[name], probe, ids)
    assert found == expected


async def _world(alice: Client, visibility: str) -> dict[str, str]:
    """A character with a relationship, on a template of its own whose second version is published; by their ids."""
    rules = await template(alice, visibility="public", prompt="{name}, drawn in ink")
    await create(alice, f"/v1/templates/{rules['id']}/versions", attribute_schema={"type": "object"})
    shown = "public" if visibility == "trashed" else visibility
    assert (await alice.put(f"/v1/templates/{rules['id']}/versions/2/publication")).status_code == 200
    subject = await character(alice, name=NAME, visibility=shown, template=rules["id"], template_version=1)
    await give_portrait(subject)
    witness = await character(alice, name="Witness", visibility="public")
    related = await create(
        alice, f"/v1/characters/{witness['id']}/relationships", target=subject["id"], type="friend_of"
    )
    if visibility == "trashed":
        assert (await alice.delete(f"/v1/characters/{subject['id']}")).status_code == 204
    return {
        "character": subject["id"],
        "witness": witness["id"],
        "template": rules["id"],
        "relationship": related["id"],
    }


async def _outcome(caller: Client, probe: Probe, ids: dict[str, str]) -> str:
    body = _filled(probe.body, ids)
    method = probe.route.partition(" ")[0]
    answer = await caller.request(method, "/v1" + probe.path.format(**ids), json=body)
    if answer.status_code >= 400:
        assert NAME not in answer.text
        return str(answer.status_code)
    return "seen" if answer.content and probe.tells(answer) else "hidden"


def _filled(body: Any, ids: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {name: _filled(value, ids) for name, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, ids) for value in body]
    return body.format(**ids) if isinstance(body, str) else body


async def test_a_private_template_stays_private_on_a_public_character(alice: Client, charlie: Client) -> None:
    secret = await template(alice, prompt="{name} of the hidden order")
    mira = await character(alice, template=secret["id"], visibility="public", attributes={"race": "elf"})
    path = f"/v1/characters/{mira['id']}"

    read = (await charlie.get(path)).json()
    assert read["template"] == {"id": secret["id"], "version": 1}
    expanded = (await charlie.get(path, params={"expand": "template"})).json()
    assert expanded["template"] == {"id": secret["id"], "version": 1}
    assert (await charlie.get(f"/v1/templates/{secret['id']}")).status_code == 404
    assert (await alice.get(f"{path}/prompt")).json()["prompt"] == "Mira of the hidden order"
    assert (await charlie.get(f"{path}/prompt")).json() == {"prompt": "", "missing": [], "unknown": []}
    assert (await charlie.get(f"{path}/validation")).json() == {"state": "valid", "version": 1, "problems": []}

    copy = await create(charlie, f"{path}/copies")
    assert copy["template"] is None
    assert copy["visibility"] == "private"
    assert copy["attributes"] == mira["attributes"]
    assert copy["forked_from"] == mira["id"]
    assert (await create(alice, f"{path}/copies"))["template"] == mira["template"]


async def test_a_newer_version_of_a_private_template_is_hidden_from_others(alice: Client, charlie: Client) -> None:
    secret = await template(alice)
    mira = await character(alice, template=secret["id"], visibility="public")
    stricter = {"type": "object", "required": ["oath"], "properties": {"oath": {"type": "string"}}}
    await create(alice, f"/v1/templates/{secret['id']}/versions", attribute_schema=stricter)
    assert (await alice.put(f"/v1/templates/{secret['id']}/versions/2/publication")).status_code == 200

    path = f"/v1/characters/{mira['id']}/validation"
    assert (await alice.get(path)).json()["state"] == "invalid"
    assert (await charlie.get(path)).json() == {"state": "valid", "version": 1, "problems": []}


async def test_others_see_a_characters_own_prompt_but_not_its_rules(alice: Client, charlie: Client) -> None:
    secret = await template(alice, prompt="{name} of the hidden order")
    mira = await character(
        alice, template=secret["id"], visibility="public", prompt="{name}, {motto} {order}", attributes={"race": "elf"}
    )
    path = f"/v1/characters/{mira['id']}/prompt"
    assert (await alice.get(path)).json()["missing"] == ["motto"]
    assert (await charlie.get(path)).json() == {
        "prompt": "Mira, {motto} {order}", "missing": [], "unknown": ["motto", "order"]
    }  # fmt: skip


async def test_a_copy_does_not_reveal_its_private_original(alice: Client, charlie: Client) -> None:
    mira = await character(alice)
    copy = await create(alice, f"/v1/characters/{mira['id']}/copies")
    assert (await alice.patch(f"/v1/characters/{copy['id']}", json={"visibility": "public"})).status_code == 200
    forked_from = (await charlie.get(f"/v1/characters/{copy['id']}")).json()["forked_from"]
    assert forked_from == mira["id"]
    assert (await charlie.get(f"/v1/characters/{forked_from}")).status_code == 404


async def test_a_key_expands_templates_only_if_it_may_read_them(app: Any, alice: Client) -> None:
    fighter = await template(alice, name="Secret rules")
    mira = await character(alice, template=fighter["id"])
    without = await with_key(app, alice, "characters:read")
    both = await with_key(app, alice, "characters:read", "templates:read")
    for path in (f"/v1/characters/{mira['id']}", "/v1/characters"):
        for expand in ("template", "owner,template"):
            refused = await without.get(path, params={"expand": expand})
            assert (refused.status_code, refused.json()["detail"]) == (
                403,
                "This API key lacks the scope templates:read.",
            )
            shown = await both.get(path, params={"expand": expand})
            assert "Secret rules" in shown.text
        owned = await without.get(path, params={"expand": "owner"})
        assert (owned.status_code, "Secret rules" in owned.text) == (200, False)


READ_BOTH = ("characters:read", "templates:read")


@pytest.mark.parametrize(
    ("path", "scopes", "expected"),
    [
        ("templates/{open}/usage", READ_BOTH, {"versions": {"1": 1, "2": 1}}),
        ("templates/{open}/usage", READ_BOTH[1:], {"versions": {"1": 1}}),
        ("templates/{secret}/usage", READ_BOTH, {"versions": {"1": 1}}),
        ("templates/{secret}/usage", READ_BOTH[1:], {"versions": {}}),
        ("characters/{shown}/prompt", READ_BOTH[:1], {"prompt": "Mira, drawn in ink"}),
        ("characters/{hidden}/prompt", READ_BOTH, {"prompt": "Mira of the hidden order"}),
        ("characters/{hidden}/prompt", READ_BOTH[:1], {"prompt": "", "missing": [], "unknown": []}),
        ("characters/{shown}/validation", READ_BOTH[:1], {"state": "stale", "version": 2}),
        ("characters/{hidden}/validation", READ_BOTH, {"state": "stale", "version": 2}),
        ("characters/{hidden}/validation", READ_BOTH[:1], {"state": "valid", "version": 1}),
    ],
)
async def test_a_key_without_a_scope_is_shown_what_everyone_may_see(
    app: Any, alice: Client, path: str, scopes: tuple[str, ...], expected: dict[str, Any]
) -> None:
    ids = {}
    for name, visibility, prompt in (
        ("open", "public", ", drawn in ink"),
        ("secret", "private", " of the hidden order"),
    ):
        ids[name] = (await template(alice, visibility=visibility, prompt="{name}" + prompt))["id"]
        await create(alice, f"/v1/templates/{ids[name]}/versions", attribute_schema={"type": "object"})
        assert (await alice.put(f"/v1/templates/{ids[name]}/versions/2/publication")).status_code == 200
    pinned = {"shown": ("open", 1, "public"), "new": ("open", 2, "private"), "hidden": ("secret", 1, "private")}
    for name, (rules, version, visibility) in pinned.items():
        made = await character(alice, template=ids[rules], template_version=version, visibility=visibility)
        ids[name] = made["id"]
    program = await with_key(app, alice, *scopes)
    answer = await program.get("/v1/" + path.format(**ids))
    assert answer.status_code == 200, answer.text
    assert {name: answer.json()[name] for name in expected} == expected
