"""Settings: every fault is reported at once, and secrets are never shown."""

import re
from itertools import pairwise

import msgspec
import pytest

from service.settings import DEVELOPMENT_SECRET, Settings, SettingsError, read_settings
from tests.support.servers import ROOT, VARIABLES

SECRET = "JDnX3vGkq0m7sYb2cP9wLtRz5hFaU8e1"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://service:hunter2-of-the-database@db.example.org/service",
    "ALLOWED_HOSTS": "api.example.org, *.example.net",
    "SECRET_KEY": SECRET,
    "METRICS_TOKEN": "a-token-for-metrics",
}


def faults(**environ: str) -> dict[str, str]:
    """The messages by variable."""
    with pytest.raises(SettingsError) as raised:
        read_settings(environ)
    first, *lines = str(raised.value).splitlines()
    assert first == "The configuration is not valid:"
    return dict(line.strip().split(": ", 1) for line in lines)


def test_development_needs_no_variables() -> None:
    assert read_settings({}) == Settings()
    assert not Settings().in_production


def test_each_variable_is_read() -> None:
    settings = read_settings(PRODUCTION | {"PORT": "80", "RATE_LIMIT_SCALE": "0.5", "DATA_DIR": "/srv/data"})
    assert settings.in_production
    assert settings.database_url == PRODUCTION["DATABASE_URL"]
    assert settings.allowed_hosts == ("api.example.org", "*.example.net")
    assert (settings.port, settings.rate_limit_scale, str(settings.data_dir)) == (80, 0.5, "/srv/data")


def test_rate_limits_are_ten_times_as_wide_in_development() -> None:
    assert [read_settings(given).rate_limit_factor for given in ({}, PRODUCTION)] == [10, 1]
    assert read_settings({"RATE_LIMIT_SCALE": "0.5"}).rate_limit_factor == 5


def test_empty_variables_are_ignored() -> None:
    assert read_settings(dict.fromkeys(VARIABLES, " ")) == Settings()


def test_every_fault_is_reported_at_once() -> None:
    found = faults(
        ENVIRONMENT="staging",
        PORT="http",
        LOG_LEVEL="verbose",
        DATABASE_POOL_SIZE="0",
        DATABASE_ACQUIRE_TIMEOUT="soon",
        VALKEY_URL="http://cache.example.org",
        SECRET_KEY="short",
        RATE_LIMIT_SCALE="-1",
        SESSION_DAYS="1.5",
    )
    assert found == {
        "ENVIRONMENT": "Invalid enum value 'staging'.",
        "PORT": "Expected `int`, got `str`.",
        "LOG_LEVEL": "Invalid enum value 'verbose'.",
        "DATABASE_POOL_SIZE": "Expected `int` >= 1.",
        "DATABASE_ACQUIRE_TIMEOUT": "Expected `float`, got `str`.",
        "VALKEY_URL": "Must be an address such as valkey://host:6379.",
        "SECRET_KEY": "Expected `str` of length >= 32.",
        "RATE_LIMIT_SCALE": "Expected `float` > 0.0.",
        "SESSION_DAYS": "Expected `int`, got `str`.",
    }


@pytest.mark.parametrize("variable", ["RATE_LIMIT_SCALE", "DATABASE_LOCK_TIMEOUT"])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "0", "1e999"])
def test_numbers_must_be_finite_and_positive(variable: str, number: str) -> None:
    assert set(faults(**{variable: number})) == {variable}


