"""A cache of compiled templates that outlives an application: each test makes a new one."""

from __future__ import annotations

from typing import Any

from flask import Flask
from jinja2 import Environment
from jinja2.bccache import Bucket, BytecodeCache


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
    """Make all applications of this process share compiled templates."""
    options: dict[str, Any] = {**Flask.jinja_options, "bytecode_cache": CompiledTemplates()}
    Flask.jinja_options = options
