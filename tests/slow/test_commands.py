"""The commands as they are typed: what they print, also where they cannot do what is asked."""

import asyncio
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from service.database import embedded
from tests.conftest import DATA_DIR
from tests.support.servers import (
    ROOT,
    Service,
    environment_of,
    execute,
    piccolo,
    processes_of,
    service_of_its_own,
    wait_until,
)

pytestmark = pytest.mark.slow  # a process each

PASSWORD = "seven quiet harbours"
PRODUCTION = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "127.0.0.1", "SECRET_KEY": "0123456789abcdef" * 2}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with service_of_its_own() as service:
        yield service.start()


def sign_in(service: Service, name: str) -> int:
    with service.client() as visitor:
        visitor.get("/admin/")
        headers = {"X-CSRFToken": visitor.cookies["csrftoken"]}
        given = {"username": name, "password": PASSWORD}
        return visitor.post("/admin/public/login/", json=given, headers=headers).status_code


# Operators


def test_an_operator_is_created_with_a_password_from_standard_input(service: Service) -> None:
    data_dir = str(service.data_dir)
    done = piccolo("service", "operator", "create", "--username=piped", given=f"{PASSWORD}\n", DATA_DIR=data_dir)
    assert (done.returncode, done.stdout) == (0, "The administrator piped is created.\n"), done.stderr
    assert sign_in(service, "piped") == 200
    done = piccolo("service", "operator", "list", DATA_DIR=data_dir)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["username", "state"], ["piped", "active"]]
    done = piccolo("service", "operator", "disable", "--username=piped", DATA_DIR=data_dir)
    assert (done.returncode, done.stdout) == (0, "The operator piped is disabled.\n"), done.stderr
    assert sign_in(service, "piped") == 401
    done = piccolo("service", "operator", "create", "--username=piped", given=f"{PASSWORD}\n", DATA_DIR=data_dir)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "There is an operator piped already.\n")


def test_an_operator_is_created_at_a_terminal(service: Service) -> None:
    answers = {"E-mail address, or nothing: ": "", "Password: ": PASSWORD, "Once more: ": PASSWORD}
    output = typed(service, "service operator create --username=typed", answers)
    assert "The administrator typed is created." in output
    assert PASSWORD not in output
    assert sign_in(service, "typed") == 200


def test_the_command_of_piccolo_creates_operators_too(service: Service) -> None:
    options = {"username": "own", "password": PASSWORD, "email": "own@example.org", "is_admin": "true"}
    options |= {"is_superuser": "false", "is_active": "true"}
    given = [f"--{name}={value}" for name, value in options.items()]
    done = piccolo("user", "create", *given, DATA_DIR=str(service.data_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    assert sign_in(service, "own") == 200


def typed(service: Service, command: str, answers: Mapping[str, str]) -> str:
    """The output of the command at a terminal, where the answer to each prompt is typed."""
    outer, inner = pty.openpty()
    program = Path(sys.executable).with_name("piccolo")
    environment = environment_of(DATA_DIR=str(service.data_dir))
    with subprocess.Popen(
        [program, *command.split()],
        cwd=ROOT,
        env=environment,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    ) as process:
        os.close(inner)
        output = ""
        for prompt, answer in answers.items():
            while not output.endswith(prompt):
                assert select.select([outer], [], [], 60)[0], f"It does not ask for {prompt!r}: {output}"
                output += os.read(outer, 4096).decode()
            os.write(outer, f"{answer}\n".encode())
        while chunk := _read(outer):
            output += chunk
        assert process.wait(20) == 0, output
    os.close(outer)
    return output


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 4096).decode()
    except OSError:  # the program has ended
        return ""


# Where there is no database

COMMANDS = [
    "migrations forwards",
    "service seed --templates",
    "service purge",
    "service collect_files",
    "service operator list",
    "service operator create --username=ada",
    "service remove_second_factor ada",
    "service resync",
    "service stats",
    "service backup never_made",
]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://service@127.0.0.1:1/service", "127.0.0.1:1: [Errno 111] Connection refused"),
        ("nobody@/service", 'role "nobody" does not exist'),
        ("service@/nothing", 'database "nothing" does not exist'),
    ],
)
def test_a_command_without_its_database_ends_in_one_line(database: None, address: str, reason: str) -> None:
    address = address if "://" in address else embedded.dsn(DATA_DIR).replace("service@/service", address)
    for command in COMMANDS:
        done = piccolo(*command.split(), given=f"{PASSWORD}\n", **PRODUCTION, DATABASE_URL=address)
        assert done.returncode == 1, command
        assert done.stdout + done.stderr == f"The database cannot be reached: {reason}\n", command