def test_all_required_variables_of_production_are_reported_at_once() -> None:
    assert set(faults(ENVIRONMENT="production")) == {"DATABASE_URL", "ALLOWED_HOSTS", "SECRET_KEY"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", ""),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "api.example.org,*"),
        ("ALLOWED_HOSTS", ","),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "127.0.0.1, *"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "127.0.0.1,::/0"),
        ("TRUSTED_PROXIES", "0.0.0.0/1,128.0.0.0/1"),
        ("TRUSTED_PROXIES", ",".join(f"{first}.0.0.0/8" for first in range(2))),
        ("TRUSTED_PROXIES", "8000::/1"),
        ("TRUSTED_PROXIES", ",".join(f"{first}.0.0.0/8" for first in range(0, 256, 2))),
        ("TRUSTED_PROXIES", ",".join(f"{first}.0.0.0/10" for first in range(1, 256, 50))),
        ("TRUSTED_PROXIES", ",".join(f"::ffff:{first}.0.0.0/104" for first in range(0, 256, 2))),
        ("TRUSTED_PROXIES", ",".join(f"2{second:x}00::/8" for second in range(0, 16, 2))),
        ("TRUSTED_PROXIES", "2001::/16,2003::/16"),
        ("TRUSTED_PROXIES", "2a00::/12"),
        ("TRUSTED_PROXIES", "fc00::/6"),
        ("TRUSTED_PROXIES", "10.0.0.0/7"),
        ("TRUSTED_PROXIES", "::ffff:0:0/96"),
        ("TRUSTED_PROXIES", "::/16"),
        ("SECRET_KEY", DEVELOPMENT_SECRET),
        ("SECRET_KEY", "abababababababababababababababababab"),
    ],
)
def test_production_refuses_insecure_values(variable: str, value: str) -> None:
    assert set(faults(**PRODUCTION | {variable: value})) == {variable}


def test_production_accepts_the_proxies_of_private_and_large_networks() -> None:
    private = "10.0.0.0/8,127.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,::ffff:10.0.0.0/104,fc00::/7,fe80::/10"
    public = "104.16.0.0/12,172.64.0.0/13,34.0.0.0/9,2606:4700::/32,2a06:98c0::/29,2600:1f00::/24"
    assert read_settings(PRODUCTION | {"TRUSTED_PROXIES": f"{private},{public}"}).in_production


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("HOST", "http://x", "Must be an address such as 127.0.0.1 or ::, without a port."),
        ("HOST", "0.0.0.0:80", "Must be an address such as"),
        ("DATA_DIR", str(ROOT / "README.md"), "Must be a directory."),
        ("ALLOWED_HOSTS", "http://x", "Must be host names such as api.example.org or *.example.org, without a port"),
        ("ALLOWED_HOSTS", "api.example.org:443", "Must be host names such as"),
        ("ALLOWED_HOSTS", "api.example.org,*example.org", "Must be host names such as"),
        ("TRUSTED_PROXIES", "foo", "Must be addresses or networks such as 10.0.0.0/8, not 'foo'."),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "Must be addresses or networks such as"),
        ("TRUSTED_PROXIES", "1.2.3", "Must be addresses or networks such as"),
        ("CORS_ORIGINS", "foo", "Must be origins such as https://app.example.org, not 'foo'."),
        ("CORS_ORIGINS", "*", "Must be origins such as"),
        ("CORS_ORIGINS", "https://app.example.org/", "Must be origins such as"),
        ("PUBLIC_URL", "foo", "Must be an address such as https://api.example.org."),
        ("PUBLIC_URL", "https://api.example.org/?a=b", "Must be an address such as"),
        ("LINKS_URL", "app.example.org", "Must be an address such as"),
        ("DATABASE_URL", "mysql://db/characters", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://u:p@ss@db/characters", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://u:p/ss@db/characters", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://u:p ss@db/characters", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://db:postgres/characters", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://db:65536/characters", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://one,/characters", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://one:1,two:0/characters", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://db/characters?sslmode=maybe", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://db/c?target_session_attrs=best", "Must be an address such as postgresql://"),
        ("DATABASE_URL", "postgresql://db/characters?sslmode", "Must be an address such as postgresql://"),
        ("VALKEY_URL", "valkey://", "Must be an address such as valkey://host:6379."),
        ("VALKEY_URL", "valkey://host:http", "Must be an address such as valkey://host:6379."),
        ("VALKEY_URL", "valkey://host/one", "Must be an address such as valkey://host:6379."),
        ("VALKEY_URL", "unix://", "Must be an address such as valkey://host:6379."),
        ("PUBLIC_URL", "https://api.example.org:70000", "Must be an address such as"),
        ("CORS_ORIGINS", "https://app.example.org:0", "Must be origins such as"),
        ("S3_REGION", "us east", "Must be a region such as us-east-1."),
        ("METRICS_TOKEN", "two words", "Must be characters of ASCII, without spaces."),
        ("SMTP_HOST", "mail.example.org:25", "Must be a host name such as mail.example.org, without a port."),
        ("SMTP_HOST", "smtp://mail.example.org", "Must be a host name such as mail.example.org, without a port."),
        ("MAIL_FROM", "Character service", "Must be an address such as 'Name <name@example.org>'."),
        ("SMTP_PASSWORD", "a\x00b", "Must not contain control characters."),
        ("STORAGE_URL", "s3://A", "Must be s3://bucket or s3://bucket/prefix."),
        ("S3_ENDPOINT_URL", "s3.example.org", "Must be an address such as"),
        ("SECOND_FACTOR_KEY", "short", "Must be at least 32 random characters."),
    ],
)
def test_the_form_of_a_variable_is_checked(variable: str, value: str, fault: str) -> None:
    found = faults(**{"MAIL_FROM": "no-reply@example.org"} | {variable: value})
    assert set(found) == {variable}
    assert found[variable].startswith(fault)


