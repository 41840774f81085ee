"""The pages for people, in a real browser: complete, without an error, and asking no other host."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyotp
import pytest
from piccolo_api.mfa.authenticator.utils import get_b64encoded_qr_image
from PIL import Image

from tests.support.pictures import draw_picture

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / ".screenshots"
PATIENCE = 20.0  # seconds
SignUp = Callable[[str], httpx.Client]  # a member with this name, with a session

OPERATOR, PASSWORD = "olga", "an operator's password"
OPERATORS = (OPERATOR, "otto")
ROLES = {"rita": "reader", "mona": "moderator"}  # the others are administrators
CREATE_OPERATOR = "user create --is_admin=true --is_superuser=true --is_active=true"
SET_UP, SET_UP_FORM = "/admin/api/mfa-setup/", "form[method=post]"

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1400,1000"
)
FIELDS = "return [...document.querySelectorAll('input, textarea')].map(field => field.value).join()"


@pytest.fixture(scope="module")
def programs() -> tuple[Any, str, str]:
    webdriver: Any = pytest.importorskip("selenium.webdriver", reason="Needs selenium.")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("Needs Chromium and chromedriver.")
    return webdriver, chromium, chromedriver


@contextmanager
def serving(**settings: str) -> Iterator[str]:
    """The URL of a service that has its own database, demo data and operators."""
    data_dir = Path(tempfile.mkdtemp(prefix="character-service-browser-"))
    data_dir.chmod(0o755)  # as root, PostgreSQL runs as another user
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"DATA_DIR": str(data_dir), "PORT": str(port)} | settings
    service = subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_ready(service, url))
        for name in OPERATORS:
            account = (f"--username={name}", f"--email={name}@example.org", f"--password={PASSWORD}")
            create = [sys.executable, "-m", "piccolo.main", *CREATE_OPERATOR.split(), *account]
            subprocess.run(create, cwd=ROOT, env=environment, check=True)
        for name, role in ROLES.items():
            account = ("service", "operator", "create", f"--username={name}", f"--role={role}")
            create = [sys.executable, "-m", "piccolo.main", *account]
            subprocess.run(create, cwd=ROOT, env=environment, check=True, input=f"{PASSWORD}\n".encode())
        yield url
    finally:
        service.terminate()
        service.wait(PATIENCE)
        shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture(scope="module")
def url(programs: Any) -> Iterator[str]:
    with serving() as url:
        yield url


def is_ready(service: "subprocess.Popen[bytes]", url: str) -> bool:
    assert service.poll() is None, "the service ended by itself"
    try:
        return httpx.get(f"{url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], Any]) -> Any:
    """Returns the result of ``condition`` once it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return answer


class Browser:
    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url
        self.stale: Any = pytest.importorskip("selenium.common.exceptions").StaleElementReferenceException

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def all(self, selector: str) -> list[Any]:
        """Every element to be seen; none while the page changes."""
        found = self.driver.find_elements("css selector", selector)
        with suppress(self.stale):
            return [element for element in found if element.is_displayed()]
        return []

    def wait_for(self, selector: str) -> Any:
        return wait_until(lambda: self.all(selector))[0]

    def texts(self, selector: str) -> list[str]:
        """The text of every element to be seen; none while the page changes."""
        with suppress(self.stale):
            return [element.text for element in self.all(selector)]
        return []

    def look(self, name: str) -> None:
        """Keeps a picture; everything so far came from the service, and the page told of no policy broken."""
        SCREENSHOTS.mkdir(exist_ok=True)
        assert self.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))
        asked = [urlsplit(url) for url in self._requests()]
        assert {f"{url.scheme}://{url.netloc}" for url in asked if url.scheme not in ("data", "blob", "chrome")} <= {
            self.url
        }

    def _requests(self) -> list[str]:
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [request["request"]["url"] for request in sent]

    def complaints(self, but: str | None = None) -> list[str]:
        """The new messages of the console, without those about responses with the statuses ``but``, as 401|403, and
        without the one that Swagger UI logs for each link to an operation whose id has an underscore."""
        told = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]
        told = [each for each in told if "escaping deep link whitespace" not in each]
        return [each for each in told if but is None or not re.search(rf"status (of|code) ({but})\b", each)]


@pytest.fixture
def browser(programs: tuple[Any, str, str], url: str) -> Iterator[Browser]:
    with browsing(programs, url) as browser:
        yield browser


