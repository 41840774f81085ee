"""A character's history: every state it was in is read back as it was, and can be had again."""

import json
import time
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.characters import store, thinning
from service.characters.tables import Character, Revision
from service.commands.purge import purge_everything
from service.revisions import queries
from service.settings import settings as service_settings
from service.text.comparisons import MOST_DIFFERENCES
from tests.conftest import character, create, template
from tests.support.cpu import less_than

Client = httpx.AsyncClient

CONTENT = ("name", "description", "prompt", "style", "tags", "visibility", "attributes", "extensions", "template")
SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"default": 1}}},
    {"type": "object", "required": ["a"], "properties": {"a": {"default": [True]}, "b": {"default": "b"}}},
]

values = st.recursive(
    st.sampled_from([0, 1, 1.5, True, False, "", "x", None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=3,
)
patches = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["Mira", "Otto"]),
        "description": st.sampled_from(["", "Tall", None]),
        "prompt": st.sampled_from(["{name}", None]),
        "style": st.sampled_from(["anime", None]),
        "tags": st.lists(st.sampled_from(["night", "rain"]), max_size=2) | st.none(),
        "visibility": st.sampled_from(["private", "unlisted", "public"]),
        "attributes": st.dictionaries(st.sampled_from("abc"), values, max_size=3),
        "extensions": st.dictionaries(st.sampled_from("ab"), values, max_size=1),
        "template": st.sampled_from(["rules", "other", None]),
        "template_version": st.sampled_from([1, 2]),
    },
)
operations = st.lists(
    st.tuples(st.just("patch"), patches)
    | st.tuples(st.just("restore"), st.integers(0, 30))
    | st.tuples(st.just("delete"), st.none()),
    min_size=1,
    max_size=10,
)


async def _templates(alice: Client) -> dict[str | None, str | None]:
    ids: dict[str | None, str | None] = {None: None}
    for name in ("rules", "other"):
        made = await template(alice, name=name, attribute_schema=SCHEMAS[0])
        await create(alice, f"/v1/templates/{made['id']}/versions", attribute_schema=SCHEMAS[1])
        assert (await alice.put(f"/v1/templates/{made['id']}/versions/2/publication")).status_code == 200
        ids[name] = made["id"]
    return ids


def _content(read: Any) -> str:
    """As text, for 1 and true are equal in Python."""
    return json.dumps({name: read[name] for name in CONTENT}, sort_keys=True)


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7396, as its section 2 writes it."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = _merged(target.get(name), value)
    return target


@pytest.fixture
async def ids(alice: Client) -> dict[str | None, str | None]:
    return await _templates(alice)


