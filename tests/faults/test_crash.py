"""The server is killed during force logouts. Longer: ``python -m tests.benchmarks.crashes``."""

from __future__ import annotations

import random

import pytest

from tests.support import crashes
from tests.support.databases import MakeHost

pytestmark = pytest.mark.slow

KILLS = 12


def test_a_killed_server_loses_no_force_logout_and_leaves_none_half_done(
    make_host: MakeHost, database_url: str
) -> None:
    seed = random.randrange(2**32)

    host = make_host(database_url)

    tally = crashes.run(host, host.app.config["SQLALCHEMY_DATABASE_URI"], KILLS, seed)

    assert (tally.lost, tally.half, tally.wrong) == (0, 0, []), f"seed {seed}"
    assert tally.kills == KILLS
    # Enough kills fell within a request.
    assert tally.interrupting >= KILLS // 3
    assert tally.answered > 0
