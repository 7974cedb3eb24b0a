"""A blueprint that serves every host of an application whose routes are matched by host."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, current_app, has_request_context, request
from flask.sansio.app import App
from flask.sansio.blueprints import BlueprintSetupState

_HOST: Final = "xgen_sessions_host"


class EveryHostBlueprint(Blueprint):
    """A blueprint whose routes have the host of the current request.

    With ``Flask(host_matching=True)``, a route without a host is never found. Otherwise, this is a
    blueprint like any other.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url_value_preprocessor(_forget_host)
        self.url_defaults(_add_host)

    def make_setup_state(
        self, app: App, options: dict[str, Any], first_registration: bool = False
    ) -> BlueprintSetupState:
        """Return the state whose rules have a variable for their host, if the application's do."""
        if app.url_map.host_matching:
            return _EveryHost(self, app, options, first_registration)
        return super().make_setup_state(app, options, first_registration)


class _EveryHost(BlueprintSetupState):
    def add_url_rule(self, rule: str, *args: Any, **options: Any) -> None:
        super().add_url_rule(rule, *args, **options, host=f"<{_HOST}>")


def _forget_host(_: str | None, values: dict[str, Any] | None) -> None:
    if values is not None:
        values.pop(_HOST, None)


def _add_host(endpoint: str, values: dict[str, Any]) -> None:
    if current_app.url_map.is_endpoint_expecting(endpoint, _HOST):
        host = request.host if has_request_context() else current_app.config["SERVER_NAME"]
        values.setdefault(_HOST, host)