class History:
    """The responses that created the revisions, and the operations."""

    def __init__(self, alice: Client, made: Any) -> None:
        self.alice = alice
        self.path = f"/v1/characters/{made['id']}"
        self.trash = f"/v1/trash/{made['id']}"
        self.answers = [made]

    async def patch(self, change: dict[str, Any]) -> None:
        before = self.answers[-1]
        answer = await self.alice.patch(self.path, json=change)
        if answer.status_code == 200:
            self._check(before, change, answer.json())
            self._grow(answer)
        assert answer.status_code in (200, 422), answer.text
        read = await self.alice.get(self.path)
        assert read.json() == self.answers[-1]
        assert read.headers["etag"] == f'"{before["id"]}-{len(self.answers)}"'

    async def restore(self, number: int) -> None:
        number = number % len(self.answers) + 1
        kept, before = await self.kept(), self.answers[-1]
        answer = await self.alice.post(f"{self.path}/revisions/{number}/restorations")
        if number not in kept:
            assert (answer.status_code, "thinned" in answer.json()["detail"]) == (404, True)
            return
        changed = _content(answer.json()) != _content(before)
        assert (answer.status_code, "location" in answer.headers) == (201 if changed else 200, changed), answer.text
        as_now = {"visibility": before["visibility"]}
        assert _content(answer.json()) == _content(self.answers[number - 1] | as_now)
        self._grow(answer)

    async def delete(self, _: None) -> None:
        assert (await self.alice.delete(self.path)).status_code == 204
        back = await self.alice.post(f"{self.trash}/restorations")
        assert back.status_code == 201
        deleted = self.answers[-1] | {"version": len(self.answers) + 1, "updated_at": None}
        self.answers.append(deleted)
        assert _content(back.json()) == _content(deleted)
        self._append(back)

    def _check(self, before: Any, change: dict[str, Any], after: Any) -> None:
        """The answer has what was sent."""
        empty = {"description": "", "tags": []}
        for name in change.keys() & {"name", "description", "style", "tags", "visibility", "extensions"}:
            wanted = empty.get(name) if change[name] is None else change[name]
            wanted = list(dict.fromkeys(wanted)) if name == "tags" else wanted  # a repeated tag is kept once
            assert json.dumps(after[name], sort_keys=True) == json.dumps(wanted, sort_keys=True)
        merged = _merged(before["attributes"], change.get("attributes", {}))
        found = (
            after["attributes"] if after["template"] is None else {name: after["attributes"][name] for name in merged}
        )
        assert json.dumps(found, sort_keys=True) == json.dumps(merged, sort_keys=True)

    def _grow(self, answer: httpx.Response) -> None:
        """A new state is the next version; the same one is the same version."""
        if _content(answer.json()) == _content(self.answers[-1]):
            assert answer.json() == self.answers[-1]
        else:
            self._append(answer)

    def _append(self, answer: httpx.Response) -> None:
        read = answer.json()
        self.answers.append(read)
        assert read["version"] == len(self.answers)
        assert answer.headers["etag"] == f'"{read["id"]}-{read["version"]}"'

    async def kept(self) -> list[int]:
        listed = (await self.alice.get(f"{self.path}/revisions?limit=100")).json()["items"]
        return [item["number"] for item in listed]

    async def check(self) -> None:
        """Every revision that is kept reads as it was made, and differs from the one before as the states do."""
        listed = (await self.alice.get(f"{self.path}/revisions?limit=100")).json()["items"]
        numbers = [item["number"] for item in listed]
        most = thinning.settings.revisions_kept
        if len(self.answers) <= most:
            assert numbers == list(range(len(self.answers), 0, -1))
        assert (len(numbers), numbers[0], numbers[-1]) == (min(len(self.answers), most), len(self.answers), 1)
        for item, before in zip(listed, [*numbers[1:], 1], strict=True):
            revision = (await self.alice.get(f"{self.path}/revisions/{item['number']}")).json()
            read = revision.pop("character")
            answer = self.answers[item["number"] - 1]
            assert revision == item
            assert _content(read) == _content(answer)
            assert read == answer | {"updated_at": answer["updated_at"] or item["created_at"]}
            compared = (await self.alice.get(f"{self.path}/revisions/{item['number']}/changes")).json()
            assert compared["before"] == before
            differing = {difference["pointer"].split("/")[1] for difference in compared["differences"]}
            assert differing == _differing(self.answers[before - 1], answer)
            assert differing <= {"template" if name == "template_version" else name for name in item["changed"]}
        for number in {*range(1, len(self.answers) + 1)} - {*numbers}:
            for path in (f"{number}", f"{number}/changes", f"1/changes?against={number}"):
                answer = await self.alice.get(f"{self.path}/revisions/{path}")
                assert (answer.status_code, "thinned" in answer.json()["detail"]) == (404, True)
        over = await self.alice.get(f"{self.path}/revisions/{len(self.answers) + 1}")
        assert over.status_code == 404


def _differing(before: Any, after: Any) -> set[str]:
    return {
        name for name in CONTENT if json.dumps(before[name], sort_keys=True) != json.dumps(after[name], sort_keys=True)
    }


async def _play(alice: Client, ids: dict[str | None, str | None], steps: list[tuple[str, Any]]) -> None:
    history = History(alice, await character(alice, attributes={"a": 1}))
    for name, argument in steps:
        if name == "patch" and "template" in argument:
            argument = argument | {"template": ids[argument["template"]]}
        await getattr(history, name)(argument)
    await history.check()


