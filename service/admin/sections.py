"""The parts of a row's page, which a script shows: sections of tables, texts and links."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from service.admin.pages import row_page

MOST_SHOWN = 20_000  # characters of a text
_ONE_LINE = 60  # bytes of JSON

Cell = str | dict[str, str | None]
Section = dict[str, Any]


def link(text: Any, table: str, row: Any) -> Cell:
    return {"text": str(text), "link": row_page(table, row)}


def links(title: str, **queries: str) -> Section:
    """Links to lists, by their names."""
    links = [{"text": name.replace("_", " "), "link": f"#/{query}"} for name, query in queries.items()]
    return {"title": title, "links": links}


def time_text(at: datetime | None, otherwise: str = "") -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else otherwise


def shown_value(value: Any, name: str = "") -> str:
    if value is msgspec.UNSET or value is None:
        return "—"
    if isinstance(value, str):
        if name.endswith("_at"):
            with suppress(ValueError):
                return time_text(datetime.fromisoformat(value).astimezone(UTC))
        text = value
    else:
        encoded = msgspec.json.encode(value)
        text = msgspec.json.format(encoded, indent=2 if len(encoded) > _ONE_LINE else 0).decode()
    return f"{text[:MOST_SHOWN]}…" if len(text) > MOST_SHOWN else text
