"""A token that a client puts into a path or header is masked in log lines, problems and the audit log, whatever
answers."""

import io
import json
import sys
from collections.abc import Iterator
from typing import Any, get_args
from urllib.parse import quote

import httpx
import pytest
from loguru import logger
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from service.audit.tables import AuditEntry
from service.auth.secrets import Kind, new_token
from service.auth.tables import Token
from service.identifiers import masked
from service.limits.rate_limits import READS
from service.log import _development_format, set_up_logging
from service.settings import Settings, settings
from service.web.middleware.load_shedding import LoadShedding
from tests.conftest import PASSWORD
from tests.support.servers import Service

SECRET = new_token("mail")
SPELLINGS = {
    "plain": SECRET,
    "percent-encoded": "".join(f"%{ord(character):02x}" for character in SECRET),
    "its prefix percent-encoded": SECRET.replace("_", "%5F"),
    "percent-encoded twice": quote("".join(f"%{ord(character):02x}" for character in SECRET)),
    "cut off": SECRET[:40],
    "with another end": SECRET + "%0A",
    "with its prefix in capitals": SECRET.replace("chm_", "CHM_"),
}


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The log of development, with its fields."""
    lines: list[str] = []
    sink = logger.add(
        lambda line: lines.append(str(line) + str(line.record["extra"])),
        level="INFO",
        format=_development_format,
        diagnose=False,
        backtrace=False,
    )
    yield lines
    logger.remove(sink)


def rate_limited(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(READS.__dict__, "most", 0)


def overloaded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LoadShedding, "has_capacity_for", lambda *_: False)


def failing(patch: pytest.MonkeyPatch) -> None:
    async def fail(username: str) -> None:
        raise RuntimeError(f"Nobody expected {username}.")

    patch.setattr("service.users.queries.get_user", fail)


FOREIGN = {"Host": "evil.example"}
REQUESTS: list[tuple[str, str, dict[str, str], Any, int]] = [
    ("PUT", "/v1/password-resets/{}", {}, None, 404),
    ("PUT", "/v1/email-verifications/{}", {}, None, 404),
    ("PUT", "//v1//password-resets/{}/", {}, None, 404),
    ("OPTIONS", "/v1/password-resets/{}", {}, None, 404),
    ("OPTIONS", "/v1/users/{}", {}, None, 204),
    ("HEAD", "/v1/users/{}", {}, None, 404),
    ("GET", "/v1/users/{}", {}, None, 404),
    ("GET", "/v1/users/{}/avatar", {}, None, 404),
    ("GET", "/v1/users/{}?unknown=1", {}, None, 400),
    ("DELETE", "/v1/users/{}", {}, None, 405),
    ("TRACE", "/v1/users/{}", {}, None, 405),
    ("GET", "/v1/users/{}", FOREIGN, None, 400),
    ("GET", "/{}/" + "a" * 9_000, {}, None, 414),
    ("GET", "/" + "a" * 220 + "/{}/" + "a" * 9_000, {}, None, 414),
    ("GET", "/v1/users/{}", {"X-Large": "a" * 40_000}, None, 431),
    ("GET", "/v1/users/{}", {}, rate_limited, 429),
    ("GET", "/v1/users/{}", {}, overloaded, 503),
    ("GET", "/v1/users/{}", {}, failing, 500),
    ("GET", "/{}", {}, None, 404),
    ("GET", "/media/{}", {}, None, 404),
    ("GET", "/problems/{}", {}, None, 404),
    ("GET", "/docs/{}", {}, None, 404),
    ("GET", "/docs-assets/{}", {}, None, 404),
    ("POST", "/admin/{}", {}, None, 405),
]
# Also without the prefix of the token
PAGES = (
    "/v1/password-resets/{}", "/v1/email-verifications/{}", "/V1/Password-Resets/{}", "/v1/password-resets;{}",
    "/v1/password-resets\\{}", "/v1/password_reset/{}", "/reset-password/{}", "/en/verify-email/{}",
    "/Verify_Email//{}",
)  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    ("method", "path", "headers", "arrange", "status"),
    REQUESTS,
    ids=[f"{method} {path[:30]} {status}" for method, path, _, _, status in REQUESTS],
)
async def test_no_answer_logs_or_repeats_a_token_of_the_path(
    stranger: httpx.AsyncClient,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    spelling: str,
    method: str,
    path: str,
    headers: dict[str, str],
    arrange: Any,
    status: int,
) -> None:
    if arrange:
        arrange(monkeypatch)
    url = httpx.URL("http://localhost" + path.replace("{}", SPELLINGS[spelling]))
    answer = await stranger.request(method, url, headers=headers)
    assert answer.status_code == status
    assert any(f"{method} /" in line for line in lines)
    assert not tells_secret("".join(lines))
    assert not tells_secret(answer.text)


@pytest.mark.parametrize("path", PAGES)
def test_a_token_without_its_prefix_is_masked_behind_the_names_of_its_pages(path: str) -> None:
    assert masked(path.format(SECRET[4:])) == path.format("***")


@pytest.mark.parametrize(
    "path", ["/v1/users/me/password", "/v1/password-resets", "/v1/email-verifications/", "/v1/characters/verify_all"]
)
def test_other_paths_are_logged_as_they_are(path: str) -> None:
    assert masked(path) == path


def tells_secret(text: str) -> bool:
    """Whether at least half of the token's random characters are in ``text``, in any spelling of the tests."""
    half = SECRET[:26]
    spellings = (half, "".join(f"%{ord(character):02x}" for character in half), half.replace("_", "%5F"))
    return any(each in text or quote(each) in text for each in spellings)


