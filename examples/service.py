"""A service without the database: it verifies tokens by a key and the feed in Redis."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from xgen_flask_sessions import TokenMissing, VerifiedToken, XgenSessionsError
from xgen_flask_sessions.verifier import Verifier

verifier = Verifier(
    redis_url=os.environ["XGEN_SESSIONS_REDIS_URL"],
    secret_key=os.environ["XGEN_SESSIONS_SECRET_KEY"],  # or jwks_file="jwks.json"
    issuer=os.environ.get("XGEN_SESSIONS_ISSUER", "xgen"),
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    with verifier:
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(XgenSessionsError)
async def refuse(_: Request, error: XgenSessionsError) -> JSONResponse:
    headers = {}
    if error.status == 401:  # RFC 6750, section 3
        reason = f', error="{error.oauth_error}"' if error.oauth_error else ""
        headers["WWW-Authenticate"] = 'Bearer realm="xgen"' + reason
    if error.retry_after_s is not None:  # 503: the revocations are not known at the moment
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse({"code": error.code, "detail": error.detail}, error.status, headers)


Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


async def caller(bearer: Bearer) -> VerifiedToken:
    if bearer is None:
        raise TokenMissing
    return verifier.verify(bearer.credentials)


@app.get("/orders")
async def orders(token: Annotated[VerifiedToken, Depends(caller)]) -> dict[str, str]:
    return {"orders_of": token.user_id}
