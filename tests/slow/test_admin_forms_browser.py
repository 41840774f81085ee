"""Every form of the admin site in a real browser, as each role: what operators see, what is done, and what the
database, the feed of changes and the audit log have afterwards."""

import json
import re
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.admin.roles import MODERATION
from tests.slow import test_browser as pages
from tests.slow.test_browser import ROLES, Browser, SignUp, browsing, enter_password, serving, sign_in, wait_until
from tests.support.admin_forms import CASES, SCHEMA, Case

pytestmark = pytest.mark.slow

programs, url, browser, sign_up = pages.programs, pages.url, pages.browser, pages.sign_up

REASON = "An audit reason."
SUBMIT = "[data-uitest=submit_custom_form_button]"
OPERATORS = {"olga": "administrator", **ROLES}

Ids = dict[str, str]  # by the name of a row in this test


@pytest.fixture
def downloads(browser: Browser, tmp_path: Path) -> Path:
    allowed = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    return tmp_path


class Records:
    """What the database has, as the signed-in operator may read it, and the feed of a member."""

    def __init__(self, browser: Browser, member: httpx.Client) -> None:
        session = {"id": browser.driver.get_cookie("id")["value"]}
        self._site = httpx.Client(base_url=f"{browser.url}/admin/api", cookies=session)
        self._member = member

    def close(self) -> None:
        self._site.close()

    def row(self, table_and_id: str) -> Any:
        answer = self._site.get(f"/tables/{table_and_id}/")
        return answer.json() if answer.status_code == 200 else None

    def last_entry(self) -> Any:
        return self._site.get("/tables/audit_log/").json()["rows"][0]

    def feed(self, kind: str) -> Any:
        return self._member.get("/changes", params={"kind": kind, "limit": 100}).json()["items"] if kind else None


def test_every_form_is_a_case(url: str, browser: Browser) -> None:
    sign_in(browser, "olga")
    assert forms_in_sidebar(browser) == {case.form for case in CASES}


@pytest.mark.parametrize("operator", OPERATORS)
def test_forms_as_each_role(browser: Browser, sign_up: SignUp, downloads: Path, operator: str) -> None:
    role = OPERATORS[operator]
    member, signed_up = sign_up(f"member_{operator}"), time.monotonic()
    ids = rows_of(member, f"member_{operator}", sign_up(f"victim_{operator}"), f"victim_{operator}")
    sign_in(browser, operator)
    allowed = {"administrator": {case.form for case in CASES}, "moderator": MODERATION}.get(role, set())
    if allowed:
        assert forms_in_sidebar(browser) == allowed
    with closing(Records(browser, member)) as records:
        for case in CASES:
            check_links(browser, case, ids, allowed)
            if case.form in allowed:
                if case.form == "resend-verification":
                    time.sleep(max(0, signed_up + 61 - time.monotonic()))  # the address gets one a minute
                check_done(browser, records, case, ids, operator)
            else:
                check_refused(browser, records, case, ids, role)
    if role == "administrator":
        check_download(downloads, operator, ids)
    if role == "reader":
        assert browser.all(".sidebar a[href*='/forms/']") == []


def rows_of(member: httpx.Client, name: str, victim: httpx.Client, victim_name: str) -> Ids:
    """The ids of the rows that the forms are about. A row that a form creates has a stand-in for the other roles."""

    def create(path: str, **given: Any) -> str:
        answer = member.post(path, json=given)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    una = create("/characters", name="Una", description="Rude.", visibility="public")
    ids = {"una": una} | {each: create("/characters", name=each.title()) for each in ("joss", "lost", "gone")}
    for each in ("lost", "gone"):
        assert member.delete(f"/characters/{ids[each]}").status_code == 204
    return ids | {
        "member": name,
        "member_id": member.get("/users/me").json()["id"],
        "victim": victim_name,
        "victim_id": victim.get("/users/me").json()["id"],
        "rules": create("/templates", name="Rules", visibility="public"),
        "official": member.get("/templates", params={"owner": "platform"}).json()["items"][0]["id"],
        "family": create(f"/characters/{una}/relationships", target=ids["joss"], type="parent_of"),
        "mira": una,
        "rivalry": "",
    }