async def test_no_header_brings_a_token_into_the_log(alice: httpx.AsyncClient, lines: list[str]) -> None:
    headers = {"X-Request-ID": SECRET, "User-Agent": f"curl/8 {SECRET}"}
    session = await alice.post("/v1/sessions", json={"login": "alice", "password": PASSWORD}, headers=headers)
    assert session.status_code == 201
    assert session.headers["X-Request-ID"] != SECRET
    stored = [await AuditEntry.select(), await Token.select(), (await alice.get("/v1/sessions")).json()]
    assert "curl/8 chm_***" in str(stored[0])
    assert not tells_secret(f"{lines} {stored}")


def test_an_exception_in_the_log_of_production_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    production = Settings(environment="production")
    try:
        set_up_logging(production)
        try:
            raise RuntimeError(f"{SECRET} is not found")
        except RuntimeError:
            logger.exception("Failed with {}", SECRET)
        line = json.loads(written.getvalue())
    finally:
        set_up_logging(settings)
    assert line["message"] == "Failed with chm_***"
    assert "RuntimeError: chm_***" in line["exception"]
    assert not tells_secret(str(line))


def test_a_refused_websocket_is_masked(running_service: Service) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"{running_service.url.replace('http', 'ws')}/v1/password-resets/{SECRET}")
    assert "/v1/password-resets/***" in running_service.output
    assert not tells_secret(running_service.output)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_token_is_masked(kind: Any) -> None:
    token = new_token(kind)
    assert masked(f"/v1/{token}/{token}?a") == f"/v1/{token[:4]}***/{token[:4]}***"


SPLIT = [
    (f"/v1/users/{SECRET[:14]}/{SECRET[14:]}", "/v1/users/chm_***"),
    (f"/v1/users/{SECRET[:4]}/{SECRET[4:30]}//{SECRET[30:]}", "/v1/users/chm_***"),
    (f"/v1/users/chm_{'/'.join(SECRET[4:])}", "/v1/users/chm_***"),
    (f"/v1/users/{SECRET[:14]}%2F{SECRET[14:]}", "/v1/users/chm_***"),
    ("/v1/password-resets/abc/def", "/v1/password-resets/***"),
    (f"//v1//password-resets//{SECRET[4:20]}/{SECRET[20:]}/", "//v1//password-resets//***"),
    ("GET /v1/email-verifications/abc/def?a=b 404", "GET /v1/email-verifications/***?a=b 404"),
    ("/v1/password%2Dresets/abc%2Fdef", "/v1/password-resets/***"),
]


@pytest.mark.parametrize(("text", "hidden"), SPLIT, ids=map(str, range(len(SPLIT))))
def test_a_token_that_slashes_split_is_masked(text: str, hidden: str) -> None:
    assert masked(text) == hidden


def test_what_takes_long_to_decode_is_not_decoded() -> None:
    encoded = "/" + "%25" * 3_000
    assert masked(f"{encoded}/{SECRET}") == f"{encoded}/chm_***"


@pytest.mark.parametrize(
    "text",
    [
        "/v1/users/chs_" + "a" * 28 + "/avatar",
        "/v1/password-resets",
        "/v1/characters?name=100%25",
        "/%",
        "/ch_%5F",
        "/v1/users/chm_bob",
    ],
)
def test_other_text_is_not_masked(text: str) -> None:
    assert masked(text) == text
