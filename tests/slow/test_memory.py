"""Slow readers of large cards and slow uploads against one real worker: its memory stays bounded, and it answers."""

import asyncio
import socket
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from service.database import embedded
from service.media.schemas import MAX_UPLOAD
from tests.conftest import DATA_DIR
from tests.support.cards import ICON, ICON_ASSET, V3, in_charx, in_json
from tests.support.pictures import saved
from tests.support.servers import Service, member_of, worker_of_its_own

pytestmark = pytest.mark.slow

ATTACKERS = 40
ADDRESSES = 4
MOST_MEMORY = 400 * 1024**2  # bytes, at the peak
UPLOAD = 49 * 1024**2
PICTURES_OF_EACH = 2  # of two users


@pytest.fixture
def service(database: None) -> Iterator[Service]:
    with worker_of_its_own(DATABASE_URL=embedded.dsn(DATA_DIR), RATE_LIMIT_SCALE="1000") as service:
        yield service.start()


def peak(service: Service) -> int:
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def report(attack: str, service: Service, health: float) -> None:
    figures = f"{attack}: peak {peak(service) / 1024**2:.0f} MiB, slowest /health/live {health:.2f} s"
    sys.stderr.write(f"{figures}\n")
    assert peak(service) < MOST_MEMORY, figures
    assert health < 1, figures


async def slowest_health(service: Service, until: "asyncio.Task[None]") -> float:
    """The longest time in seconds that /health/live took until the task ended."""
    slowest = 0.0
    async with httpx.AsyncClient(base_url=service.url, timeout=10) as client:
        while not until.done():
            began = time.monotonic()
            assert (await client.get("/health/live")).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.1)
    await until
    return slowest


async def connect(service: Service, number: int) -> socket.socket:
    each = socket.socket()
    each.setblocking(False)
    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    each.bind((f"127.0.0.{2 + number % ADDRESSES}", 0))
    await asyncio.get_running_loop().sock_connect(each, ("127.0.0.1", service.port))
    return each


def head(client: httpx.AsyncClient, line: str, *headers: str) -> bytes:
    lines = (line, "Host: 127.0.0.1", f"Authorization: {client.headers['Authorization']}", *headers, "", "")
    return "\r\n".join(lines).encode()


def charx_of_62_mebibytes() -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("card.json", in_json(V3))
        for number in range(62):
            archive.writestr(f"assets/{number}.bin", bytes([number]) * 1024**2)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["charx", "png"])
async def test_slow_readers_of_large_cards(service: Service, kind: str) -> None:
    async with member_of(service.url, f"reader_{kind}") as client:
        answer = await client.post("/v1/imports", files=[("file", ("large.charx", charx_of_62_mebibytes()))])
        (item,) = answer.json()["items"]
        character = f"/v1/characters/{item['character']['id']}"
        assert (await client.patch(character, json={"visibility": "public"})).status_code == 200
        path = f"{character}/card?format={kind}"
        whole = await client.get(path)
        assert len(whole.content) > 62 * 1024**2
        sockets = [await connect(service, number) for number in range(ATTACKERS)]
        try:
            loop = asyncio.get_running_loop()
            for each in sockets:
                await loop.sock_sendall(each, head(client, f"GET {path} HTTP/1.1"))
            health = await slowest_health(service, asyncio.create_task(asyncio.sleep(25)))
            async with member_of(service.url, f"other_{kind}") as other:
                assert (await other.get(path)).content == whole.content, "others are served"
        finally:
            for each in sockets:
                each.close()
    report(f"slow readers of {kind}", service, health)


def noise_of_40_megapixels() -> bytes:
    """As large as a portrait may be; its WebP is several times as large."""
    noise = Image.merge("RGB", [Image.effect_noise((6_320, 6_320), 200) for _ in range(3)])
    content = saved(noise, "JPEG", quality=4)
    assert len(content) < MAX_UPLOAD
    return content