def keep(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    for module in (store, thinning, queries):
        monkeypatch.setattr(module, "settings", replace(service_settings, revisions_kept=most))


@pytest.fixture(params=[(1, 500), (2, 4), (20, 500), (20, 3)])
def kept_as(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How often a revision has the whole content, and how many are kept."""
    whole_every, most = request.param
    monkeypatch.setattr(store, "WHOLE_EVERY", whole_every)
    keep(monkeypatch, most)


@pytest.mark.usefixtures("kept_as")
@given(steps=operations)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_earlier_state_is_read_back(
    alice: Client, ids: dict[str | None, str | None], steps: list[tuple[str, Any]]
) -> None:
    await _play(alice, ids, steps)


@pytest.mark.slow
@pytest.mark.usefixtures("kept_as")
@given(steps=operations)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_earlier_state_is_read_back_many_times(
    alice: Client, ids: dict[str | None, str | None], steps: list[tuple[str, Any]]
) -> None:
    await _play(alice, ids, steps)


async def test_a_revision_is_read_in_few_steps(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revisions behind the next one with the whole content are not read: here they are deleted."""
    monkeypatch.setattr(store, "WHOLE_EVERY", 3)
    made = await character(alice, name="Mira 1", extensions={"n": 1}, tags=["first"])
    path = f"/v1/characters/{made['id']}"
    states = {1: made}
    for number in range(2, 12):
        change = {"name": f"Mira {number}"} | ({"extensions": {"n": number}} if number in (5, 11) else {})
        states[number] = (await alice.patch(path, json=change)).json()
    for number in range(9, 0, -1):  # the newest first, because each takes away what lies behind it
        await Revision.delete().where(Revision.number > -(-(number + 1) // 3) * 3)
        read = (await alice.get(f"{path}/revisions/{number}")).json()
        assert _content(read["character"]) == _content(states[number])
        restored = await alice.post(f"{path}/revisions/{number}/restorations", params={"dry_run": "true"})
        assert _content(restored.json()) == _content(states[number])


async def test_a_history_of_a_thousand_revisions_is_read_as_fast_as_a_short_one(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "WHOLE_EVERY", 1)
    made = await character(alice)
    path = f"/v1/characters/{made['id']}"
    await alice.patch(path, json={"name": "Mira 2"})
    monkeypatch.undo()

    async def best_time() -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            answer = await alice.get(f"{path}/revisions/2")
            times.append(time.perf_counter() - began)
            assert answer.json()["character"]["name"] == "Mira 2"
        return min(times)

    short = await best_time()
    await Revision.raw(
        "INSERT INTO revisions (id, character, number, replaced, unchanged, created_at)"
        " SELECT gen_random_uuid(), character, n, jsonb_build_object('name', 'Mira 2', 'extensions', large),"
        " CASE WHEN n % 20 = 0 THEN unchanged - 'extensions' END, created_at"
        " FROM revisions, generate_series(3, 1000) AS n, LATERAL (SELECT jsonb_build_object('x',"
        " string_agg(md5(n::text || i::text), '')) AS large FROM generate_series(1, 1000) AS i) AS made"
    )
    await Character.update({Character.version: 1000}).where(Character.id == made["id"])
    assert await best_time() < short + 0.05


async def test_older_revisions_are_thinned_most_where_they_are_oldest(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(monkeypatch, 10)
    made = await character(alice)
    for number in range(2, 61):
        assert (await alice.patch(f"/v1/characters/{made['id']}", json={"name": f"Mira {number}"})).status_code == 200
    items = (await alice.get(f"/v1/characters/{made['id']}/revisions")).json()["items"]
    numbers = [item["number"] for item in items]
    assert (len(numbers), numbers[:3], numbers[-1]) == (10, [60, 59, 58], 1)
    gaps = [after - before for after, before in pairwise(numbers)]
    assert sum(gaps[-4:]) > 4 * sum(gaps[:4]), numbers
    assert max(gaps) < 40, "the oldest are not simply cut off"
    for number in numbers:
        read = (await alice.get(f"/v1/characters/{made['id']}/revisions/{number}")).json()["character"]
        assert read["name"] == (f"Mira {number}" if number > 1 else "Mira")
    whole = await Revision.select().where(Revision.unchanged.is_not_null()).output(load_json=True)
    assert len(whole) > 1, "what a removed one kept is handed on"
    assert all({*row["unchanged"]} == {*store.CONTENT} - {*row["replaced"]} for row in whole)


async def test_a_longer_history_shrinks_with_each_write_and_in_the_purge(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await character(alice)
    path = f"/v1/characters/{made['id']}"
    for number in range(2, 13):
        await alice.patch(path, json={"name": f"Mira {number}"})
    keep(monkeypatch, 5)
    await alice.patch(path, json={"name": "Mira 13"})
    assert await Revision.count() == 12 - 2
    monkeypatch.setattr("service.commands.purge.settings", thinning.settings)
    assert (await purge_everything())["thinned revisions"] == 6
    numbers = [item["number"] for item in (await alice.get(f"{path}/revisions")).json()["items"]]
    assert (len(numbers), numbers[0], numbers[-1]) == (5, 13, 1)
    for number in numbers:
        read = (await alice.get(f"{path}/revisions/{number}")).json()["character"]
        assert read["name"] == (f"Mira {number}" if number > 1 else "Mira")


async def test_every_twentieth_revision_keeps_the_whole_content(alice: Client) -> None:
    made = await character(alice)
    for number in range(2, 42):
        assert (await alice.patch(f"/v1/characters/{made['id']}", json={"name": f"Mira {number}"})).status_code == 200
    rows = await Revision.select().order_by(Revision.number).output(load_json=True)
    assert [row["number"] for row in rows if row["unchanged"]] == [20, 40]
    assert {*rows[18]["unchanged"], *rows[18]["replaced"]} == {*store.CONTENT}


@pytest.mark.parametrize("other", [True, 1.5, "1", [1], {"n": 1}])
async def test_a_value_of_another_type_is_a_change(alice: Client, other: Any) -> None:
    mira = await character(alice, attributes={"a": 1, "b": [{"c": 1}]}, extensions={"a": 1})
    path = f"/v1/characters/{mira['id']}"
    change = {"attributes": {"a": other, "b": [{"c": other}]}, "extensions": {"a": other}}
    changed = (await alice.patch(path, json=change)).json()
    assert json.dumps(changed["attributes"]) == json.dumps(change["attributes"])
    assert json.dumps(changed["extensions"]) == json.dumps(change["extensions"])
    differences = (await alice.get(f"{path}/revisions/2/changes")).json()["differences"]
    assert [difference["pointer"] for difference in differences][:1] == ["/attributes/a"]


async def test_an_equal_value_in_another_notation_is_no_change(alice: Client) -> None:
    mira = await character(alice, attributes={"a": 1, "b": {"c": 2, "d": 3}, "e": 10**17}, extensions={"x": 1, "y": 2})
    path = f"/v1/characters/{mira['id']}"
    same = (
        '{"attributes": {"b": {"d": 3.0, "c": 2}, "a": 1.0, "e": 1e17}, "extensions": {"y": 2, "x": 1}, "tags": null}'
    )
    answer = await alice.patch(path, content=same, headers={"Content-Type": "application/json"})
    assert answer.content == (await alice.get(path)).content
    assert answer.json() == mira
    assert answer.headers["etag"] == f'"{mira["id"]}-1"'
    assert len((await alice.get(f"{path}/revisions")).json()["items"]) == 1


async def test_a_revision_stores_only_what_changed(alice: Client) -> None:
    mira = await character(alice, description="x" * 5_000, attributes={"lore": "y" * 5_000})
    path = f"/v1/characters/{mira['id']}"
    await alice.patch(path, json={"name": "Mira II", "description": "x" * 5_000})
    await alice.patch(path, json={"tags": ["new"], "attributes": {"lore": "y" * 5_000}})
    await alice.delete(path)
    rows = await Revision.select(Revision.number, Revision.replaced).order_by(Revision.number).output(load_json=True)
    assert rows == [
        {"number": 2, "replaced": {"name": "Mira"}},
        {"number": 3, "replaced": {"tags": []}},
        {"number": 4, "replaced": {"deleted_at": None}},
    ]


async def test_the_changes_of_a_revision(alice: Client) -> None:
    mira = await character(alice, attributes={"a": {"b/c": 1}, "gone": 1})
    path = f"/v1/characters/{mira['id']}"
    await alice.patch(path, json={"name": "Mira II", "attributes": {"a": {"b/c": 2}, "gone": None, "new": []}})
    await alice.patch(path, json={"name": "Mira"})
    assert (await alice.get(f"{path}/revisions/2/changes")).json() == {
        "before": 1,
        "after": 2,
        "differences": [
            {"pointer": "/attributes/a/b~1c", "before": 1, "after": 2},
            {"pointer": "/attributes/gone", "before": 1},
            {"pointer": "/attributes/new", "after": []},
            {"pointer": "/name", "before": "Mira", "after": "Mira II"},
        ],
        "truncated": False,
    }
    against = (await alice.get(f"{path}/revisions/3/changes?against=1")).json()
    assert "/name" not in [difference["pointer"] for difference in against["differences"]]
    assert (await alice.get(f"{path}/revisions/1/changes")).json()["differences"] == []


@pytest.mark.parametrize(("name", "members", "listed"), [("K" * 128 * 1024, 13_000, 2), ("K", 19_000, 1_000)])
async def test_the_changes_of_a_revision_are_bounded(alice: Client, name: str, members: int, listed: int) -> None:
    before, after = ({name: {f"{number:x}": value for number in range(members)}} for value in (0, 1))
    path = f"/v1/characters/{(await character(alice, extensions=before))['id']}"
    assert (await alice.patch(path, json={"extensions": after})).status_code == 200
    await alice.get(f"{path}/revisions/1/changes")  # opens the connections and the threads
    with less_than(0.2):
        answer = await alice.get(f"{path}/revisions/2/changes")
    assert answer.status_code == 200
    assert len(answer.content) < 1_000_000
    assert (len(answer.json()["differences"]), answer.json()["truncated"]) == (listed, True)


async def test_as_many_changes_as_are_listed_are_not_truncated(alice: Client) -> None:
    path = f"/v1/characters/{(await character(alice))['id']}"
    for more, truncated in ((0, False), (1, True)):
        members = {str(number): more for number in range(MOST_DIFFERENCES + more)}
        version = (await alice.patch(path, json={"extensions": members})).json()["version"]
        compared = (await alice.get(f"{path}/revisions/{version}/changes", params={"against": 1})).json()
        assert (len(compared["differences"]), compared["truncated"]) == (MOST_DIFFERENCES, truncated)


async def test_a_history_is_paged(alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}"
    for number in range(2, 7):
        await alice.patch(path, json={"name": f"Mira {number}"})
    found, page = [], f"{path}/revisions?limit=2"
    while page:
        answer = await alice.get(page)
        found += [item["number"] for item in answer.json()["items"]]
        page = answer.links["next"]["url"] if "next" in answer.links else ""
    assert found == [6, 5, 4, 3, 2, 1]


async def test_others_cannot_read_revisions(alice: Client, charlie: Client) -> None:
    mira = await character(alice, visibility="public")
    path = f"/v1/characters/{mira['id']}/revisions"
    for part in ("", "/1", "/1/changes"):
        assert (await charlie.get(path + part)).status_code == 404
    assert (await charlie.post(f"{path}/1/restorations")).status_code == 403
    assert (await alice.post(f"{path}/2/restorations")).status_code == 404


async def test_a_restoration_may_name_the_version_that_was_read(alice: Client) -> None:
    made = await character(alice)
    path = f"/v1/characters/{made['id']}"
    assert (await alice.patch(path, json={"name": "Odo"})).status_code == 200
    restorations = f"{path}/revisions/1/restorations"
    assert (await alice.post(restorations, headers={"If-Match": f'"{made["id"]}-1"'})).status_code == 412
    assert (await alice.post(restorations, headers={"If-Match": f'"{made["id"]}-2"'})).status_code == 201


UNCHANGED: dict[str, tuple[list[dict[str, Any]], int, int]] = {  # changes, the revision to restore, and the status
    "the current revision": ([], 1, 200),
    "the current revision after a change": ([{"name": "Odo"}], 2, 200),
    "an older revision with the same content": ([{"name": "Odo"}, {"name": "Mira"}], 1, 200),
    "another visibility only": ([{"visibility": "public"}], 1, 200),
    "another name": ([{"name": "Odo"}], 1, 201),
    "an attribute": ([{"attributes": {"a": 1}}, {"attributes": {"a": None}}], 2, 201),
}


@pytest.mark.parametrize("case", UNCHANGED)
async def test_a_restoration_that_changes_nothing_is_no_revision(alice: Client, case: str) -> None:
    changes, number, status = UNCHANGED[case]
    made = await character(alice)
    path = f"/v1/characters/{made['id']}"
    for change in changes:
        assert (await alice.patch(path, json=change)).status_code == 200
    before = await alice.get(path)
    answer = await alice.post(f"{path}/revisions/{number}/restorations")
    assert (answer.status_code, "location" in answer.headers) == (status, status == 201)
    after = await alice.get(path)
    assert (answer.json(), answer.headers["etag"]) == (after.json(), after.headers["etag"])
    assert (after.json() == before.json()) == (status == 200)
    revisions = (await alice.get(f"{path}/revisions")).json()["items"]
    assert len(revisions) == len(changes) + (2 if status == 201 else 1)
    again = await alice.post(f"{path}/revisions/{number}/restorations", headers={"If-Match": answer.headers["etag"]})
    assert again.status_code == 200
    assert (await alice.post(f"{path}/revisions/{number}/restorations?dry_run=true")).status_code == 200