def test_what_a_command_logs_is_beside_its_output_in_the_form_of_the_service(fresh_database: str) -> None:
    log = "from loguru import logger; logger.warning('Noticed.'); print('Printed.')"
    production = PRODUCTION | {"DATABASE_URL": fresh_database}
    done = piccolo("shell", "run", given=log, **production)
    pending, noticed = (json.loads(line) for line in done.stderr.splitlines() if line)
    assert "migrations haven't been run" in pending["message"]
    assert (noticed["level"], noticed["message"]) == ("WARNING", "Noticed.")
    assert "Printed." in done.stdout
    assert "Noticed." not in done.stdout.replace(log, "")


# The doctor


def examined(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """The state and the text by what was examined."""
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line.startswith(("ok ", "FAULT "))]
    return {name: (state, text) for state, name, text in rows}


def test_the_doctor_finds_nothing_in_a_service_that_works(service: Service) -> None:
    done = piccolo("service", "doctor", DATA_DIR=str(service.data_dir))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    found = examined(done)
    assert {state for state, _ in found.values()} == {"ok"}
    of_database = ["database", "clock", "extensions", "migrations", "writes", "privileges", "feed", "indexes"]
    assert list(found) == ["service", "temporary", *of_database, "storage", "files"]
    assert not list((service.data_dir / "files").rglob("doctor*"))


def test_the_doctor_finds_every_fault(fresh_database: str, tmp_path: Path) -> None:
    production = PRODUCTION | {"DATABASE_URL": fresh_database}
    mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": "1", "MAIL_FROM": "no-reply@example.org"}
    faults = mail | {
        "VALKEY_URL": "valkey://127.0.0.1:1",
        "DATA_DIR": "/proc/self",
        "WEB_CONCURRENCY": "4",
        "DATABASE_POOL_SIZE": "30",
        "TMPDIR": "/dev/shm",
    }
    done = piccolo("service", "doctor", **production, **faults)
    assert done.returncode == 1
    found = examined(done)
    state, text = found["migrations"]
    assert state == "FAULT"
    assert re.fullmatch(
        r"20\S+(, 20\S+){4} and \d+ more pending: run piccolo migrations forwards as the owner of the"
        r" database",
        text,
    )
    assert found["extensions"] == ("ok", "pg_trgm, unaccent: the first migration creates them")
    assert found["privileges"] == ("ok", "there are no tables yet")
    assert "skip   feed, mail, files: they need the migrations" in done.stdout
    assert found["database"][1].startswith(
        "4 workers (WEB_CONCURRENCY) with 31 connections each (DATABASE_POOL_SIZE) need 124, max_connections leaves "
    )
    assert found["temporary"] == ("FAULT", "/dev/shm is memory (tmpfs): set TMPDIR to a directory on a disk")
    assert found["smtp"][0] == "FAULT"
    assert "set LINKS_URL" in found["smtp"][1]
    for name in ("storage", "valkey"):
        assert found[name][0] == "FAULT", name
    assert found["clock"][0] == found["writes"][0] == found["service"][0] == "ok"
    assert piccolo("migrations", "forwards", **production).returncode == 0
    operator = fresh_database.replace("service@", "postgres@")
    for statement in (
        "REVOKE DELETE ON characters FROM service",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'users_pkey'::regclass",
        "UPDATE feed_cluster SET system_identifier = 1",
        "INSERT INTO files (name, size, width, height, color, stored_at) VALUES ('lost', 1, 1, 1, '#000000', now())",
    ):
        asyncio.run(execute(operator, statement))
    mail["LINKS_URL"] = "https://app.example.org"
    found = examined(piccolo("service", "doctor", **production, **mail, DATA_DIR=str(tmp_path / "new")))
    assert "Connection refused" in found.pop("smtp")[1]
    assert not (tmp_path / "new").exists(), "it changes nothing"
    assert {name: text for name, (state, text) in found.items() if state != "ok"} == {
        "privileges": "the role lacks characters (DELETE): run as the owner of the tables"
        " GRANT DELETE ON TABLE characters TO service;",
        "indexes": "users_pkey: not valid, REINDEX repairs them",
        "feed": "needs resync: run piccolo service resync",
        "files": "5 of 5 that the database names are missing; the first is lost-64.webp (nothing refers to it)",
    }


