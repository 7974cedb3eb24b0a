"""The server is killed in the midst of force logouts. The long form: tests.benchmarks.crashes."""

from __future__ import annotations

import random

import pytest

from tests.support import crashes
from tests.support.databases import MakeHost

pytestmark = pytest.mark.slow

KILLS = 25


def test_a_killed_server_loses_no_force_logout_and_leaves_no_half_of_one(
    make_host: MakeHost, database_url: str
) -> None:
    seed = random.randrange(2**32)

    host = make_host(database_url)

    tally = crashes.run(host, host.app.config["SQLALCHEMY_DATABASE_URI"], KILLS, seed)

    assert (tally.lost, tally.half, tally.wrong) == (0, 0, []), f"seed {seed}"
    assert tally.kills == KILLS
    # The kills fell where they were to fall: in the midst of requests.
    assert tally.interrupting >= KILLS // 3
    assert tally.answered > 0
