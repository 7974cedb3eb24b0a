"""The benchmark commands run, and print and write every figure; the values are not checked."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import jwt
import pytest
import redis

from tests.benchmarks import (
    cases,
    polling,
    profile_request,
    screen,
    sockets,
    staleness,
    verification,
)
from tests.benchmarks.cases import BASE, CASES
from tests.benchmarks.measuring import in_turn, ratios
from tests.benchmarks.sites import Caller
from tests.benchmarks.verification import checked_requests
from tests.support import databases
from tests.support.databases import REDIS, Server, reason_against_redis, require_service
from tests.support.redis_place import RedisPlace, redis_place

pytestmark = pytest.mark.slow


def test_the_table_and_the_json_have_every_case(
    server: Callable[[str], Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server("postgresql"), server("mariadb")  # skips the test if one is missing
    file = tmp_path / "figures.json"

    assert verification.main(["--rounds", "1", "--requests", "1", "--json", str(file)]) == 0

    document = json.loads(file.read_text())
    table = capsys.readouterr().out
    assert list(document["cases"]) == list(CASES)
    for name, case in CASES.items():
        (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
        figure = document["cases"][name]
        if case.package is None or importlib.util.find_spec(case.package):
            assert figure["us"] > 0
            assert f"{figure['ratio']:.2f}" in line
        else:
            assert case.package in figure["left_out"]
            assert figure["left_out"] in line
    assert document["cases"][BASE]["ratio"] == 1
    assert document["machine"]["cores"] >= 1


def test_a_case_leaves_nothing_in_redis() -> None:
    require_service(reason_against_redis())
    case = CASES["Flask-JWT-Extended, blocklist in redis"]
    try:
        with cases.places() as lent, cases.ready(case, lent) as (site, caller, _):
            checked_requests(site, caller)
            token = (caller.revoked or {})["Authorization"].partition(" ")[2]
    except cases.Unavailable as error:
        pytest.skip(str(error))
    key = jwt.decode(token, options={"verify_signature": False})["jti"]
    with redis.Redis.from_url(REDIS) as client:
        assert not client.exists(key)


def test_only_the_named_cases_and_the_base_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--rounds", "1", "--requests", "1", "--only", "no token", "strict, sqlite"]

    assert verification.main(arguments) == 0

    table = capsys.readouterr().out
    assert "no token at all" in table
    assert BASE in table
    assert table.count("strict, sqlite") == 2
    assert "postgresql" not in table


def test_a_missing_server_is_named_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(
        databases.SERVERS, "postgresql", "postgresql+psycopg://postgres@127.0.0.1:9/none"
    )
    arguments = ["--rounds", "1", "--requests", "1", "--only", "token_required, strict, postgresql"]

    assert verification.main(arguments) == 0

    assert "left out: postgresql: " in capsys.readouterr().out


def test_a_case_that_accepts_a_revoked_token_is_not_measured(tmp_path: Path) -> None:
    site = CASES["no token at all"].build(f"sqlite:///{tmp_path / 'open.db'}")
    try:
        caller = site.sign_in()
        with pytest.raises(RuntimeError, match="revoked token was answered with 200"):
            checked_requests(site, type(caller)({}, revoked={"Authorization": "Bearer old"}))
    finally:
        site.dispose()


def test_ratios_are_taken_round_by_round() -> None:
    busy = iter([1.0, 1.0, 9.0])

    results = in_turn({"base": lambda: 2.0, "own": lambda: next(busy)}, rounds=3, warm_up=0)

    assert ratios(results, "base") == {"base": 1.0, "own": 0.5}


def test_the_profile_has_every_step_and_they_add_up(
    server: Callable[[str], Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server("postgresql")
    file = tmp_path / "profile.json"
    arguments = ["--rounds", "3", "--requests", "3", "--only", "sqlite", "postgresql"]

    assert profile_request.main([*arguments, "--json", str(file)]) == 0

    table = capsys.readouterr().out
    for database in ("sqlite", "postgresql"):
        figures = json.loads(file.read_text())["us"][database]
        assert list(figures) == [
            *profile_request.STEPS,
            "in all",
            profile_request.BESIDE,
            profile_request.ALONE,
        ]
        assert figures["in all"] > 0 < figures[profile_request.ALONE]
    for row in (*profile_request.STEPS, "in all"):
        assert f"| {row} |" in table
    assert net(profile_request.STEPS) == {"whole": 1}


def net(steps: Mapping[str, tuple[str, tuple[str, ...]]]) -> dict[str, int]:
    """Return the measurements that remain in the sum of all rows, each with its count."""
    counts: Counter[str] = Counter()
    for name, others in steps.values():
        counts[name] += 1
        for other in others:
            counts[other.removeprefix("-")] -= -1 if other.startswith("-") else 1
    return {name: count for name, count in counts.items() if count}


@pytest.mark.skipif(sockets.missing() is not None, reason=str(sockets.missing()))
def test_sockets_lists_each_case_or_the_reason_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sockets, "WORKERS", (2,))
    file = tmp_path / "sockets.json"
    monkeypatch.setitem(
        databases.SERVERS, "postgresql", "postgresql+psycopg://postgres@127.0.0.1:9/none"
    )
    names = [
        "Flask-Security",
        "token_required, watch, sqlite",
        "login_required, strict, postgresql",
    ]

    assert sockets.main(["--seconds", "1", "--json", str(file), "--only", *names]) == 0

    document = json.loads(file.read_text())
    peer = ["Flask-Security, token, sqlite"] if importlib.util.find_spec("flask_security") else []
    assert list(document["cases"]) == [BASE, *peer, "token_required, watch, sqlite"]
    for figures in document["cases"].values():
        assert all(figure["per_second"] > 0 < figure["p99_ms"] for figure in figures.values())
    assert "login_required, strict, postgresql" in document["left_out"]
    table = capsys.readouterr().out
    assert f"| {BASE} |" in table
    assert "| login_required, strict, postgresql | left out: postgresql: " in table


@pytest.mark.skipif(sockets.missing() is not None, reason=str(sockets.missing()))
def test_a_wrong_answer_over_sockets_is_an_error_and_the_server_is_stopped(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'open.db'}"
    wanted = {"Authorization": "Bearer old"}

    with sockets.server("no token at all", url, 1, {}) as address:
        sockets.require_right_answers(address, Caller({}))
        with pytest.raises(RuntimeError, match="A revoked token was answered with 200"):
            sockets.require_right_answers(address, Caller({}, revoked=wanted))
        with pytest.raises(RuntimeError, match="A request without a token was answered with 200"):
            sockets.require_right_answers(address, Caller(wanted))
        elsewhere = f"{address}/elsewhere"
        with pytest.raises(RuntimeError, match="A valid token was answered with 404"):
            sockets.require_right_answers(elsewhere, Caller({}))
        with pytest.raises(RuntimeError, match="Not every request"):
            sockets.load(elsewhere, {}, 1, 3)

    with pytest.raises(ConnectionError):
        sockets.answer(address, {})


@pytest.mark.parametrize("name", ["sqlite", staleness.OVER_REDIS, staleness.SERVICE])
def test_staleness_measures_each_process_and_revocation(
    name: str,
    server: Callable[[str], Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lent: list[RedisPlace] = []
    if name != "sqlite":
        server("mariadb")
        require_service(reason_against_redis())
        monkeypatch.setattr(staleness, "redis_place", redis_place_appending_to(lent))
    file = tmp_path / "staleness.json"
    arguments = ["--processes", "2", "--revocations", "4", "--others", "20", "--only", name]

    assert staleness.main([*arguments, "--json", str(file)]) == 0

    figures = json.loads(file.read_text())["databases"][name]["since it returned"]
    assert figures["count"] == 2 * 4
    assert 0 <= figures["median"] <= figures["p99"] <= figures["longest"] < 60_000
    assert f"| {name} | 8 |" in capsys.readouterr().out
    assert len(lent) == (name != "sqlite")
    for place in lent:
        with redis.Redis.from_url(place.url) as client:
            assert not list(client.scan_iter(f"*{place.issuer}*"))


def redis_place_appending_to(
    lent: list[RedisPlace],
) -> Callable[[str], AbstractContextManager[RedisPlace]]:
    """Return a ``redis_place`` that also appends each place to *lent*."""

    @contextmanager
    def lend(url: str) -> Iterator[RedisPlace]:
        with redis_place(url) as place:
            lent.append(place)
            yield place

    return lend


def test_staleness_leaves_the_service_out_without_redis(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cases, "REDIS", "redis://127.0.0.1:9/0")

    assert staleness.main(["--only", staleness.SERVICE]) == 0

    assert "| service | left out: redis: " in capsys.readouterr().out


def test_screen_prints_the_time_and_the_plan_of_each_look_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--users", "90", "--sessions", "180", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["screen", *arguments])

    screen.main()

    told = capsys.readouterr().out
    assert re.search(
        r"^\| JSON, last page \| (\d+: \d+\.\d, )+\d+: \d+\.\d \|$", told, re.MULTILINE
    )
    looked = re.findall(
        r"^Look-up (\d+), .+: \d+\.\d ms, at worst \d+\.\d, rows: \d+\nSELECT .*xgen_.*\n    \w",
        told,
        re.MULTILINE,
    )
    assert looked == [str(number) for number in range(1, len(looked) + 1)]
    assert len(looked) > 5


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_polling_prints_the_time_and_the_statements_of_each_request(
    server: Callable[[str], Server],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    url = (
        f"sqlite:///{tmp_path / 'polling.db'}" if kind == "sqlite" else server(kind).kept("polling")
    )

    polling.main(["--users", "90", "--sessions", "180", "--rounds", "1", "--database-url", url])

    told = capsys.readouterr().out
    lines = re.findall(r"^\| (.+?) (?:\| \d+\.\d ){3}\| (\d+) \|$", told, re.MULTILINE)
    assert dict(lines)["poll, 304"] == "3"
    assert [name for name, _ in lines] == [
        "poll, 304", "poll, 200", "50 rows", "session guard", "page",
    ]  # fmt: skip
    assert len(re.findall(r"^SELECT .*xgen_.*\n    \w", told, re.MULTILINE)) == 2


def test_sockets_names_a_missing_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert sockets.main([]) == 1

    assert "apt-get install wrk" in capsys.readouterr().err


def test_a_load_with_refusals_gives_no_figures() -> None:
    told = "  Latency Distribution\n     99%  950.00us\nRequests/sec:   1200.50\n"

    assert sockets.read(told) == {"per_second": 1200.5, "p99_ms": 0.95}
    with pytest.raises(RuntimeError, match="Not every request"):
        sockets.read(f"{told}  Non-2xx or 3xx responses: 3\n")


def test_the_recommended_walks_can_be_done(tmp_path: Path) -> None:
    require_service(None if shutil.which("chromium") else "Chromium is not installed")
    file = tmp_path / "walks.json"
    arguments = ["--users", "120", "--sessions", "400", "--json", str(file)]

    done = subprocess.run(  # Playwright runs once in a process
        [sys.executable, "-m", "tests.benchmarks.walks", *arguments],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    walks = json.loads(file.read_text())
    assert len(walks) == 6
    assert all(walk["possible"] for walk in walks)
