"""What outlives an application, because each test makes a new one and needs the same again.

Templates, the builders of URLs, and the TLS settings of connections take longer to make than most
tests take to run.
"""

from __future__ import annotations

from collections.abc import Callable
from ssl import SSLContext
from typing import Any

from flask import Flask
from jinja2 import Environment
from jinja2.bccache import Bucket, BytecodeCache
from pymysql.connections import Connection
from werkzeug.routing import Rule


class CompiledTemplates(BytecodeCache):
    """A cache in memory, with separate entries for environments that compile differently."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def get_bucket(
        self, environment: Environment, name: str, filename: str | None, source: str
    ) -> Bucket:
        options = (
            sorted(environment.extensions),
            sorted(environment.filters),
            sorted(environment.tests),
            environment.trim_blocks,
            environment.lstrip_blocks,
            environment.policies["compiler.ascii_str"],
            environment.policies["ext.i18n.trimmed"],
            getattr(environment, "newstyle_gettext", None),
            environment.undefined.__name__,
        )
        return super().get_bucket(environment, f"{name} {options}", filename, source)

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


def keep_compiled() -> None:
    """Make all applications of this process share what they make alike; call it once."""
    options: dict[str, Any] = {**Flask.jinja_options, "bytecode_cache": CompiledTemplates()}
    Flask.jinja_options = options
    _keep_url_builders()
    _keep_tls_settings()


def _keep_url_builders() -> None:
    """Compile the function that builds the URLs of a rule once; Werkzeug binds it to each rule."""
    compile_builder = Rule._compile_builder
    kept: dict[tuple[object, ...], Callable[..., tuple[str, str]]] = {}

    def builder(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        if rule.defaults:
            return compile_builder(rule, append_unknown)
        key = (append_unknown, rule.rule, *rule._trace)
        if key not in kept:
            kept[key] = compile_builder(rule, append_unknown)
        return kept[key]

    Rule._compile_builder = builder  # type: ignore[method-assign, assignment]


def _keep_tls_settings() -> None:
    """Read the system's certificates once: PyMySQL reads them again for each connection."""
    untyped: Any = Connection
    create: Callable[..., SSLContext] = untyped._create_ssl_ctx
    kept: list[SSLContext] = []

    def context(connection: Any, options: Any) -> SSLContext:
        if options:
            return create(connection, options)
        if not kept:
            kept.append(create(connection, options))
        return kept[0]

    untyped._create_ssl_ctx = context
