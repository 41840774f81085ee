"""Public libraries read our cards, and we read theirs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import character, signed_in
from tests.slow.test_clients import CLIENTS, PYTHON, TOURS, picture_in, run
from tests.support.cards import V1, V2, exported, imported, in_json
from tests.support.pictures import give_portrait
from tests.support.servers import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    run("make", f"PYTHON={sys.executable}", "deploy/clients/node_modules/.installed", cwd=ROOT)


def read_by_aichar(path: Path) -> Any:
    return json.loads(run(PYTHON, str(TOURS / "card_library.py"), "read", str(path), cwd=ROOT))


def through_node(action: str, document: Any) -> Any:
    command = [str(CLIENTS / ".venv/bin/node"), str(TOURS / "card_library.mjs"), action]
    done = subprocess.run(
        command, input=in_json(document), capture_output=True, check=True, timeout=60, env={"CLIENTS": str(CLIENTS)}
    )
    return json.loads(done.stdout)


async def test_aichar_reads_our_cards(app: Any, tmp_path: Path) -> None:
    async with await signed_in(app, "alice") as alice:
        mira = await character(alice, name="Mira", description="Dry.")
        pictured = await character(alice, name="Mira", description="Dry.")
        await give_portrait(pictured)
        card = (await imported(alice, in_json(V2)))["character"]
        for made, name in ((mira, "Mira"), (pictured, "Mira"), (card, V1["name"])):
            png = tmp_path / f"{made['id']}.png"
            png.write_bytes((await alice.get(f"/v1/characters/{made['id']}/card?format=png")).content)
            read = read_by_aichar(png)
            assert read["name"] == name
            assert read["greeting_message"] == (V1["first_mes"] if made is card else "")


async def test_we_read_the_cards_of_aichar(app: Any, tmp_path: Path) -> None:
    run(PYTHON, str(TOURS / "card_library.py"), "write", picture_in(tmp_path), str(tmp_path), cwd=ROOT)
    files = [path for path in sorted(tmp_path.iterdir()) if path.name != "mira.png"]
    assert len(files) == 15
    async with await signed_in(app, "alice") as alice:
        for path in files:
            made = (await imported(alice, path.read_bytes()))["character"]
            data = (await exported(alice, made))["data"]
            assert (data["name"], data["first_mes"]) == ("name", "greeting message"), path.name
            assert data["mes_example"] == "example messages"
            assert (made["portrait"] is not None) == (path.suffix == ".png")


async def test_character_card_utils_reads_our_cards(app: Any) -> None:
    async with await signed_in(app, "alice") as alice:
        mira = await character(alice, name="Mira", description="Dry.", tags=["noir"])
        one = (await imported(alice, in_json(V1)))["character"]
        for made in (mira, one):
            ours = await exported(alice, made, spec="v2")
            theirs = through_node("read", ours)
            assert {name: ours["data"][name] for name in theirs["data"] if name in ours["data"]} == theirs["data"]
            assert theirs["data"]["name"] == made["name"]


async def test_we_read_the_cards_of_character_card_utils(app: Any) -> None:
    async with await signed_in(app, "alice") as alice:
        theirs = through_node("write", V1)
        made = (await imported(alice, in_json(theirs)))["character"]
        assert (await exported(alice, made))["data"] == theirs["data"]
