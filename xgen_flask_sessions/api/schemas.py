"""What the JSON API takes and answers, as JSON Schemas (2020-12)."""

from __future__ import annotations

from typing import Any

from ..store.tables import MAX_REASON

Object = dict[str, Any]


def ref(name: str) -> Object:
    """Return a reference to the schema of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _record(**members: Object) -> Object:
    """Return the schema of an object that has all of *members*."""
    return {"type": "object", "required": list(members), "properties": members}


def _list_of(name: str) -> Object:
    return {"type": "array", "items": ref(name)}


def schemas() -> Object:
    """Return the schemas by name."""
    text: Object = {"type": "string"}
    count: Object = {"type": "integer", "minimum": 0}
    flag: Object = {"type": "boolean"}
    time: Object = {"type": "string", "format": "date-time"}
    text_or_null: Object = {"type": ["string", "null"]}
    seconds = count | {"description": "In seconds."}
    return {
        "Session": _record(
            session_id=text,
            browser=text_or_null,
            device=text_or_null,
            signed_in=time,
            expires=time,
            ip=text_or_null,
            current=flag | {"description": "Whether it is the one that asks."},
        ),
        "SessionList": _record(sessions=_list_of("Session")),
        "UserSessions": _record(user_id=text, sessions=_list_of("Session")),
        "Summary": _record(active_users=count, active_sessions=count, superusers=count),
        "User": _record(
            user_id=text,
            username=text,
            name=text_or_null,
            department=text_or_null,
            superuser=flag,
            active_sessions=count,
            last_login={"type": ["string", "null"], "format": "date-time"},
            last_ip=text_or_null,
        ),
        "UserPage": _record(
            summary=ref("Summary"), users=_list_of("User"), page=count, pages=count
        ),
        "RenewedByCookie": _record(session_id=text, expires_in=seconds)
        | {"not": {"required": ["access_token"]}},
        "RenewedByHeader": _record(
            session_id=text, expires_in=seconds, access_token=text, token_type={"const": "Bearer"}
        ),
        "Reason": {
            "type": "object",
            "properties": {
                "reason": text_or_null | {"maxLength": MAX_REASON, "description": "For the record."}
            },
        },
        "ForcedOut": _record(user_id=text, sessions_ended=count, invalid_before=time),
        "Problem": _problem_schema(),
    }


def _problem_schema() -> Object:
    schema = _record(
        type={"const": "about:blank"},
        title={"type": "string"},
        status={"type": "integer"},
        detail={"type": "string", "description": "A sentence for people."},
        code={"type": "string", "description": "A stable name for programs."},
    )
    schema["properties"]["forced"] = {
        "type": "boolean",
        "description": "With `session_revoked`: whether an administrator ended the session.",
    }
    return schema
