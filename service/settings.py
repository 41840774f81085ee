"""The environment variables of the service, typed and checked once at start-up.

A ``.env`` file in the working directory is read too; variables of the environment take precedence.
"""

import os
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from dotenv import load_dotenv
from msgspec import Meta

from service.setting_forms import faults_of_form, trusts_nearly_everybody

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Quota = Annotated[int, Meta(ge=1, le=2**53)]
Days = Annotated[int, Meta(ge=1, le=3650)]
Names = tuple[str, ...]  # written as a,b,c

VERSION = "1.0.0"  # of the release; pyproject.toml has it, too
DEVELOPMENT_SECRET = "for development only: change me in production"  # noqa: S105 (refused in production)


class SettingsError(Exception):
    """One or more variables are not valid; the text has a line for each."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8000
    public_url: str = ""  # the address of the service for clients, used in links; empty: http://HOST:PORT
    data_dir: Path = Path(".data")  # the embedded PostgreSQL, and uploaded files if STORAGE_URL is empty
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    database_url: str = ""  # empty: an embedded PostgreSQL in DATA_DIR (development only)
    database_direct_url: str = ""  # PostgreSQL itself, if database_url is a pooler in transaction mode
    database_replica_urls: Names = ()  # standbys of the primary, for lists and searches
    database_pool_size: Annotated[int, Meta(ge=1, le=500)] = 10  # connections of each worker; see shares.py
    database_acquire_timeout: Seconds = 5
    database_statement_timeout: Seconds = 5
    database_lock_timeout: Seconds = 2
    database_idle_in_transaction_timeout: Seconds = 10

    slow_query_seconds: Annotated[float, Meta(ge=0, le=3600)] = 1  # longer ones are logged by name; 0: none

    otel_exporter_otlp_endpoint: str = ""  # a collector of OpenTelemetry; empty: no traces
    otel_exporter_otlp_protocol: Literal["http/protobuf"] = "http/protobuf"
    otel_service_name: str = "character-service"

    storage_url: str = ""  # s3://bucket/prefix; empty: DATA_DIR/files
    s3_endpoint_url: str = ""  # empty: Amazon S3
    s3_region: str = "us-east-1"
    s3_access_key_id: str = ""  # empty: the credentials that AWS tools use (environment, instance)
    s3_secret_access_key: str = ""

    max_requests_in_flight: Annotated[int, Meta(ge=1, le=100_000)] = 200  # of each worker; others below /v1 get 503
    valkey_url: str = ""  # shares rate limit counters between workers; empty: each worker counts for itself

    secret_key: Annotated[str, Meta(min_length=32)] = DEVELOPMENT_SECRET  # for cursors, links and names of files
    allowed_hosts: Names = ("localhost", "127.0.0.1", "[::1]")  # *.example.org allows subdomains
    cors_origins: Names = ()  # https://app.example.org; in development also http://localhost and 127.0.0.1, any port
    trusted_proxies: Names = ()  # addresses or networks whose X-Forwarded-* headers are trusted
    metrics_token: str = ""  # lets other machines read /metrics, as a Bearer token; empty: only this machine
    # Multiplies every rate limit; see rate_limit_factor
    rate_limit_scale: Annotated[float, Meta(gt=0, le=1_000_000)] = 1

    quota_characters: Quota = 10_000  # of one user, including those in the trash
    quota_stored_bytes: Quota = 1024**3  # of one user's portraits and cards
    quota_template_versions: Quota = 200  # of one template
    quota_relationships: Annotated[int, Meta(ge=1, le=100_000)] = 5_000  # of one character
    revisions_kept: Annotated[int, Meta(ge=20, le=100_000)] = 500  # of one character; older ones are thinned
    max_change_streams: Annotated[int, Meta(ge=1, le=1000)] = 5  # of one user, open in a worker at once

    smtp_host: str = ""  # the mail server; empty: e-mails are logged in development and dropped in production
    smtp_port: Annotated[int, Meta(ge=1, le=65535)] = 587
    smtp_tls: Literal["none", "starttls", "implicit"] = "starttls"
    smtp_user: str = ""
    smtp_password: str = ""
    mail_from: str = ""  # Character service <no-reply@example.org>
    links_url: str = ""  # the front end with /verify-email and /reset-password, for links in e-mails; empty: PUBLIC_URL

    session_idle_days: Days = 30
    session_days: Days = 90
    audit_days: Annotated[int, Meta(ge=30, le=3650)] = 365  # how long the audit log is kept, including its addresses
    password_memory_kib: Annotated[int, Meta(ge=8192, le=1048576)] = 19456  # argon2id, as OWASP recommends
    password_iterations: Annotated[int, Meta(ge=1, le=100)] = 2

    second_factor_key: str = ""  # encrypts the second factors of operators; empty: none can be set up
    second_factor_required: bool = False  # operators without one can do nothing but set it up

    @property
    def in_production(self) -> bool:
        return self.environment == "production"

    @property
    def rate_limit_factor(self) -> float:
        """The factor of every rate limit: ten times as large in development, where one address sends everything."""
        return self.rate_limit_scale * (1 if self.in_production else 10)

    @property
    def own_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"

    @property
    def sends_mail(self) -> bool:
        return bool(self.smtp_host) or not self.in_production  # development logs it

    def __repr__(self) -> str:
        return f"Settings(environment={self.environment!r}, …)"  # other settings may be secrets


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Reads the settings from ``environ``. Raises SettingsError with every fault."""
    given: dict[str, Any] = {}
    faults: list[str] = []
    for field in msgspec.structs.fields(Settings):
        variable = field.name.upper()
        if text := environ.get(variable, "").strip():
            try:
                given[field.name] = _convert(text, field.type)
            except msgspec.ValidationError as error:
                faults.append(f"{variable}: {error}.")
            else:
                faults += [f"{variable}: {fault}" for fault in faults_of_form(field.name, given[field.name])]
    settings = Settings(**given)
    if settings.smtp_host and not settings.mail_from:
        faults.append("MAIL_FROM: required with SMTP_HOST, as 'Name <name@example.org>'.")
    if settings.database_direct_url and not settings.database_url:
        faults.append("DATABASE_URL: required with DATABASE_DIRECT_URL.")
    if settings.database_replica_urls and not settings.database_url:
        faults.append("DATABASE_URL: required with DATABASE_REPLICA_URLS.")
    if settings.smtp_user and not settings.smtp_password:
        faults.append("SMTP_PASSWORD: required with SMTP_USER.")
    if bool(settings.s3_access_key_id) != bool(settings.s3_secret_access_key):
        faults.append("S3_SECRET_ACCESS_KEY: required with S3_ACCESS_KEY_ID, and useless without it.")
    if settings.second_factor_required and not settings.second_factor_key:
        faults.append("SECOND_FACTOR_KEY: required with SECOND_FACTOR_REQUIRED.")
    if settings.otel_exporter_otlp_endpoint and not _is_installed("opentelemetry-exporter-otlp-proto-http"):
        faults.append("OTEL_EXPORTER_OTLP_ENDPOINT: traces need the packages of the extra 'traces'.")
    if settings.in_production:
        faults += _production_faults(settings, given)
    if faults:
        raise SettingsError("The configuration is not valid:\n" + "\n".join(f"  {fault}" for fault in faults))
    return settings