@contextmanager
def browsing(programs: tuple[Any, str, str], url: str) -> Iterator[Browser]:
    webdriver, chromium, chromedriver = programs
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tempfile.mkdtemp(prefix="character-service-chromium-")
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    try:
        yield Browser(driver, url)
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def operator(browser: Browser) -> Browser:
    """A browser in which an operator has signed in."""
    sign_in(browser, OPERATOR)
    return browser


def sign_in(browser: Browser, name: str) -> None:
    enter_password(browser, name)
    browser.look("admin-sign-in")
    browser.wait_for("[data-uitest=login_button]").click()
    browser.wait_for("a[href$='/characters/']")
    assert browser.complaints(but="401") == []  # it asks before it signs in


def enter_password(browser: Browser, name: str) -> None:
    browser.open("/admin")
    browser.wait_for("[name=username]").send_keys(name)
    browser.wait_for("[name=password]").send_keys(PASSWORD)


def test_the_documentation_shows_every_operation(browser: Browser, url: str) -> None:
    browser.open("/docs")
    browser.wait_for(".opblock")
    document = httpx.get(f"{url}/openapi.json").json()
    methods = {"get", "post", "put", "patch", "delete"}
    operations = {(method.upper(), path) for path, item in document["paths"].items() for method in methods & set(item)}
    shown = zip(browser.texts(".opblock-summary-method"), browser.texts(".opblock-summary-path"), strict=True)
    assert {(method, path.replace("\u200b", "")) for method, path in shown} == operations
    browser.look("docs")
    assert browser.complaints() == []


def test_the_documentation_calls_the_service(browser: Browser) -> None:
    browser.open("/docs")
    browser.wait_for("[id$=list_characters] .opblock-summary-control").click()
    browser.wait_for(".try-out__btn").click()
    browser.wait_for(".execute").click()
    assert browser.wait_for(".live-responses-table .response .response-col_status").text.startswith("200")
    browser.look("docs-try-out")
    assert browser.complaints() == []


def test_the_documentation_keeps_a_token_for_the_tab(browser: Browser, url: str) -> None:
    """Signs in, creates a character from the example and shows its portrait."""
    account = {"username": "dora", "email": "dora@example.org", "password": PASSWORD}
    assert httpx.post(f"{url}/v1/users", json=account).status_code == 201
    token = httpx.post(f"{url}/v1/sessions", json={"login": "dora", "password": PASSWORD}).json()["token"]
    browser.open("/docs")
    browser.wait_for(".opblock")
    browser.wait_for(".auth-wrapper .authorize").click()
    browser.wait_for(".auth-container input").send_keys(token)
    browser.wait_for(".modal-ux .authorize").click()
    browser.wait_for(".modal-ux .btn-done").click()
    browser.open("/docs#/Characters/create_character")
    browser.driver.refresh()
    browser.wait_for("[id$=create_character] .try-out__btn").click()
    browser.wait_for("[id$=create_character] .execute").click()
    assert browser.wait_for(".live-responses-table .response .response-col_status").text.startswith("201")
    browser.look("docs-create")

    with httpx.Client(base_url=f"{url}/v1", headers={"Authorization": f"Bearer {token}"}) as dora:
        (mira,) = dora.get("/characters", params={"owner": "me"}).json()["items"]
        png = {"Content-Type": "image/png"}
        picture = draw_picture(width=300, height=300)
        assert dora.put(f"/characters/{mira['id']}/portrait", content=picture, headers=png).status_code == 200
    browser.open("/docs#/Characters/get_portrait")
    browser.driver.refresh()
    browser.wait_for("[id$=get_portrait] .try-out__btn").click()
    field = browser.wait_for("[id$=get_portrait] [data-param-name=character_id] input")
    field.clear()
    field.send_keys(mira["id"])
    browser.wait_for("[id$=get_portrait] .execute").click()
    shown = browser.wait_for(".live-responses-table img")
    assert shown.get_attribute("src").startswith("blob:")
    wait_until(lambda: shown.get_property("naturalWidth") > 0)
    browser.look("docs-portrait")
    assert browser.complaints() == []