async def test_large_pictures(service: Service) -> None:
    content = noise_of_40_megapixels()

    async def upload_all(clients: list[httpx.AsyncClient]) -> None:
        upload: Any = {"content": content, "headers": {"Content-Type": "image/jpeg"}, "timeout": 300}
        answers = await asyncio.gather(*(client.put("/v1/users/me/avatar", **upload) for client in clients))
        assert {answer.status_code for answer in answers} == {200}

    async with AsyncExitStack() as opened:
        users = [await opened.enter_async_context(member_of(service.url, f"painter_{n}")) for n in range(2)]
        health = await slowest_health(service, asyncio.create_task(upload_all(users * PICTURES_OF_EACH)))
    report(f"pictures of {len(content) / 1024**2:.1f} MiB", service, health)


async def test_the_icon_of_a_card_is_decoded_outside_of_the_worker(service: Service) -> None:
    """A PNG of 40 megapixels that is named as a JPEG, so that an export converts it."""
    icon = saved(Image.new("RGBA", (6_300, 6_300), (200, 30, 30, 255)), "PNG")
    async with member_of(service.url, "iconographer") as client:
        client.timeout = httpx.Timeout(60)
        declared = ICON_ASSET | {"uri": f"embeded://{ICON.replace('.png', '.jpg')}", "ext": "jpg"}
        document = V3 | {"data": V3["data"] | {"assets": [declared]}}
        card = in_charx(document, **{ICON.replace(".png", ".jpg"): icon})
        (item,) = (await client.post("/v1/imports", files=[("file", ("large.charx", card))])).json()["items"]
        path = f"/v1/characters/{item['character']['id']}/card?format=charx"
        before = peak(service)
        with zipfile.ZipFile(BytesIO((await client.get(path)).content)) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".jpg")]
            assert archive.read(name).startswith(b"\xff\xd8\xff")
    assert peak(service) - before < 50 * 1024**2


async def test_many_exports_of_large_cards_as_json(service: Service) -> None:
    card = in_json(V3 | {"data": V3["data"] | {"notes": ["x" * 24] * 230_000}})
    async with member_of(service.url, "collector") as client, member_of(service.url, "reader") as other:
        client.timeout = other.timeout = httpx.Timeout(60)
        (item,) = (await client.post("/v1/imports", files=[("file", ("large.json", card))])).json()["items"]
        character = f"/v1/characters/{item['character']['id']}"
        assert (await client.patch(character, json={"visibility": "public"})).status_code == 200

        async def export_all() -> None:
            answers = await asyncio.gather(*(each.get(f"{character}/card") for each in [client, other] * 10))
            assert {answer.status_code for answer in answers} <= {200, 503}

        health = await slowest_health(service, asyncio.create_task(export_all()))
    report(f"20 exports of {len(card) / 1024**2:.1f} MiB", service, health)


async def test_slow_uploads(service: Service) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.json"\r\n\r\n'
    loop, piece = asyncio.get_running_loop(), bytes(1024**2)

    async def upload(client: httpx.AsyncClient, each: socket.socket) -> None:
        """All but the last mebibyte, unless it is refused before."""
        headers = ("Content-Type: multipart/form-data; boundary=x", f"Content-Length: {UPLOAD}")
        try:
            await loop.sock_sendall(each, head(client, "POST /v1/imports HTTP/1.1", *headers) + form)
            for _ in range(48):
                await asyncio.wait_for(loop.sock_sendall(each, piece), 20)
        except (OSError, TimeoutError):
            return
        await asyncio.sleep(2)

    async def all_uploads(client: httpx.AsyncClient, sockets: list[socket.socket]) -> None:
        await asyncio.gather(*(upload(client, each) for each in sockets))

    async with member_of(service.url, "uploader") as client:
        sockets = [await connect(service, number) for number in range(ATTACKERS)]
        try:
            health = await slowest_health(service, asyncio.create_task(all_uploads(client, sockets)))
            card = {"files": [("file", ("mira.json", in_json(V3)))]}
            assert (await client.post("/v1/imports", **card)).status_code == 200, "a small import is served"
        finally:
            for each in sockets:
                each.close()
    report("slow uploads", service, health)