def _convert(text: str, expected: Any) -> Any:
    if expected == Names:
        return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)
    if expected is Path:
        return Path(text)
    return msgspec.convert(text, expected, strict=False)


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _production_faults(settings: Settings, given: Mapping[str, Any]) -> list[str]:
    faults = []
    if not settings.database_url:
        faults.append("DATABASE_URL: required in production; the embedded PostgreSQL is for development only.")
    if "*" in (hosts := given.get("allowed_hosts", ())) or not hosts:
        faults.append("ALLOWED_HOSTS: required in production: the host names that clients use, without '*'.")
    if trusts_nearly_everybody(settings.trusted_proxies):
        faults.append("TRUSTED_PROXIES: name the proxies: with '*' or large networks clients could claim any address.")
    if settings.secret_key == DEVELOPMENT_SECRET or len(set(settings.secret_key)) < 10:
        faults.append("SECRET_KEY: required in production; at least 32 random characters.")
    if settings.second_factor_key and len(set(settings.second_factor_key)) < 10:
        faults.append("SECOND_FACTOR_KEY: at least 32 random characters.")
    return faults


def asks_for_help() -> bool:
    """Whether this process was started to print its help, and to do nothing else."""
    return not {"--help", "-h"}.isdisjoint(sys.argv[1:])


def _read_or_exit() -> Settings:
    if asks_for_help():
        return Settings()  # who asks for help may be mending theirs
    load_dotenv(Path.cwd() / ".env")
    try:
        return read_settings(os.environ)
    except SettingsError as error:
        sys.exit(str(error))


settings = _read_or_exit()
