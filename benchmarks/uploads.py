"""Measures how uploads affect other clients. ``python -m benchmarks.uploads`` reads a character 200 times a second,
first alone and then while eight portraits of ten megapixels are uploaded. It prints both p99 and their ratio. The
clients run on the same machine."""

import http.client
import io
import json
import multiprocessing
import random
import statistics
import threading
import time
from urllib.parse import urlsplit

import httpx
from PIL import Image

from tests.support.servers import service_of_its_own

UPLOADS = 8
RATE = 200  # requests a second
IDLE = 10.0  # seconds
ROUNDS = 3
PASSWORD = "a long enough password"


def photograph(seed: int) -> bytes:
    """Ten megapixels that compress like a photograph."""
    chance = random.Random(seed)
    coarse = Image.frombytes("RGB", (242, 162), chance.randbytes(242 * 162 * 3))
    file = io.BytesIO()
    coarse.resize((3872, 2592), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def upload(url: str, token: str, characters: list[str], pictures: list[bytes]) -> None:
    def one(number: int) -> None:
        path = f"{url}/v1/characters/{characters[number]}/portrait"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"}
        answer = httpx.put(path, content=pictures[number], headers=headers, timeout=120)
        assert answer.status_code == 200, answer.text

    threads = [threading.Thread(target=one, args=(number,)) for number in range(UPLOADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def read(url: str, path: str, until: threading.Event | None = None) -> list[float]:
    """The milliseconds from each request to the end of its answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    took, due = [], time.perf_counter()
    ends = due + IDLE
    while not until.is_set() if until else due < ends:
        due += 1 / RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        sent = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        took.append((time.perf_counter() - sent) * 1000)
    return took


def busy(url: str, token: str, path: str, characters: list[str], seed: int) -> tuple[list[float], float]:
    """The times of ``read`` while the uploads run, and how many seconds the uploads took."""
    pictures = [photograph(seed + number) for number in range(UPLOADS)]
    uploading = multiprocessing.get_context("spawn").Process(target=upload, args=(url, token, characters, pictures))
    uploading.start()
    over = threading.Event()
    begun = time.perf_counter()

    def wait() -> None:
        uploading.join()
        over.set()

    threading.Thread(target=wait).start()
    took = read(url, path, over)
    assert uploading.exitcode == 0
    return took, time.perf_counter() - begun


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


def main() -> None:
    with service_of_its_own(RATE_LIMIT_SCALE="10000") as service:
        service.start()
        with service.client() as client:
            account = {"email": "a@example.org", "username": "alice", "password": PASSWORD}
            client.post("/v1/users", json=account).raise_for_status()
            session = client.post("/v1/sessions", json={"login": "alice", "password": PASSWORD}).json()
            client.headers["Authorization"] = f"Bearer {session['token']}"
            created = [
                client.post("/v1/characters", json={"name": "Mira", "visibility": "public"}) for _ in range(UPLOADS + 1)
            ]
            read_id, *characters = [answer.json()["id"] for answer in created]
            path = f"/v1/characters/{read_id}"
            read(service.url, path)  # warm-up
            for number in range(ROUNDS):
                idle_times = read(service.url, path)
                idle = p99(idle_times)
                took, seconds = busy(service.url, session["token"], path, characters, number * UPLOADS)
                figures = {
                    "idle_p99_ms": round(idle, 2),
                    "uploading_p99_ms": round(p99(took), 2),
                    "uploading_max_ms": round(max(took), 2),
                    "ratio": round(p99(took) / idle, 2),
                    "idle_median_ms": round(statistics.median(idle_times), 2),
                    "uploading_median_ms": round(statistics.median(took), 2),
                    "requests": len(took),
                    "uploads_took_s": round(seconds, 1),
                }
                print(json.dumps(figures))


if __name__ == "__main__":
    main()