def forms_in_sidebar(browser: Browser) -> set[str]:
    browser.wait_for(".sidebar a[href*='/forms/']")
    links = browser.all(".sidebar a[href*='/forms/']")
    return {link.get_attribute("href").split("/")[-2] for link in links}


def check_links(browser: Browser, case: Case, ids: Ids, allowed: set[str] | frozenset[str]) -> None:
    """Above a row are the forms about it that the role may use."""
    if not case.about:
        return
    about = case.about.format_map(ids)
    browser.open(f"/admin/#/{about}/")
    links = f"[data-forms='{about}'] a"
    if case.form in allowed:
        browser.wait_for(f"{links}[href*='/{case.form}/']")
    else:
        browser.wait_for(".header:has(> h1)")
    found = browser.driver.find_elements("css selector", links)
    assert {link.get_attribute("href").split("/")[-2] for link in found} <= allowed
    assert browser.complaints() == []


def open_form(browser: Browser, case: Case, ids: Ids) -> None:
    table, _, row = case.about.format_map(ids).partition("/")
    browser.open("/admin/#/")  # the form before may be the same
    browser.open(f"/admin/#/forms/{case.form}/" + (f"?table={table}&row={row}" if row else ""))
    browser.wait_for("form textarea[name=reason]")  # the script has completed the form
    if case.filled:
        wait_until(lambda: value(browser, case.filled))
    for field, text in {**case.fields, "reason": REASON}.items():
        if field == "attribute_schema" and case.filled:
            assert json.loads(value(browser, field)) == SCHEMA  # that of the newest version
        enter(browser, field, text.format_map(ids) if text.startswith("{") and text[1:-1] in ids else text)


def check_done(browser: Browser, records: Records, case: Case, ids: Ids, operator: str) -> None:
    """It says what it would do and changes nothing; once confirmed it does it, and the log says who and why."""
    entry, feed = records.last_entry(), records.feed(case.feed)
    open_form(browser, case, ids)
    browser.wait_for(SUBMIT).click()
    assert browser.wait_for(".errors [data-question]").text.endswith("Choose True to confirm."), case.form
    browser.look(f"admin-form-{case.form}")
    assert (records.last_entry(), records.feed(case.feed)) == (entry, feed), case.form
    enter(browser, "confirm", "true")
    browser.wait_for(SUBMIT).click()
    told = str(wait_until(lambda: browser.texts("#success_message"))[0])
    assert told.startswith(case.told), told
    assert browser.complaints(but="422") == []
    entry = records.last_entry()
    if case.created:
        ids[case.created] = entry["row"]
    action, kind, row = case.entry
    assert (entry["action"], entry["kind"], entry["row"] or "") == (action, kind, row.format_map(ids))
    assert (entry["operator"], entry["member"], json.loads(entry["detail"])["reason"]) == (operator, None, REASON)
    if case.row:
        check_row(records.row(case.row.format_map(ids)), case)
    if case.feed:
        assert records.feed(case.feed) != feed, case.form


def check_row(row: Any, case: Case) -> None:
    if not case.expected:
        assert row is None
    for column, expected in case.expected.items():
        is_as_expected = isinstance(row[column], expected) if isinstance(expected, type) else row[column] == expected
        assert is_as_expected, (case.form, column, row[column])


def check_refused(browser: Browser, records: Records, case: Case, ids: Ids, role: str) -> None:
    """Whoever enters the address of a form that the role does not allow is refused in the page."""
    rows = [records.row(place.format_map(ids)) for place in (case.about, case.row) if place]
    before = (records.last_entry(), records.feed(case.feed), rows)
    browser.open(f"/admin/#/forms/{case.form}/")
    wait_until(lambda: case.form.replace("-", " ").title() in browser.texts("h1"))
    browser.wait_for("form textarea[name=reason]")
    enter(browser, "reason", REASON)
    enter(browser, "confirm", "true")
    browser.wait_for(SUBMIT).click()
    refusal = f"Your role is {role}, which does not allow this."
    wait_for_fault(browser, refusal)
    browser.look(f"admin-{role}-refused")
    assert browser.complaints(but="403") == []
    rows = [records.row(place.format_map(ids)) for place in (case.about, case.row) if place]
    assert (records.last_entry(), records.feed(case.feed), rows) == before, case.form


