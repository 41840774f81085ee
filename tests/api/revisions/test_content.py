"""Every column of a character is kept and restored by its history, or is named as left alone."""

from typing import Any

import httpx
import pytest

from service.characters.store import CONTENT, NOT_CONTENT
from service.characters.tables import Character
from tests.conftest import character, template
from tests.support.pictures import give_portrait

Client = httpx.AsyncClient

# Another value than that of a new character, for each column that clients set by PATCH.
CHANGES: dict[str, Any] = {
    "name": "Otto",
    "description": "Tall",
    "prompt": "In oil",
    "style": "anime",
    "tags": ["night"],
    "visibility": "unlisted",
    "attributes": {"strength": 3},
    "extensions": {"client": [1]},
    "template": None,
    "template_version": None,
}
SET_OTHERWISE = {"portrait"}


def test_every_column_is_content_or_excluded_by_name() -> None:
    columns = {column._meta.name for column in Character._meta.columns}
    assert {*CONTENT, *NOT_CONTENT} == columns
    assert not {*CONTENT} & NOT_CONTENT.keys()
    assert {*CONTENT} == CHANGES.keys() | SET_OTHERWISE, "say in CHANGES what a PATCH may make of the new column"


async def _columns(of: Any) -> dict[str, Any]:
    (row,) = await Character.select().where(Character.id == of["id"])
    return {name: row[name] for name in CONTENT}


@pytest.mark.parametrize("made_with_template", [False, True])
async def test_every_column_of_the_content_is_restored(alice: Client, made_with_template: bool) -> None:
    rules = await template(alice)
    pin = {"template": rules["id"], "template_version": 1}
    attributes = {"strength": 1, "race": "elf"}
    made = await character(alice, **(pin if made_with_template else {}), attributes=attributes)
    path = f"/v1/characters/{made['id']}"
    before, shown = await _columns(made), (await alice.get(path)).json()
    changed = await alice.patch(path, json=CHANGES if made_with_template else CHANGES | pin)
    assert changed.status_code == 200, changed.text
    await give_portrait(made)
    after = await _columns(made)
    assert [name for name in CONTENT if after[name] == before[name]] == [], "all of them changed"
    past = (await alice.get(f"{path}/revisions/1")).json()["character"]
    assert {name: past[name] for name in shown.keys() - {"portrait"}} == {
        name: shown[name] for name in shown.keys() - {"portrait"}
    }
    restored = await alice.post(f"{path}/revisions/1/restorations")
    assert restored.status_code == 201, restored.text
    left_alone = {"portrait": None, "visibility": after["visibility"]}
    assert (await _columns(made)) | {"portrait": None} == before | left_alone
    volatile = {"version", "updated_at", "portrait", "visibility"}
    assert {name: restored.json()[name] for name in shown.keys() - volatile} == {
        name: shown[name] for name in shown.keys() - volatile
    }