# One that is refused, for each variable
REFUSED = {
    "ENVIRONMENT": "staging",
    "HOST": "http://127.0.0.1",
    "PORT": "65536",
    "PUBLIC_URL": "foo",
    "DATA_DIR": "/dev/null",
    "LOG_LEVEL": "verbose",
    "DATABASE_URL": "mysql://db/characters",
    "DATABASE_DIRECT_URL": "direct.example.org",
    "DATABASE_REPLICA_URLS": "replica.example.org",
    "DATABASE_POOL_SIZE": "501",
    "DATABASE_ACQUIRE_TIMEOUT": "-1",
    "DATABASE_STATEMENT_TIMEOUT": "0",
    "DATABASE_LOCK_TIMEOUT": "soon",
    "DATABASE_IDLE_IN_TRANSACTION_TIMEOUT": "3601",
    "SLOW_QUERY_SECONDS": "-1",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    "OTEL_SERVICE_NAME": "a\x00b",
    "STORAGE_URL": "https://bucket",
    "S3_ENDPOINT_URL": "s3.example.org",
    "S3_REGION": "us/east",
    "S3_ACCESS_KEY_ID": "a key",
    "S3_SECRET_ACCESS_KEY": "a key",
    "MAX_REQUESTS_IN_FLIGHT": "0",
    "VALKEY_URL": "http://cache.example.org",
    "SECRET_KEY": "short",
    "ALLOWED_HOSTS": "http://x",
    "CORS_ORIGINS": "*",
    "TRUSTED_PROXIES": "foo",
    "METRICS_TOKEN": "token\x7f",
    "RATE_LIMIT_SCALE": "nan",
    "QUOTA_CHARACTERS": "0",
    "QUOTA_STORED_BYTES": "1 GiB",
    "QUOTA_TEMPLATE_VERSIONS": "-1",
    "QUOTA_RELATIONSHIPS": "100001",
    "REVISIONS_KEPT": "19",
    "MAX_CHANGE_STREAMS": "1001",
    "SMTP_HOST": "mail.example.org:25",
    "SMTP_PORT": "0",
    "SMTP_TLS": "yes",
    "SMTP_USER": "a\x01b",
    "SMTP_PASSWORD": "a\nb",
    "MAIL_FROM": "no-reply",
    "LINKS_URL": "app.example.org",
    "SESSION_IDLE_DAYS": "0",
    "SESSION_DAYS": "forever",
    "AUDIT_DAYS": "29",
    "PASSWORD_MEMORY_KIB": "1024",
    "PASSWORD_ITERATIONS": "0",
    "SECOND_FACTOR_KEY": "short",
    "SECOND_FACTOR_REQUIRED": "perhaps",
}


