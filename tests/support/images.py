"""deploy/Dockerfile without a container engine: its steps run in directories that chroot makes the root.

What an image brings with it, such as /usr and Python, is that of this machine, mounted read-only. Needs root.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.servers import ROOT

DOCKERFILE = ROOT / "deploy/Dockerfile"
COMPOSE = ROOT / "deploy/compose.yaml"
SECRETS = {
    name: f"{name.lower()}-0123456789abcdef0123456789"
    for name in ("POSTGRES_PASSWORD", "OWNER_PASSWORD", "WEB_PASSWORD", "S3_SECRET", "SECRET_KEY")
}


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its arguments, without comments, continuations joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


class Image:
    """The last stage, after ``build``: its files, and how it is run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment: dict[str, str] = {}
        self.user = "0:0"
        self.health: list[str] = []
        self.command: list[str] = []
        self._working_directory = "/"
        self._stage = ""

    def build(self) -> None:
        for name, rest in instructions():
            match name:
                case "FROM":
                    self._stage = rest.partition(" AS ")[2] or "last"
                    self.environment = {}
                    for path in ("tmp", "proc", "dev", "etc", "usr"):
                        (self.root / path).mkdir(parents=True)
                    (self.root / "tmp").chmod(0o1777)
                    for path in ("bin", "lib", "lib64"):
                        (self.root / path).symlink_to(f"usr/{path}")
                case "WORKDIR":
                    self._working_directory = rest
                    self._inside(rest).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(shlex.split(rest))
                case "RUN":
                    subprocess.run(self.words(["sh", "-c", rest]), check=True)
                case "ENV":
                    self.environment |= dict(one.split("=", 1) for one in shlex.split(rest))
                case "USER":
                    self.user = rest
                case "HEALTHCHECK":
                    self.health = json.loads(rest.partition("CMD ")[2])
                case "CMD":
                    self.command = json.loads(rest)
                case "EXPOSE":
                    pass
                case _:
                    raise NotImplementedError(name)

    @property
    def root(self) -> Path:
        return self.directory / self._stage

    def words(
        self,
        command: Sequence[str],
        *,
        writable: Mapping[str, Path] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> list[str]:
        """The command line that runs ``command`` in the image. With ``writable``, the root is read-only but for these
        paths, the user that of the image without any capability, and the environment only the one given."""
        mounts = [("--bind", self.root, "")]
        mounts += [("--rbind", Path(f"/{path}"), path) for path in ("proc", "dev")]
        mounts += [("-o bind,ro", Path(f"/{path}"), path) for path in ("etc", "usr")]
        if sys.base_prefix != "/usr":
            mounts.append(("-o bind,ro", Path(sys.base_prefix), sys.base_prefix))
        run = ["chroot", str(self.root)]
        if writable is not None:
            mounts += [("--bind", source, path) for path, source in writable.items()]
            user, group = self.user.split(":")
            run += ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
            run += ["--bounding-set=-all", "--inh-caps=-all"]
            run += ["env", "-i", *_assignments(self.environment | dict(settings or {}))]
        else:
            run += ["env", *_assignments({"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin"} | self.environment)]
        steps = [
            f"mkdir -p {self._inside(path)}; mount {options} {source} {self._inside(path)}"
            for options, source, path in mounts
        ]
        if writable is not None:
            steps.append(f"mount -o remount,bind,ro {self.root}")
        run += ["sh", "-c", f'cd {self._working_directory} && exec "$@"', "sh", *command]
        return ["unshare", "--mount", "sh", "-ec", f'{"; ".join(steps)}; exec "$@"', "sh", *run]

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        start = ROOT
        if sources[0].startswith("--from="):
            start = self.directory / sources.pop(0).removeprefix("--from=")
        for source in sources:
            found = start / source.lstrip("/")
            to = self.root / Path(self._working_directory, target).relative_to("/")
            if found.is_dir():
                to.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "-a", f"{found}/.", to], check=True)
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, to)


def _assignments(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


def compose_services() -> dict[str, Any]:
    """The services of compose.yaml with ``SECRETS`` and the defaults of its other variables."""
    services: dict[str, Any] = _interpolated(yaml.safe_load(COMPOSE.read_text())["services"])
    return services


def _interpolated(value: Any) -> Any:
    """With each ``${NAME:?}`` and ``${NAME:-default}`` replaced, as Compose does after it has read the YAML."""
    if isinstance(value, dict):
        return {key: _interpolated(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_interpolated(one) for one in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?)\}", lambda found: found[2] or SECRETS.get(found[1], ""), value)
    return value