def check_download(downloads: Path, operator: str, ids: Ids) -> None:
    file = downloads / f"member_{operator}.ndjson"
    wait_until(file.exists)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert ids["una"] in [row["id"] for row in rows if row["kind"] == "character"]


def wait_for_fault(browser: Browser, fault: str) -> None:
    def is_shown() -> bool:
        with suppress(browser.stale):  # the page is changing
            return any(text.startswith(fault) for text in browser.texts(".errors:not([data-stale]) li"))
        return False

    wait_until(is_shown)


def value(browser: Browser, field: str) -> str:
    return str(browser.wait_for(f"form [name={field}]").get_property("value"))


def enter(browser: Browser, field: str, text: str) -> None:
    found = browser.wait_for(f"form [name={field}]")
    if found.tag_name == "select":
        found.find_element("css selector", f"option[value='{text}']").click()
    else:
        found.clear()
        found.send_keys(text)


def test_faults_name_their_field(browser: Browser) -> None:
    """In the page, with the line for JSON; the form stays filled."""
    sign_in(browser, "olga")
    browser.open("/admin/#/forms/create-a-template/")
    browser.wait_for("form textarea[name=reason]")
    for text, fault in [
        ('{"type": "object",\n "properties" {}}', "attribute_schema field - Line 2, column 15: expected ':'."),
        (
            '{"type": "object", "properties": {\n "a": {"type": "nothing"}}}',
            "attribute_schema/properties/a/type field - Line 2: ",
        ),
    ]:
        for field, entered in {"name": "Paladin", "attribute_schema": text, "reason": REASON}.items():
            enter(browser, field, entered)
        browser.wait_for(SUBMIT).click()
        wait_for_fault(browser, fault)
        assert value(browser, "attribute_schema") == text
    browser.look("admin-form-faults")
    enter(browser, "reason", "no")
    browser.wait_for(SUBMIT).click()
    wait_for_fault(browser, "reason field - ")
    assert browser.complaints(but="422") == []


def test_a_form_is_filled_from_the_id_that_is_entered(browser: Browser, sign_up: SignUp) -> None:
    una = sign_up("filler").post("/characters", json={"name": "Una", "tags": ["a", "b"], "attributes": {"a": 1}}).json()
    sign_in(browser, "olga")
    browser.open("/admin/#/forms/edit-a-character/")
    browser.wait_for("form textarea[name=reason]")
    enter(browser, "character", f"https://app.example.org/characters/{una['id']}\t")
    wait_until(lambda: value(browser, "version") == "1")
    assert (value(browser, "name"), value(browser, "tags")) == ("Una", "a\nb")
    assert json.loads(value(browser, "attributes")) == {"a": 1}
    assert browser.complaints() == []


def test_a_guesser_is_told_how_long_to_wait(programs: Any) -> None:
    with serving(RATE_LIMIT_SCALE="0.1") as url, browsing(programs, url) as browser:
        enter_password(browser, "nobody_here")
        for _ in range(12):  # the first delay is a second, in which a busy machine may not click again
            browser.wait_for("[data-uitest=login_button]").click()
            browser.wait_for("#message_popup a").click()
            if "Retry in" in "".join(browser.texts("[data-wait]")):
                break
        assert re.search(r"Retry in \d+ seconds?\.$", browser.wait_for("[data-wait]").text)
        browser.look("admin-sign-in-wait")
        name = browser.wait_for("[name=username]")
        name.clear()
        name.send_keys("olga")
        browser.wait_for("[data-uitest=login_button]").click()
        browser.wait_for("a[href$='/characters/']")
        assert browser.all("[data-wait]") == []
        assert browser.complaints(but="401|429") == []