def test_every_variable_is_checked_and_every_fault_is_in_one_message() -> None:
    assert REFUSED.keys() == VARIABLES
    assert faults(**REFUSED).keys() == VARIABLES


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"SMTP_USER": "service"}, "SMTP_PASSWORD"),
        ({"S3_ACCESS_KEY_ID": "key"}, "S3_SECRET_ACCESS_KEY"),
        ({"S3_SECRET_ACCESS_KEY": "secret"}, "S3_SECRET_ACCESS_KEY"),
        ({"SECOND_FACTOR_REQUIRED": "true"}, "SECOND_FACTOR_KEY"),
        ({"DATABASE_DIRECT_URL": "postgresql://db/characters"}, "DATABASE_URL"),
        ({"DATABASE_REPLICA_URLS": "postgresql://db/characters"}, "DATABASE_URL"),
    ],
)
def test_variables_that_need_another(given: dict[str, str], variable: str) -> None:
    assert set(faults(**given)) == {variable}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALLOWED_HOSTS", "localhost,api.example.org,*.example.org,127.0.0.1,[::1],*"),
        ("TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8,::1,fd00::/8,*"),
        ("CORS_ORIGINS", "https://app.example.org,http://localhost:3000,https://[::1]:8443"),
        ("PUBLIC_URL", "https://api.example.org/characters"),
        ("DATABASE_URL", "postgresql://service:secret@one:5432,two:5432/service?target_session_attrs=read-write"),
        ("DATABASE_URL", "postgresql:///service"),
        ("DATABASE_URL", "postgresql://u:p%40ss@%2Frun%2Fpostgresql/service"),
        ("DATABASE_URL", "postgresql://u@/service?host=/run/postgresql&port=5432&sslmode=disable"),
        ("DATABASE_URL", "postgresql://u@[::1]:5432/service?sslmode=verify-full&sslrootcert=/etc/ca.pem"),
        ("VALKEY_URL", "unix:///run/valkey.sock"),
        ("VALKEY_URL", "rediss://user:pass@cache.example.org:6380/1?protocol=3"),
        ("HOST", "::"),
        ("DATA_DIR", str(ROOT)),
        ("METRICS_TOKEN", "abc~"),
        ("STORAGE_URL", "s3://bucket/prefix"),
        ("SLOW_QUERY_SECONDS", "0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example.org:4318/collector"),
    ],
)
def test_valid_forms_are_accepted(variable: str, value: str) -> None:
    assert read_settings({variable: value}) != Settings()


def test_traces_need_the_packages_of_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])  # nothing is installed
    found = faults(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert found == {"OTEL_EXPORTER_OTLP_ENDPOINT": "traces need the packages of the extra 'traces'."}
    assert read_settings({}) == Settings()


@pytest.mark.parametrize("sender", ["", "Character service", "no-reply"])
def test_mail_needs_a_sender(sender: str) -> None:
    assert set(faults(SMTP_HOST="mail.example.org", MAIL_FROM=sender)) == {"MAIL_FROM"}
    given = {"SMTP_HOST": "mail.example.org", "MAIL_FROM": "Character service <no-reply@example.org>"}
    assert read_settings(given).mail_from == given["MAIL_FROM"]


def test_secrets_are_never_shown() -> None:
    settings = read_settings(PRODUCTION)
    for text in (repr(settings), str(settings), f"{settings!r:.500}"):
        assert [secret for secret in (SECRET, "hunter2", "a-token-for-metrics") if secret in text] == []
    refused = {
        "SECRET_KEY": "hunter2",
        "PORT": "none",
        "DATABASE_REPLICA_URLS": "postgresql://u:hunter2@one:0,two/name",
    }
    messages = faults(**PRODUCTION | refused)
    assert messages.keys() == refused.keys()
    assert "hunter2" not in "".join(messages.values())


def test_the_example_describes_every_variable_and_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    entries = {}
    for comment, line in pairwise(lines):
        if match := re.fullmatch(r"#?([A-Z0-9_]+)=(.*)", line):
            assert re.match(r"# \w", comment), f"{line}: a comment above must describe it"
            entries[match[1]] = match[2].strip('"')
    assert set(entries) == VARIABLES
    defaults = msgspec.structs.asdict(Settings())
    assert entries == {name: _written(defaults[name.lower()]) for name in VARIABLES}
    assert read_settings(entries) == Settings()


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)
