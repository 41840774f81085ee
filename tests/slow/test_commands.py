"""The commands as they are typed: what they print, also where they cannot do what is asked."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import ROOT, Service, environment_of, piccolo, service_of_its_own

pytestmark = pytest.mark.slow  # a process each

PASSWORD = "seven quiet harbours"


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
    assert (done.returncode, done.stdout) == (0, "The operator piped is created.\n"), done.stderr
    assert sign_in(service, "piped") == 200
    done = piccolo("service", "operator", "list", DATA_DIR=data_dir)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["username", "active"], ["piped", "yes"]]
    done = piccolo("service", "operator", "disable", "--username=piped", DATA_DIR=data_dir)
    assert (done.returncode, done.stdout) == (0, "The operator piped is disabled.\n"), done.stderr
    assert sign_in(service, "piped") == 401
    done = piccolo("service", "operator", "create", "--username=piped", given=f"{PASSWORD}\n", DATA_DIR=data_dir)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "There is an operator piped already.\n")


def test_an_operator_is_created_at_a_terminal(service: Service) -> None:
    output = typed(service, "service operator create --username=typed", "Password: ", "Once more: ")
    assert "The operator typed is created." in output
    assert PASSWORD not in output
    assert sign_in(service, "typed") == 200


def test_the_command_of_piccolo_creates_operators_too(service: Service) -> None:
    options = {"username": "own", "password": PASSWORD, "email": "own@example.org", "is_admin": "true"}
    options |= {"is_superuser": "false", "is_active": "true"}
    given = [f"--{name}={value}" for name, value in options.items()]
    done = piccolo("user", "create", *given, DATA_DIR=str(service.data_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    assert sign_in(service, "own") == 200


def typed(service: Service, command: str, *prompts: str) -> str:
    """The output of the command at a terminal, where the password is typed at each prompt."""
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
        for prompt in prompts:
            while not output.endswith(prompt):
                output += os.read(outer, 4096).decode()
            os.write(outer, f"{PASSWORD}\n".encode())
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


# Seeds


def test_production_gets_the_templates_of_the_platform(fresh_database: str) -> None:
    production = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "127.0.0.1", "SECRET_KEY": "0123456789abcdef" * 2}
    production["DATABASE_URL"] = fresh_database
    assert piccolo("migrations", "forwards", **production).returncode == 0
    runs = [piccolo("service", "seed", "--templates", **production) for _ in range(2)]
    assert [done.returncode for done in runs] == [0, 0], runs
    assert [done.stdout for done in runs] == ["Templates: 14 inserted.\n", "Templates: nothing to insert.\n"]
