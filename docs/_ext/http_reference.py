"""The directive ``http-reference``: the JSON API, from the document that an application serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generated import MarkdownDirective, application, code, table
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

METHODS = ("get", "post", "put", "patch", "delete")


def document() -> dict[str, Any]:
    """Return the OpenAPI document of an application."""
    answer = application().test_client().get("/sessions/openapi.json")
    if answer.status_code != 200:
        raise ExtensionError(f"The OpenAPI document cannot be read: {answer.text}")
    found: dict[str, Any] = answer.get_json()
    return found


def operations(api: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and operation, the path's own parameters included."""
    for path, item in api["paths"].items():
        for method in METHODS:
            if method in item:
                shared = item.get("parameters", [])
                own = item[method].get("parameters", [])
                yield method.upper(), path, item[method] | {"parameters": [*shared, *own]}


class HttpReference(MarkdownDirective):
    """A section for each operation, by tag, and one for each schema."""

    def markdown(self) -> str:
        """Return the API as Markdown."""
        api = document()
        shared = _shared(api)
        lines = ["## Answers of every protected call\n", _answers(shared)]
        for tag in api["tags"]:
            lines += [f"## {tag['description'].rstrip('.')}\n"]
            for method, path, operation in operations(api):
                if tag["name"] in operation["tags"]:
                    lines += _operation(api, method, path, operation, shared)
        lines += ["## Schemas\n"]
        for name, schema in api["components"]["schemas"].items():
            lines += _schema(api, name, schema)
        return "\n".join(lines)


def _rows(api: dict[str, Any], operation: dict[str, Any]) -> list[list[str]]:
    found = sorted(operation["responses"].items())
    answers = [(status, _resolved(api, answer)) for status, answer in found]
    return [[status, answer["description"], _content(answer)] for status, answer in answers]


def _shared(api: dict[str, Any]) -> list[list[str]]:
    """Return the answers that every protected operation has."""
    protected = [_rows(api, each) for _, _, each in operations(api) if each.get("security") != []]
    return [row for row in protected[0] if all(row in rows for rows in protected)]


def _answers(rows: list[list[str]]) -> str:
    return table(["Status", "Meaning", "Body, or `code`"], rows)


def _operation(
    api: dict[str, Any],
    method: str,
    path: str,
    operation: dict[str, Any],
    shared: list[list[str]],
) -> list[str]:
    lines = [f"### `{method} {api['servers'][0]['url']}{path}`\n", operation["summary"] + "\n"]
    parameters = [_resolved(api, each) for each in operation["parameters"]]
    if parameters:
        rows = (
            [code(each["name"]), each["in"], _type(each["schema"]), each.get("description", "")]
            for each in parameters
        )
        lines.append(table(["Parameter", "In", "Type", "Meaning"], rows))
    if "requestBody" in operation:
        needed = "required" if operation["requestBody"].get("required") else "optional"
        lines.append(f"Body ({needed}): {_bodies(operation['requestBody'])}\n")
    lines.append(_answers([row for row in _rows(api, operation) if row not in shared]))
    return lines


def _bodies(body: dict[str, Any]) -> str:
    return ", ".join(_names(each["schema"]) for each in body["content"].values())


def _content(answer: dict[str, Any]) -> str:
    content = answer.get("content", {})
    problem = content.get("application/problem+json")
    if problem is not None:
        return ", ".join(map(code, _codes(problem["schema"])))
    return ", ".join(_names(each["schema"]) for each in content.values())


def _codes(schema: dict[str, Any]) -> list[str]:
    for part in schema.get("allOf", [schema]):
        found: list[str] = part.get("properties", {}).get("code", {}).get("enum", [])
        if found:
            return found
    return []


def _names(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return code(schema["$ref"].rpartition("/")[2])
    if "oneOf" in schema:
        return " or ".join(map(_names, schema["oneOf"]))
    return _type(schema)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _names(schema)
    if "enum" in schema:
        return ", ".join(map(code, schema["enum"]))
    if "const" in schema:
        return code(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    kinds = schema.get("type", "object")
    words = " or ".join(kinds) if isinstance(kinds, list) else kinds
    if "format" in schema:
        words += f" ({schema['format']})"
    if "default" in schema:
        words += f", {schema['default']} if left out"
    return str(words)


def _schema(api: dict[str, Any], name: str, schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", [])
    rows = (
        [
            code(member),
            _type(_resolved(api, each) if "$ref" not in each else each),
            "" if member in required else "optional",
            each.get("description", ""),
        ]
        for member, each in schema.get("properties", {}).items()
    )
    return [f"### `{name}`\n", table(["Member", "Type", "", "Meaning"], rows)]


def _resolved(api: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found: Any = api
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    resolved: dict[str, Any] = found
    return resolved


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("http-reference", HttpReference)
    return {"parallel_read_safe": True}
