"""Verifies tokens in services without the deployment's database: keys and Redis are enough.

No Flask, no SQLAlchemy: for an API of the same deployment on FastAPI, gRPC or anything else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from . import clock
from .clock import MAX_LEEWAY, SECOND_US
from .errors import ConfigurationError, SessionRevoked, TokenInvalid
from .feed.redis_denylist import RedisDenylist
from .feed.redis_stream import SHORTEST_STALENESS_S
from .feed.signed_state import FeedState, StateSigner
from .runtime import elapsed
from .tokens.claims import VerifiedToken as VerifiedToken
from .tokens.claims import verified_token
from .tokens.codec import TokenCodec
from .tokens.verifying_keys import VerifyingKeys

_log = logging.getLogger(__name__)

_ALL_ENDED: Final = "An administrator, or a change of the account, ended the session."
_LONGEST_STALENESS_S: Final = 60.0
_MAX_LOGGED: Final = 100
"""Other deployments that are logged, at most."""
_KEYS_S: Final = 1.0
"""Seconds between two checks of the JWKS file."""


class Verifier:
    """Checks tokens against keys and a denylist in memory that follows the feed in Redis.

    One thread per process follows the feed. It always knows the age of its knowledge. Once that
    exceeds *max_staleness*, or if the feed is incomplete or not proven by the keys, no token passes
    until it is whole again. So a revoked token is refused *max_staleness* seconds after the
    revocation's commit at the latest, whatever fails; usually within milliseconds.

    Two facts that a database would know are unknown here: that a genuine token was never recorded,
    because its transaction was rolled back, and that its row was deleted manually. Revoke such
    tokens by a force logout.

    Memory: about 250 bytes for each user or session that was signed out, as long as one of its
    tokens is unexpired, and for each renewed session, as long as an older token is; twice as much
    for a moment each hour. The process must not be forked by several threads at the same time; a
    forked process starts its own thread.

    :param redis_url: The deployment's ``XGEN_SESSIONS_REDIS_URL``: ``redis://host:6379/0``. Read
        permission is enough: ``+@read +@connection +@transaction +time`` on ``xgen_sessions:*``.
    :param secret_key: Its ``SECRET_KEY``, if it signs with HS256.
    :param public_keys: Its public keys in PEM, if it signs with another algorithm.
    :param jwks_file: The same as a file, as ``flask xgen-sessions jwks`` prints it; it is read
        again when it changes.
    :param previous_keys: Secrets or public keys that no longer sign and still verify.
    :param issuer: Its ``ISSUER``.
    :param audience: Its ``AUDIENCE``.
    :param leeway: Seconds for which a token is accepted after its ``exp``; up to 300.
    :param max_staleness: The staleness bound in seconds, 0.5 to 60.
    :raises ConfigurationError: A parameter is wrong; the message names the fix.
    """

    def __init__(
        self,
        *,
        redis_url: str,
        secret_key: str | bytes | None = None,
        public_keys: Sequence[str | bytes] = (),
        jwks_file: str | os.PathLike[str] | None = None,
        previous_keys: Sequence[str | bytes] = (),
        issuer: str = "xgen",
        audience: str | None = None,
        leeway: float = 0,
        max_staleness: float = 2.0,
    ) -> None:
        if not SHORTEST_STALENESS_S <= max_staleness <= _LONGEST_STALENESS_S:
            raise ConfigurationError("max_staleness must be 0.5 to 60 seconds.")
        if not 0 <= leeway <= MAX_LEEWAY.total_seconds():
            raise ConfigurationError("leeway must be 0 to 300 seconds.")
        self._issuer = issuer
        self._audience = audience
        self._leeway_us = round(leeway * SECOND_US)
        self._denylist = RedisDenylist(
            redis_url, issuer, max_staleness, self._open_state, self._reread_keys
        )
        self._keys = VerifyingKeys(secret_key, public_keys, jwks_file, previous_keys)
        self._keys_due_s = 0.0
        self._logged_deployments: set[str] = set()
        self._load_keys()

    def verify(self, token: str) -> VerifiedToken:
        """Check one token.

        The first call in a process waits for the feed, up to *max_staleness*; the other calls never
        wait.

        :param token: The compact JWS, as sent.
        :raises TokenInvalid: The deployment whose feed is in Redis did not issue it.
        :raises TokenExpired: Its ``exp`` has passed.
        :raises SessionRevoked: Its session, its user or everyone was signed out after its issue.
        :raises DenylistUnavailable: The revocations are unknown now; the token must not pass.
        """
        now_us = clock.now_us()
        claims = self._codec.decode(token, now_us=now_us)
        view = self._denylist.view
        if view is None or view.fresh_until_s <= elapsed():
            view = self._denylist.first_view()
        # Tokens of earlier releases do not name their deployment.
        if claims.deployment != view.deployment and claims.deployment is not None:
            self._log_deployment(claims.deployment, view.deployment)
            raise TokenInvalid("Another deployment issued the token.")
        revoked = view.revoked.revoked_by(
            claims.user_id, claims.session_id, claims.issued_us, now_us
        )
        if revoked is not None:
            # The feed does not tell a force logout from a change of the account.
            forced = revoked == "forced"
            raise SessionRevoked(
                _ALL_ENDED if forced else None, forced=forced, user_id=claims.user_id
            )
        return verified_token(claims)

    def ready(self, timeout: float = 0) -> bool:
        """Return whether tokens can be checked now.

        :param timeout: Seconds to wait for it.
        """
        self._denylist.start()
        return self._denylist.wait_until(elapsed() + timeout) is not None

    def close(self) -> None:
        """End the thread and close the connections; the next use starts a new one."""
        self._denylist.close()

    def __enter__(self) -> Self:
        self._denylist.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _load_keys(self) -> None:
        keys = self._keys.load()
        self._signer = StateSigner(keys, self._issuer)
        self._codec = TokenCodec(
            keys, issuer=self._issuer, audience=self._audience, leeway_us=self._leeway_us
        )

    def _open_state(self, text: bytes) -> FeedState:
        return self._signer.open(text)

    def _log_deployment(self, issued_by: str, published_by: str) -> None:
        """Log once that tokens of another deployment are refused."""
        logged = self._logged_deployments
        if issued_by not in logged and len(logged) < _MAX_LOGGED:
            logged.add(issued_by)
            _log.warning(
                "A token of the deployment %s was refused: the feed in Redis is that of the "
                "deployment %s. If this service belongs to the first, the two share the issuer %r "
                "and Redis by mistake; `flask xgen-sessions doctor` says how to change it.",
                issued_by,
                published_by,
                self._issuer,
            )

    def _reread_keys(self) -> None:
        """Read the JWKS file again if it has changed; keep the keys if it cannot be used."""
        if elapsed() < self._keys_due_s:
            return
        self._keys_due_s = elapsed() + _KEYS_S
        try:
            if self._keys.have_changed():
                self._load_keys()
        except (OSError, ConfigurationError) as error:
            _log.error("The keys were not reloaded, and the current ones stay in use: %s", error)
