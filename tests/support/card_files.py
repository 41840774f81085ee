"""A small card in each dialect, and functions that put a document into each container."""

import base64
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import yaml
from PIL import Image

from tests.support.cards import V1, V2, V3, in_charx, in_json, in_png
from tests.support.pictures import apng, chunk, draw_picture

AGNAI = {
    "kind": "character",
    "name": "Mira Halloran",
    "persona": {"kind": "attributes", "attributes": {"mood": ["dry", "patient"], "job": ["inspector"]}},
    "scenario": "A harbour town.",
    "greeting": "You again.",
    "sampleChat": "{{char}}: Sit down.",
    "alternateGreetings": ["Close the door."],
    "tags": ["noir"],
    "characterBook": {"kind": "memory", "entries": [{"keywords": ["harbour"], "entry": "Cold.", "enabled": True}]},
    "voice": {"service": "none"},
}
PYGMALION = {
    "char_name": "Mira Halloran",
    "char_persona": "An inspector.",
    "world_scenario": "A harbour town.",
    "char_greeting": "You again.",
    "example_dialogue": "{{char}}: Sit down.",
    "avatar": "none",
}
TEXT_GENERATION = {"name": "Mira Halloran", "context": "An inspector.", "greeting": "You again.", "your_name": "Ada"}
DIALECTS: dict[str, Any] = {
    "V1": V1,
    "V2": V2,
    "V3": V3,
    "Agnai": AGNAI,
    "Pygmalion": PYGMALION,
    "text-generation-webui": TEXT_GENERATION,
}

PICTURE = draw_picture("PNG", 8, 8)


def in_ztxt(document: Any) -> bytes:
    return _with_chunk(b"zTXt", b"chara\0\0" + zlib.compress(_base64(document)))


def in_itxt(document: Any) -> bytes:
    return _with_chunk(b"iTXt", b"chara\0\1\0en\0translated\0" + zlib.compress(_base64(document)))


def in_jpeg(document: Any) -> bytes:
    """With the card as base64 in the UserComment of the SubIFD."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + _base64(document)
    return _saved("JPEG", exif.tobytes())


def in_webp(document: Any) -> bytes:
    """With the bytes of the card as numbers between commas in the UserComment of the first directory."""
    numbers = ",".join(map(str, in_json(document))).encode()
    comment = b"ASCII\0\0\0" + numbers
    entry = struct.pack(">HHII", 0x9286, 7, len(comment), 26)
    return _saved("WEBP", b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4) + comment)


def in_yaml(document: Any) -> bytes:
    text: str = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
    return b"# a card\n" + text.encode()


CONTAINERS: dict[str, Callable[[Any], bytes]] = {
    "PNG `tEXt`": lambda document: in_png(PICTURE, chara=document),
    "PNG `zTXt`": in_ztxt,
    "PNG `iTXt`": in_itxt,
    "APNG": lambda document: in_png(apng(), chara=document),
    "WebP": in_webp,
    "JPEG": in_jpeg,
    "CHARX": in_charx,
    "JSON": in_json,
    "YAML": in_yaml,
}


def in_byaf(**changes: Any) -> bytes:
    files: dict[str, Any] = {
        "manifest.json": {
            "schemaVersion": 1,
            "characters": ["characters/1/character.json"],
            "scenarios": ["scenarios/1.json"],
        },
        "characters/1/character.json": {
            "name": "mira",
            "displayName": "Mira Halloran",
            "persona": "{character} is an inspector.",
            "images": [{"path": "images/a.png"}],
            "loreItems": [{"key": "harbour, sea", "value": "Cold."}],
        },
        "scenarios/1.json": {
            "narrative": "A harbour town.",
            "formattingInstructions": "Be brief.",
            "firstMessages": [{"text": "You again, {user}."}, {"text": "Close the door."}],
            "exampleMessages": [{"text": "#{user}: Who did it?"}],
        },
        "characters/1/images/a.png": PICTURE,
    } | changes
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content if isinstance(content, bytes) else json.dumps(content))
    return target.getvalue()


def _base64(document: Any) -> bytes:
    return base64.b64encode(in_json(document))


def _with_chunk(kind: bytes, data: bytes) -> bytes:
    return PICTURE[:33] + chunk(kind, data) + PICTURE[33:]


def _saved(kind: str, exif: bytes) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 8), "#c27a43").save(target, kind, exif=exif)
    return target.getvalue()
