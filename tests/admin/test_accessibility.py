"""axe-core on every state of the pages, in both layouts; one state of each page in both schemes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.screenshots.sites import SITES
from tests.screenshots.stage import Stage, open_stage, states_of
from tests.screenshots.states import ALL
from tests.support.axe import CONTRAST, violations

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

LANGUAGES = {"center": "ko", "default": "en"}
"""One language each: the markup is the same in the other."""

IN_BOTH_LAYOUTS = {
    "list-open-row",
    "list-signed-out",
    "list-bad-filter",
    "confirm",
    "user",
    "user-unknown",
    "page-403",
    "page-404",
    "page-429",
    "page-503",
}
"""One state of each page that the layouts share, dark too; the Admin Center has all states."""


@pytest.fixture(scope="module", params=SITES)
def stage(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp(request.param)
    with open_stage(browser, request.param, LANGUAGES[request.param], home=home) as stage:
        yield stage


def test_axe_finds_no_violation_in_any_state(stage: Stage) -> None:
    found: dict[str, list[str]] = {}

    for state in states_of(stage.site):
        if not stage.site.is_center and state.name not in IN_BOTH_LAYOUTS:
            continue
        page = state.bring(stage)
        page.bring_to_front()
        page.emulate_media(color_scheme="light")
        found[state.name] = violations(page)
        if state.name in IN_BOTH_LAYOUTS:
            page.emulate_media(color_scheme="dark")
            found[f"{state.name}, dark"] = violations(page, rules=CONTRAST)
        stage.close_pages()

    assert {name: nodes for name, nodes in found.items() if nodes} == {}
    states = ALL if stage.site.is_center else IN_BOTH_LAYOUTS
    assert len(found) == len(states) + len(IN_BOTH_LAYOUTS)
