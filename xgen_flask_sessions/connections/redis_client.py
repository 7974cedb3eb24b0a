"""The options of the clients that connect to Redis."""

from __future__ import annotations

from typing import Any, Final

TIMEOUT_S: Final = 0.5
"""Seconds that Redis may take to connect or to answer; a blocking read may wait in addition."""


def client_options() -> dict[str, Any]:
    """Return the timeouts and the retry policy that every client uses.

    :raises ImportError: The driver is not installed.
    """
    from redis.backoff import NoBackoff
    from redis.exceptions import ReadOnlyError, ResponseError
    from redis.retry import Retry

    class PrimaryRetry(Retry):
        """Retries a script, too, that a replica refused: before Redis 7, that is another error."""

        def call_with_retry(self, do: Any, *args: Any, **kwargs: Any) -> Any:
            def translated() -> Any:
                try:
                    return do()
                except ResponseError as error:
                    if "-READONLY " in str(error):
                        raise ReadOnlyError(str(error)) from error
                    raise

            return super().call_with_retry(translated, *args, **kwargs)

    return {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": PrimaryRetry(NoBackoff(), 1),  # once: an idle connection may have been closed
        "retry_on_error": [ReadOnlyError],  # on a new connection: the address has a new primary
    }


def require_known_options(pool: Any) -> None:
    """Check the options of a Redis URL, which are used at the first connection only.

    :param pool: The client's pool, which opens no connection here.
    :raises TypeError: One of them is unknown to redis-py.
    """
    pool.connection_class(**pool.connection_kwargs)