def test_the_documentation_shows_a_lock_where_a_token_is_needed(browser: Browser, url: str) -> None:
    browser.open("/docs")
    browser.wait_for(".opblock")
    operations = [
        operation for item in httpx.get(f"{url}/openapi.json").json()["paths"].values() for operation in item.values()
    ]
    locked = browser.all(".opblock:has(.authorization__btn)")
    assert {each.get_attribute("id").partition("-")[2].rpartition("-")[2] for each in locked} == {
        operation["operationId"] for operation in operations if operation["security"] == [{"token": []}]
    }


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_pages_fit_the_screen_and_the_colours_of_the_system(browser: Browser, width: int, colours: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": colours}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    pages = {"/docs#/Characters/create_character": ".try-out__btn", "/docs/guide": "table", "/docs/api": "table"}
    for path, wanted in (pages | {"/problems/validation": "pre"}).items():
        browser.open(path)
        browser.wait_for(wanted)
        assert browser.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert (luminance(browser) < 100) == (colours == "dark")
        browser.look(f"{path.partition('#')[0].strip('/').replace('/', '-')}-{width}-{colours}")
    assert browser.complaints() == []


def test_an_operation_is_one_row_on_a_phone(browser: Browser) -> None:
    size = {"width": 390, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.open("/docs")
    browser.wait_for(".opblock")
    wrapped = browser.driver.execute_script("""
        const box = (row, part) => row.querySelector(part)?.getBoundingClientRect()
        const isRow = ([left, right]) => !left || !right
          || (left.right <= right.left + 1 && left.top < right.bottom && right.top < left.bottom)
        return [...document.querySelectorAll(".opblock-summary")].filter(row => {
          const text = box(row, ".opblock-summary-path-description-wrapper")
          return ![[box(row, ".opblock-summary-method"), text], [text, box(row, ".authorization__btn")]].every(isRow)
        }).map(row => row.innerText)""")
    assert wrapped == []


def test_filters_by_attributes_can_be_tried(browser: Browser) -> None:
    browser.open("/docs#/Characters/list_characters")
    browser.wait_for(".try-out__btn").click()
    field = browser.wait_for("tr[data-param-name=attributes] textarea")
    for sent, query in (("{}", ""), ('{"attributes.wits.gte": "10"}', "&attributes.wits.gte=10")):
        field.clear()
        field.send_keys(sent)
        browser.wait_for(".execute").click()
        wait_until(
            lambda query=query: browser.texts(".request-url pre") == [f"{browser.url}/v1/characters?limit=20{query}"]
        )
    assert browser.texts(".live-responses-table .response-col_status")[1:] == ["200"]
    assert browser.complaints() == []


def luminance(browser: Browser) -> float:
    """The brightness of the page's upper left corner, from 0 to 255."""
    with Image.open(BytesIO(browser.driver.get_screenshot_as_png())) as picture:
        value = picture.convert("L").getpixel((2, 2))
    assert isinstance(value, int)
    return value


def test_the_documentation_shows_a_problem_in_one_line(browser: Browser) -> None:
    browser.open("/docs#/Characters/get_character")
    browser.wait_for(".response[data-code=default]")
    links = {
        element.get_attribute("href").rpartition("/")[2] for element in browser.all(".response a[href*='/problems/']")
    }
    assert {"bad-request", "forbidden", "not-found", "unauthorized", "unavailable"} <= links
    assert len(browser.all(".response .model-example")) == 1  # that of 200


def test_problems_are_explained(browser: Browser) -> None:
    browser.open("/problems")
    browser.wait_for("a[href='/problems/not-found']").click()
    assert browser.wait_for("h1").text == "404 Not Found"
    assert '"type": "/problems/not-found"' in browser.wait_for("pre").text
    browser.look("problem")
    assert browser.complaints() == []


def test_operators_see_counts_and_the_last_actions(operator: Browser) -> None:
    operator.wait_for(".welcome [data-shown]")
    rows, state, actions = (each.text for each in operator.all(".welcome ul"))
    assert "Members: " in rows
    assert "database: ok" in state
    assert "olga Signed in" in actions
    assert "Operators" in operator.texts(".sidebar a[href$='/piccolo_user/']")
    operator.look("admin-home")
    operator.wait_for(".welcome a[href='#/characters/']").click()
    operator.wait_for("tbody tr")
    operator.driver.back()
    operator.wait_for(".welcome [data-shown]")  # once
    assert len(operator.all(".welcome [data-shown]")) == 1
    assert operator.complaints() == []


def test_operators_see_the_characters_by_name(operator: Browser) -> None:
    operator.wait_for("a[href$='/characters/']").click()
    operator.wait_for("tbody tr")
    assert len(operator.all("tbody tr")) == 15
    assert "OWNER" in operator.texts("thead th")
    assert "sefu_lampwright" in operator.texts("tbody td")
    operator.look("admin-characters")
    assert operator.complaints() == []


def test_operators_see_portraits(operator: Browser, url: str) -> None:
    member = {"username": "petra", "email": "petra@example.org", "password": PASSWORD}
    assert httpx.post(f"{url}/v1/users", json=member).status_code == 201
    session = httpx.post(f"{url}/v1/sessions", json={"login": "petra", "password": PASSWORD}).json()
    with httpx.Client(base_url=f"{url}/v1", headers={"Authorization": f"Bearer {session['token']}"}) as petra:
        mira = petra.post("/characters", json={"name": "Mira Halloran"}).json()
        png = {"Content-Type": "image/png"}
        for path in (f"/characters/{mira['id']}/portrait", "/users/me/avatar"):
            assert petra.put(path, content=draw_picture(width=300, height=300), headers=png).status_code == 200
    for table in ("characters", "users", "files"):
        operator.open(f"/admin/#/{table}/")
        picture = operator.wait_for("td img[data-file]")
        wait_until(lambda picture=picture: picture.get_property("naturalWidth") == 64)
        operator.look(f"admin-{table}-pictures")
    operator.open(f"/admin/#/characters/{mira['id']}/")
    operator.wait_for("form img[data-file]")
    operator.look("admin-character-picture")
    assert operator.complaints() == []


def test_operators_see_no_secret(operator: Browser, url: str) -> None:
    member = {"username": "alice", "email": "alice@example.org", "password": PASSWORD}
    assert httpx.post(f"{url}/v1/users", json=member).status_code == 201
    session = httpx.post(f"{url}/v1/sessions", json={"login": "alice", "password": PASSWORD}).json()
    secrets = ("pbkdf2", "$argon2", session["token"], operator.driver.get_cookie("id")["value"])
    for table in ("piccolo_user", "operator_sessions", "tokens", "users", "audit_log"):
        operator.open(f"/admin/#/{table}/")
        title = {"piccolo_user": "Operators"}.get(table, table.replace("_", " ").title())
        wait_until(lambda title=title: title in operator.texts("h1"))
        operator.wait_for("tbody tr")
        operator.look(f"admin-{table}")
        operator.wait_for("tbody td a").click()
        operator.wait_for("form label")
        operator.look(f"admin-{table}-row")
        shown = operator.driver.page_source + operator.driver.execute_script(FIELDS)
        assert not [secret for secret in secrets if secret in shown]
    assert operator.complaints() == []


def test_operators_are_offered_nothing_that_would_be_refused(operator: Browser) -> None:
    operator.open("/admin/#/characters/")
    operator.wait_for("tbody tr")
    assert operator.texts("a.button") == ["SORT", "SHOW FILTERS", "EXPORT CSV"]
    assert operator.all("table input, table [data-uitest]") == []
    operator.wait_for("tbody td a").click()
    operator.wait_for("[name=name]")
    assert "View Characters" in [text.partition("\n")[0] for text in operator.texts("h1")]
    assert operator.all("[data-uitest=save_button], [data-uitest=drop_down_button]") == []
    assert operator.all("[data-uitest$=_array_widget] a") == []
    operator.look("admin-character")
    operator.driver.find_element("id", "user").click()
    operator.wait_for("[data-uitest=logout_button]")
    assert len(operator.all("a[href$='/api/mfa-setup/']")) == 1
    assert operator.complaints() == []


@contextmanager
def signed_up(url: str, name: str) -> Iterator[httpx.Client]:
    """A new member with a session."""
    with httpx.Client(base_url=f"{url}/v1") as member:
        account = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
        assert member.post("/users", json=account).status_code == 201
        session = member.post("/sessions", json={"login": name, "password": PASSWORD}).json()
        member.headers["Authorization"] = f"Bearer {session['token']}"
        yield member


@pytest.fixture
def sign_up(url: str) -> Iterator[SignUp]:
    with ExitStack() as clients:

        def sign_up(name: str) -> httpx.Client:
            return clients.enter_context(signed_up(url, name))

        yield sign_up


def test_operators_use_a_second_factor(browser: Browser) -> None:
    enter_password(browser, "otto")
    browser.wait_for("[data-uitest=login_button]").click()
    browser.wait_for("a[href$='/characters/']")
    browser.driver.find_element("id", "user").click()
    browser.wait_for("a[href$='/api/mfa-setup/']").click()
    submit_set_up(browser, "not his password")
    assert browser.wait_for(".error").text == "The password is not right."
    assert browser.complaints(but="401") == []
    phone, recovery_codes = add_second_factor(browser, "second-factor")
    assert browser.complaints() == []

    sign_out(browser)
    enter_password(browser, "otto")
    browser.wait_for("[data-uitest=login_button]").click()
    for wrong in ("000000", phone.at(time.time() - 600)):
        enter_code(browser, wrong)
        wait_until(lambda: "Problem logging in" in browser.driver.page_source)
        assert browser.wait_for("[data-wait]").text.startswith("The code is not right, or was used before.")
    browser.look("second-factor-wrong-code")
    code = phone.now()
    enter_code(browser, code)
    browser.wait_for("a[href$='/characters/']")
    browser.look("second-factor-signed-in")

    sign_out(browser)
    enter_password(browser, "otto")
    browser.wait_for("[data-uitest=login_button]").click()
    enter_code(browser, code)  # again
    wait_until(lambda: "Problem logging in" in browser.driver.page_source)
    enter_code(browser, recovery_codes[0])
    browser.wait_for("a[href$='/characters/']")
    assert browser.complaints(but="401") == []

    browser.open(SET_UP)
    browser.wait_for("[name=code]").send_keys(recovery_codes[0])  # again
    submit_set_up(browser, PASSWORD)
    assert browser.wait_for(".error").text == "The code is not right."
    browser.wait_for("[name=code]").send_keys(recovery_codes[1])
    browser.look("second-factor-remove")
    submit_set_up(browser, PASSWORD)
    wait_until(lambda: "Your second factor is removed." in browser.driver.page_source)
    browser.look("second-factor-removed")
    sign_out(browser)
    enter_password(browser, "otto")
    browser.wait_for("[data-uitest=login_button]").click()
    browser.wait_for("a[href$='/characters/']")
    assert browser.complaints(but="401") == []


def test_operators_must_set_up_an_obligatory_second_factor(programs: Any) -> None:
    with serving(SECOND_FACTOR_REQUIRED="true") as url, browsing(programs, url) as browser:
        enter_password(browser, "otto")
        browser.wait_for("[data-uitest=login_button]").click()
        add_second_factor(browser, "second-factor-required")
        browser.wait_for("a[href='/admin/']").click()
        browser.wait_for("a[href$='/characters/']")
        assert browser.complaints(but="401|403") == []
        browser.open("/admin/")
        browser.wait_for("a[href$='/characters/']")
        assert browser.complaints() == []


def add_second_factor(browser: Browser, name: str) -> tuple[pyotp.TOTP, list[str]]:
    """Returns the secret in the QR code, and the recovery codes."""
    browser.wait_for(SET_UP_FORM)
    browser.look(name)
    submit_set_up(browser, PASSWORD)
    picture = browser.wait_for("img")
    wait_until(lambda: picture.get_property("naturalWidth") > 100)
    browser.look(f"{name}-added")
    phone = pyotp.TOTP(browser.wait_for("code").text)
    address = phone.provisioning_uri(name="otto", issuer_name="Character service")
    assert picture.get_attribute("src") == f"data:image/png;base64,{get_b64encoded_qr_image(address)}"
    recovery_codes = browser.wait_for("pre").text.split()
    browser.wait_for("[name=code]").send_keys(phone.at(time.time() - 30))  # so that the next one is not used up
    browser.wait_for(f"{SET_UP_FORM} button").click()
    browser.wait_for("form:has([value=remove])")
    browser.look(f"{name}-active")
    return phone, recovery_codes


def submit_set_up(browser: Browser, password: str) -> None:
    browser.wait_for(f"{SET_UP_FORM} [name=password]").send_keys(password)
    browser.wait_for(f"{SET_UP_FORM} button").click()


def enter_code(browser: Browser, code: str) -> None:
    field = browser.wait_for("[placeholder='123456']")
    field.clear()
    field.send_keys(code)
    browser.wait_for("[data-uitest=login_button]").click()


def sign_out(browser: Browser) -> None:
    browser.open("/admin/")
    browser.wait_for("a[href$='/characters/']")
    browser.driver.find_element("id", "user").click()
    browser.wait_for("[data-uitest=logout_button]").click()
    browser.driver.switch_to.alert.accept()
    browser.wait_for("[name=username]")
