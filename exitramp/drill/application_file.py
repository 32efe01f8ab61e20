"""The file of a drill's application: where it is found, who starts what it names, and whether a proxy is in its way.

An application meets what the drill breaks only on a way that leads there. One that the drill starts is told every
address, and so is a command, which is started anew for every question. One that runs already has to know its way: to
a service on a port of its own (`listen`), or to the proxy in front of a part (`proxy_port`).
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from exitramp.drill.between import between_of
from exitramp.drill.spec import DrillSpec
from exitramp.errors import ConfigError
from exitramp.evals.apps.file import AppFile, read_app

FIXTURES: Final = "exitramp_fixtures"
APP_FILE: Final = "app.yaml"
PORT: Final = "{port}"
"""Stands in the application's url for the port that the drill gives the server it starts."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def application_path(spec: DrillSpec) -> Path | None:
    """The application's file: beside the drill's, or a packaged one by its name. Raises `ConfigError`."""
    if spec.application is None:
        return None
    path = (spec.folder or Path()) / spec.application.file
    if path.is_file():
        return path
    packaged = files(FIXTURES) / "applications" / spec.application.file / APP_FILE
    if packaged.is_file():
        with as_file(packaged) as found:
            return found
    raise ConfigError(
        f"application.file: there is no file {path}, and no packaged application of that name",
        file=spec.file,
        line=spec.lines.get("application.file"),
    )


def load_application(spec: DrillSpec) -> AppFile | None:
    """How the drill's application is asked; None where it names none. Raises `ConfigError`."""
    path = application_path(spec)
    return None if path is None else read_app(path)


def port_of(file: AppFile) -> int:
    """The port that the server of an application has to take; 0 for any, where its url leaves it open."""
    return 0 if PORT in file.url else urlsplit(file.url).port or 0


def on_port(file: AppFile, port: int) -> AppFile:
    """The application, asked on the port that its server took."""
    return replace(file, url=file.url.replace(PORT, str(port)))


def require_way(spec: DrillSpec, file: AppFile) -> None:
    """Raises `ConfigError` where the application cannot be started as the drill file says, or would not meet a fault of
    it: before anything is started."""
    assert spec.application is not None
    is_started = spec.application.start is not None
    if is_started:
        _require_startable(spec, file)
    elif PORT in file.url:
        raise ConfigError(
            f"'{file.name}' is asked on a port that only the drill could give it, and 'application' has no 'start'",
            file=spec.file,
            hint="write its port into the url, or the command of its server into application.start",
        )
    if is_started or file.kind == "command":
        return  # told every address, and so every proxy's
    for on, line in between_of(spec).items():
        part = getattr(spec.primary, on)
        if part.proxy_port is None:
            raise ConfigError(
                f"a proxy in front of the primary's {on} does this, and '{file.name}', which runs already, does not "
                "know where it stands",
                file=spec.file,
                line=line,
                hint=f"give it a port that your application calls, as primary.{on}.proxy_port, or let the drill start "
                "your application (application.start)",
            )


def _require_startable(spec: DrillSpec, file: AppFile) -> None:
    if file.kind == "command":
        raise ConfigError(
            f"'{file.name}' is a command that is run for every question, so there is no server to start",
            file=spec.file,
            hint="leave application.start away",
        )
    parts = urlsplit(file.url.replace(PORT, "1"))
    if parts.hostname not in _LOOPBACK:
        raise ConfigError(
            f"'{file.name}' is asked at {parts.hostname}, and what the drill starts is on this machine",
            file=spec.file,
            hint=f"write http://127.0.0.1:{PORT}/… as the url in its file",
        )
    if parts.port is None:
        raise ConfigError(
            f"'{file.name}' is asked at a url without a port", file=spec.file, hint=f"write http://127.0.0.1:{PORT}/…"
        )
