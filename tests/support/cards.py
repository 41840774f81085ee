"""Cards, and functions that import and export them."""

import base64
import io
import json
import zipfile
from typing import Any

import httpx

from tests.support.pictures import chunk

Client = httpx.AsyncClient

V1 = {
    "name": "Mira Halloran",
    "description": "An inspector who never sleeps.",
    "personality": "dry, patient",
    "scenario": "A harbour town in November.",
    "first_mes": "You again.",
    "mes_example": "<START>\n{{user}}: Who did it?\n{{char}}: Sit down.",
}
V2_DATA = V1 | {
    "creator_notes": "Best with rain.",
    "system_prompt": "",
    "post_history_instructions": "",
    "alternate_greetings": ["Close the door."],
    "tags": ["Detective", "Noir"],
    "creator": "ada",
    "character_version": 1.2,
    "character_book": {
        "extensions": {"depth": {"a": [1, 2.5, None]}},
        "entries": [
            {
                "keys": ["harbour"],
                "content": "Cold.",
                "extensions": {},
                "enabled": True,
                "insertion_order": 10,
                "id": 3,
                "position": "before_char",
            }
        ],
    },
    "extensions": {"talkativeness": "0.5", "depth_prompt": {"prompt": "", "depth": 4}},
    "unknown_field": {"nested": ["ж", "🌧", ""]},
}
V3_DATA = V2_DATA | {
    "group_only_greetings": [],
    "nickname": "Mira",
    "creator_notes_multilingual": {"de": "Am besten bei Regen."},
    "source": ["https://example.org/mira"],
    "creation_date": 1700000000,
    "assets": [{"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"}],
}
ICON = "assets/icon/image/main.png"
ICON_ASSET = {"type": "icon", "uri": f"embeded://{ICON}", "name": "main", "ext": "png"}
V2 = {"spec": "chara_card_v2", "spec_version": "2.0", "data": V2_DATA}
V3 = {"spec": "chara_card_v3", "spec_version": "3.0", "data": V3_DATA}


def in_json(card: Any) -> bytes:
    return json.dumps(card).encode()


def in_png(picture: bytes, **cards: Any) -> bytes:
    """The picture with a tEXt chunk for each card; ``cards`` are named by keyword."""
    return with_texts(picture, {keyword: base64.b64encode(in_json(card)) for keyword, card in cards.items()})


def with_texts(picture: bytes, texts: dict[str, bytes]) -> bytes:
    """The PNG with a tEXt chunk for each of ``texts``, by keyword, in front of its pixels."""
    added = b"".join(chunk(b"tEXt", keyword.encode() + b"\0" + value) for keyword, value in texts.items())
    pixels = next(at for kind in (b"IDAT", b"IEND") if (at := picture.find(kind)) >= 0) - 4
    return picture[:pixels] + added + picture[pixels:]


def in_charx(card: Any, **files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in {"card.json": in_json(card), **files}.items():
            archive.writestr(path, content)
    return file.getvalue()


async def import_files(member: Client, *contents: bytes, **request: Any) -> list[Any]:
    """The outcome of each file. The files are named 0, 1 and so on."""
    files = [("file", (str(number), content)) for number, content in enumerate(contents)]
    answer = await member.post("/v1/imports", files=files, **request)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def imported(member: Client, content: bytes) -> Any:
    """The outcome of a file; it must become a character."""
    (item,) = await import_files(member, content)
    assert item["status"] == 201, item
    return item


async def exported(member: Client, character: Any, **query: str) -> Any:
    """The card of a character as JSON."""
    answer = await member.get(f"/v1/characters/{character['id']}/card", params=query)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content)