@pytest.mark.parametrize(
    ("of_database", "by", "fault"),
    [
        (r"service@", "nobody@", 'role "nobody" does not exist'),
        (r"/fresh_\w+", "/nothing", 'database "nothing" does not exist'),
        (r".+", "postgresql://service@127.0.0.1:1/x", "127.0.0.1:1: [Errno 111] Connection refused"),
    ],
)
def test_the_doctor_says_once_that_it_cannot_use_the_database(
    fresh_database: str, tmp_path: Path, of_database: str, by: str, fault: str
) -> None:
    """It still examines the rest."""
    away = {"DATABASE_URL": re.sub(of_database, by, fresh_database), "DATA_DIR": str(tmp_path)}
    done = piccolo("service", "doctor", **PRODUCTION, **away)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    found = examined(done)
    assert found["database"] == ("FAULT", fault)
    assert {name: state for name, (state, _) in found.items() if name != "database"} == {
        "service": "ok",
        "temporary": "ok",
        "storage": "ok",
    }
    skipped = "skip   clock, extensions, migrations, writes, privileges, feed, indexes, files: they need the database"
    assert done.stdout.splitlines()[-1] == skipped
    assert done.stderr.splitlines()[-1] == "1 of 4 examinations found a fault."


# Developers


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize(
    "words", ["", "service", "service doctor", "service restore", "migrations", "migrations backwards"]
)
def test_help_starts_nothing_and_needs_no_settings(words: str, option: str, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    for settings in ({}, {"SECRET_KEY": "short", "ENVIRONMENT": "nowhere"}):
        done = piccolo(*words.split(), option, DATA_DIR=str(data_dir), **settings)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Unrecognised" not in done.stdout
        *_, last = ["", *words.split()]
        expected = last if words.count(" ") else "collect_files"  # of one command, or the list of all
        assert expected in done.stdout
        assert not data_dir.exists()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_the_service_needs_no_settings(option: str) -> None:
    with service_of_its_own(("-m", "service", option), SECRET_KEY="short") as service:
        service.launch()
        assert service.wait() == 0
        assert service.output.startswith("usage: python -m service")


def test_help_needs_no_database() -> None:
    with service_of_its_own(("-m", "service", "--help")) as service:
        service.launch()
        assert service.wait() == 0
        assert service.output.startswith("usage: python -m service [-h] [--reload]\n")
        assert not service.data_dir.exists()


@pytest.mark.parametrize("option", ["--reload", "--unknown"])
def test_production_refuses_to_reload_and_every_start_an_unknown_option(option: str) -> None:
    production = PRODUCTION | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    reason = {"--reload": "--reload is for development", "--unknown": "unrecognized arguments: --unknown"}[option]
    with service_of_its_own(("-m", "service", option), **production) as service:
        service.launch()
        assert service.wait() == 2
        assert service.output.splitlines()[-1] == f"python -m service: error: {reason}"


def test_a_changed_file_starts_the_service_again() -> None:
    done = subprocess.run(["make", "--no-print-directory", "-n", "dev"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "exec .venv/bin/python -m service --reload"
    with service_of_its_own(("-m", "service", "--reload")) as service:
        for name in ("service", "piccolo_migrations"):
            shutil.copytree(ROOT / name, service.directory / name)
        shutil.copy(ROOT / "piccolo_conf.py", service.directory)
        service.environment["PYTHONPATH"] = str(service.directory)
        service.start()
        main = service.directory / "service" / "__main__.py"
        main.write_text(main.read_text().replace("Ready in", "Ready again in"))
        wait_until(lambda: "Ready again in" in service.output, "it did not start again")
        service.wait_until_it_answers()
        main.write_text("def")
        wait_until(lambda: "SyntaxError" in service.output, "it did not try")
        main.write_text((ROOT / "service" / "__main__.py").read_text().replace("Ready in", "Mended in"))
        wait_until(lambda: "Mended in" in service.output, "it did not start again")
        assert service.output.count("Creating the embedded PostgreSQL") <= 1
        assert service.stop() == 0
        assert processes_of(service.data_dir) == {}


def test_tables_of_the_database_are_generated(service: Service) -> None:
    done = piccolo("schema", "generate", DATA_DIR=str(service.data_dir))
    assert done.returncode == 0, done.stdout
    generated: dict[str, Any] = {}
    exec(done.stdout, generated)
    assert generated["Characters"]._meta.tablename == "characters"
    assert "audit_log_by_time ON public.audit_log USING brin (created_at)" in done.stdout, "named as not parsed"


def test_the_newest_migration_is_undone_after_a_question(fresh_database: str) -> None:
    database = {"DATABASE_URL": fresh_database}
    assert piccolo("migrations", "forwards", **database).returncode == 0
    newest = max(ROOT.glob("piccolo_migrations/service_*.py")).stem
    done = piccolo("migrations", "backwards", **database)
    refusal = "Nothing was undone, as nobody answered: add --auto_agree to agree beforehand.\n"
    assert (done.returncode, done.stderr) == (1, refusal), done.stdout
    done = piccolo("migrations", "backwards", given="y\n", **database)
    assert (done.returncode, done.stdout.count("[backwards]")) == (0, 1), done.stderr
    undone = re.findall(r"- (\S+) \[backwards\]", done.stdout)
    assert [re.sub(r"\W", "_", name.lower()) for name in undone] == [newest.removeprefix("service_")]
    assert piccolo("migrations", "forwards", **database).returncode == 0


def test_the_shell_has_the_tables(service: Service) -> None:
    typed_in = 'print("members:", await User.count())\nprint("operators:", await BaseUser.count() >= 0)\n'
    done = piccolo("shell", "run", given=typed_in, DATA_DIR=str(service.data_dir))
    assert done.returncode == 0, done.stderr
    assert re.search(r"members: [1-9]", done.stdout)
    assert "operators: True" in done.stdout


def test_the_playground_says_what_it_needs() -> None:
    done = piccolo("playground", "run", DATA_DIR="/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("The playground needs SQLite: install it with `.venv/bin/python -m pip install ")


# Seeds


def test_production_gets_the_templates_of_the_platform(fresh_database: str) -> None:
    production = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "127.0.0.1", "SECRET_KEY": "0123456789abcdef" * 2}
    production["DATABASE_URL"] = fresh_database
    assert piccolo("migrations", "forwards", **production).returncode == 0
    runs = [piccolo("service", "seed", "--templates", **production) for _ in range(2)]
    assert [done.returncode for done in runs] == [0, 0], runs
    assert [done.stdout for done in runs] == ["Templates: 14 inserted.\n", "Templates: nothing to insert.\n"]
