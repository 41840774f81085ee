"""A client of the list of changes."""

from collections.abc import Sequence
from typing import Any

import httpx


class Reader:
    """Keeps a copy of the resources of some kinds up to date, by id."""

    def __init__(self, member: httpx.AsyncClient, kind: str | Sequence[str] = "character", limit: int = 100) -> None:
        self.member = member
        self.parameters: dict[str, Any] = {"kind": kind, "limit": limit}
        self.copy: dict[str, Any] = {}
        self.versions: dict[str, int] = {}

    async def read_page(self) -> list[Any]:
        answer = await self.member.get("/v1/changes", params=self.parameters)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        for item in page["items"]:
            assert item["version"] >= self.versions.get(item["id"], 0), "an older version came after a newer one"
            self.versions[item["id"]] = item["version"]
            assert (item["kind"] in item) != item["deleted"]
            if item["deleted"]:
                self.copy.pop(item["id"], None)
            else:
                self.copy[item["id"]] = item[item["kind"]]
        self.parameters["after"] = page["next_cursor"]
        return list(page["items"])

    async def read(self) -> list[Any]:
        """Everything until now."""
        items: list[Any] = []
        while page := await self.read_page():
            items += page
        return items
