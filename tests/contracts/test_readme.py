"""The tour: the README's, and what the guide and the API page add to it, run as they are written."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.servers import ROOT, Service, service_of_its_own

README = (ROOT / "README.md").read_text()
PAGES = [README, *((ROOT / "docs" / name).read_text() for name in ("guide.md", "api.md"))]
TOUR = [block for page in PAGES for block in re.findall(r"^```sh tour\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]


@pytest.fixture(scope="module")
def fresh_service() -> Iterator[Service]:
    with service_of_its_own() as service:
        yield service.start()


@pytest.fixture(scope="module")
def told(fresh_service: Service) -> str:
    """All that the tour prints, every command of it having succeeded."""
    script = "\n".join(["set -eu", *TOUR])
    environment = os.environ | {"API": f"{fresh_service.url}/v1"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=fresh_service.directory,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "expected",
    [
        '"pointer":"/attributes/wits","detail":"30 is greater than the maximum of 20."',
        '"type":"student_of"',
        '"prompt":"Mira Halloran, inspector, wits 17, rain on a tin roof"',
        '{"pointer":"/attributes/wits","change":"narrowed"',
        '"outcome":"moved","filled":["/attributes/luck"]',
        '"detail":"17 is greater than the maximum of 12."',
        '"state":"invalid"',
        '"kind":"session","user":',
        '"wits": 16',
        '"width":1,"height":1,"color":"#c27a43"',
        '-- "mentor of" -->',
        '"notes":["1 of 2 tags are repeated or not valid; only the card keeps them."]',
        "it is neither PNG, WebP, JPEG, CHARX, BYAF, JSON nor YAML.",
        '"name":"Captain Duarte","description":"A harbour pilot with a past.","personality":"wry","scenario":"Fog."',
    ],
)
def test_the_tour_shows_what_it_says(told: str, expected: str) -> None:
    plain = re.sub(r'"detail":("[^"]*"),"pointer":("[^"]*")', r'"pointer":\2,"detail":\1', told)
    assert expected in plain


def test_done_twice_with_a_key_there_is_one(told: str) -> None:
    made = re.findall(r'\{"id":"([^"]*)","version":1,"name":"Ines"', told)
    assert len(made) == 2
    assert len(set(made)) == 1


def test_the_two_commands_are_the_makefiles() -> None:
    targets = re.findall(r"^make ([a-z-]+) ", README, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["run", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
