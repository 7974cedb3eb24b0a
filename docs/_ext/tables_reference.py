"""The directive ``tables-reference``: the tables, columns and indexes, read off the models."""

from __future__ import annotations

from typing import cast

import sqlalchemy as sa
from generated import MarkdownDirective, code, table
from internals import TablesBase
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sqlalchemy.orm import Mapper


def column_docs(mapper: Mapper[object]) -> dict[str, str]:
    """Return the documentation of a model's columns, by name."""
    model = mapper.class_
    comments = ModuleAnalyzer.for_module(model.__module__).find_attr_docs()
    return {
        column.key: " ".join(comments.get((model.__name__, column.key), []))
        for column in mapper.column_attrs
    }


class TablesReference(MarkdownDirective):
    """A section for each table."""

    def markdown(self) -> str:
        """Return a heading, a table of the columns, and the indexes of each table."""
        mappers = {each.local_table: each for each in TablesBase.registry.mappers}
        return "\n".join(_section(mappers[each]) for each in TablesBase.metadata.tables.values())


def _section(mapper: Mapper[object]) -> str:
    ours = cast("sa.Table", mapper.local_table)
    docs = column_docs(mapper)
    rows = (
        [
            code(column.name) + (" (key)" if column.primary_key else ""),
            code(column.type),
            "yes" if column.nullable else "",
            docs[column.name],
        ]
        for column in ours.columns
    )
    indexes = sorted(ours.indexes, key=lambda index: str(index.name))
    lines = (
        f"- `{index.name}`: {', '.join(code(column.name) for column in index.columns)}"
        for index in indexes
    )
    return "\n".join(
        [
            f"## `{ours.name}`\n",
            (mapper.class_.__doc__ or "") + "\n",
            table(["Column", "Type", "Optional", "Content"], rows),
            *(["Indexes:\n", *lines, ""] if indexes else []),
        ]
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("tables-reference", TablesReference)
    return {"parallel_read_safe": True}
