"""``python -m service``, which is what ``make run`` runs: the database, its migrations, the seeds, then the service."""

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from loguru import logger

from service.log import set_up_logging
from service.settings import settings


def main() -> None:
    reloads = _read_arguments().reload
    set_up_logging(settings)
    with _ending_quietly(), _own_port() as port, _embedded_server():
        if reloads:
            _serve_and_reload(port)
        else:
            _serve([port])


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Starts the service. In development, it starts PostgreSQL, migrates it and inserts example data "
        "first. Settings come from the environment and from a .env file; .env.example lists them all.",
    )
    parser.add_argument("--reload", action="store_true", help="start again whenever the code changes (development)")
    arguments = parser.parse_args()
    if arguments.reload and settings.in_production:
        parser.error("--reload is for development")
    return arguments


def _serve_and_reload(port: socket.socket) -> None:
    """Serves in a process of its own, which ends and starts again when a file changes. PostgreSQL and the port stay."""
    import uvicorn
    from uvicorn.supervisors import ChangeReload

    from service.__main__ import _serve as serve  # the other process imports it by its name, which is not `__main__`

    here = Path(__file__).parent
    watched = [str(here), str(here.with_name("piccolo_migrations"))]
    config = uvicorn.Config("service.app:app", reload=True, reload_dirs=watched, log_config=None)
    ChangeReload(config, target=serve, sockets=[port]).run()


def _serve(sockets: list[socket.socket] | None) -> None:
    set_up_logging(settings)
    started = time.perf_counter()
    with _ending_quietly():
        asyncio.run(_prepare())
        _run_server(started, sockets)


async def _prepare() -> None:
    from piccolo.apps.migrations.commands import forwards

    from service.commands.seed import insert_seeds, were_inserted
    from service.database.migrations import make_migrations_safe, pending_migrations
    from service.database.startup import wait_for_database

    await wait_for_database()
    make_migrations_safe()
    if await pending_migrations():
        if settings.in_production:
            logger.warning("Migrations are pending: run `piccolo migrations forwards`.")
        else:
            logger.info("Migrating the database …")
            with contextlib.redirect_stdout(sys.stderr):
                if not (await forwards.run_forwards("all")).success:
                    sys.exit("The migrations failed.")
    if not settings.in_production and not await were_inserted():
        await insert_seeds()


def _run_server(started: float, sockets: list[socket.socket] | None) -> None:
    import uvicorn

    from service.app import app
    from service.web.protocol import BoundedProtocol

    url = settings.own_url
    for line in (
        f"Ready in {time.perf_counter() - started:.1f} s; Ctrl-C stops it.",
        f"  the API      {url}/v1",
        f"  its docs     {url}/docs",
        f"  the admin    {url}/admin/",
        f"  an operator  {_given('DATA_DIR')}.venv/bin/piccolo service operator create --username=NAME",
    ):
        logger.info("{}", line)
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # TRUSTED_PROXIES decides, whatever serves the app
        server_header=False,
        timeout_keep_alive=75,  # longer than a proxy keeps its own: it must not send into a connection that we close
        timeout_graceful_shutdown=25,
    )
    server = uvicorn.Server(config)
    server.run(sockets=sockets)
    if not server.started:
        sys.exit("The service did not start.")


def _given(name: str) -> str:
    """The assignment that a command in another shell needs to find the same data."""
    return f"{name}={shlex.quote(os.environ[name])} " if name in os.environ else ""


@contextlib.contextmanager
def _own_port() -> Iterator[socket.socket]:
    """Binds the port first, so that nothing is created if it is in use. Uvicorn listens on it later."""
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            port.bind((settings.host, settings.port))
        except OSError as error:
            sys.exit(
                f"{settings.host}:{settings.port} cannot be served: {error.strerror}. Set PORT or HOST to another."
            )
        yield port


@contextlib.contextmanager
def _embedded_server() -> Iterator[None]:
    if settings.database_url:
        yield
        return
    from service.database import embedded

    postgres = embedded.start(settings.data_dir)
    try:
        yield
    finally:
        postgres.stop()


@contextlib.contextmanager
def _ending_quietly() -> Iterator[None]:
    """Exits with status 0 on SIGINT and SIGTERM. Uvicorn raises the signal again after it has shut down."""
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        yield


if __name__ == "__main__":
    main()
