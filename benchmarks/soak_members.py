"""The members of the soak: each knows their own characters, and has the copy that the feed of changes gave."""

import asyncio
import io
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from PIL import Image

PASSWORD = "a long enough password"
TRIES = 5
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Wrong(Exception):
    """An answer that is not the expected one."""


def expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise Wrong(what)


class Busy(Exception):
    """Other requests are about all characters of the member."""


class Member:
    def __init__(self, client: httpx.AsyncClient, number: int, counts: Counter[str], pictures: list[bytes]) -> None:
        self.client = client
        self.chance = random.Random(number)
        self.name = f"soak-{uuid.uuid4().hex[:12]}"
        self.counts = counts
        self.pictures = pictures
        self.token = ""
        self.idle: list[Any] = []  # characters that no request is about, as they were read last
        self.trash: list[str] = []
        self.purged: list[str] = []
        self.sessions: list[str] = []
        self.page: tuple[int, str, set[str]] = (0, "", set())  # of the public list
        self.copy: dict[str, Any] = {}  # by id, from the feed
        self.cursor = ""
        self.reading = asyncio.Lock()

    async def send(self, method: str, path: str, status: int, token: str | None = None, **request: Any) -> Any:
        """The response. ``token`` "" is a visitor's. If the service is busy, it is asked again when it said."""
        token = self.token if token is None else token
        headers = request.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        for _ in range(TRIES):
            answer = await self.client.request(method, f"/v1{path}", headers=headers, **request)
            self.counts["requests"] += 1
            if answer.status_code != 503:
                break
            self.counts["503"] += 1
            await asyncio.sleep(int(answer.headers["Retry-After"]))
        expect(answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    async def sign_in(self) -> str:
        """A new token."""
        body = {"login": self.name, "password": PASSWORD}
        return str((await self.send("POST", "/sessions", 201, "", json=body)).json()["token"])

    async def sign_up(self) -> None:
        account = {"email": f"{self.name}@example.org", "username": self.name, "password": PASSWORD}
        await self.send("POST", "/users", 201, "", json=account)
        self.token = await self.sign_in()

    def word(self) -> str:
        return "".join(self.chance.choices(LETTERS, k=12))

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        """One of the characters, for this request alone. It is forgotten if the request fails."""
        if not self.idle:
            raise Busy
        character = self.idle.pop(self.chance.randrange(len(self.idle)))
        yield character
        self.idle.append(character)

    async def read_feed(self) -> int:
        """Reads a page. Returns the number of its items."""
        async with self.reading:
            after = {"after": self.cursor} if self.cursor else {}
            page = (await self.send("GET", "/changes", 200, params={"limit": 100} | after)).json()
            self.copy |= {item["id"]: item for item in page["items"]}
            self.cursor = page["next_cursor"]
            return len(page["items"])

    async def compare(self) -> None:
        """Reads the feed to its end, when nothing is written any more."""
        while await self.read_feed():
            pass
        for character in self.idle:
            item = self.copy.get(character["id"], {})
            expect(item.get("character") == character, f"the feed has {item} instead of {character}")
        for gone in (*self.trash, *self.purged):
            expect(self.copy.get(gone, {}).get("deleted") is True, f"the feed does not tell that {gone} is deleted")


def draw(number: int) -> bytes:
    """A picture of one megapixel that compresses like a photograph."""
    coarse = Image.frombytes("RGB", (75, 50), random.Random(number).randbytes(75 * 50 * 3))
    file = io.BytesIO()
    coarse.resize((1200, 800), Image.Resampling.BICUBIC).save(file, "PNG" if number % 4 == 0 else "JPEG")
    return file.getvalue()
