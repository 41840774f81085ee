"""Reads a card with aichar, or writes one in each format: ``read FILE``, or ``write PICTURE DIRECTORY``."""

import json
import sys
from pathlib import Path

import aichar

FIELDS = ("name", "summary", "personality", "scenario", "greeting_message", "example_messages")
FORMATS = ("tavernai", "sillytavern", "textgenerationwebui", "pygmalion", "aicompanion")

if sys.argv[1] == "read":
    path = sys.argv[2]
    load = aichar.load_character_card_file if path.endswith(".png") else aichar.load_character_json_file
    sys.stdout.write(json.dumps({name: getattr(load(path), name) for name in FIELDS}))
else:
    picture, directory = sys.argv[2], Path(sys.argv[3])
    values = {name: name.replace("_", " ") for name in FIELDS}
    character = aichar.create_character(**values, image_path=picture)
    for name in FORMATS:
        character.export_json_file(name, str(directory / f"{name}.json"))
        character.export_yaml_file(name, str(directory / f"{name}.yaml"))
        character.export_card_file(name, str(directory / f"{name}.png"))
