"""The compressed size of the scripts and the styles of the administrator's pages."""

from __future__ import annotations

import gzip
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup
from flask.testing import FlaskClient

from tests.support.databases import MakeHost
from tests.support.screen import SCREEN, sign_in, with_screen

LIMIT = 20 * 1024
"""Bytes, for all scripts of a page and for all its styles."""


def weights(client: FlaskClient, path: str) -> dict[str, int]:
    """Return the compressed bytes of a page's scripts and styles, files and inline."""
    answer = client.get(path)
    assert answer.status_code == 200
    page = BeautifulSoup(answer.text, "html.parser")
    found = {
        "script": ([each["src"] for each in page.select("script[src]")], page.select("script")),
        "style": ([each["href"] for each in page.select("link[rel=stylesheet]")], []),
    }
    total = {}
    for kind, (files, inline) in found.items():
        texts = [client.get(urlsplit(str(url)).path, buffered=True).get_data() for url in files]
        texts += [each.text.encode() for each in inline if "src" not in each.attrs]
        total[kind] = sum(len(gzip.compress(text, 6)) for text in texts)
    return total


@pytest.mark.parametrize("path", [SCREEN, f"{SCREEN}user?user_id={{user_id}}"])
def test_scripts_and_styles_of_a_page_are_small(
    make_host: MakeHost, sqlite_url: str, path: str
) -> None:
    host = make_host(sqlite_url, extras=with_screen)
    user_id = host.add_user("admin", is_superuser=True)

    weight = weights(sign_in(host, user_id), path.format(user_id=user_id))

    print(f"{path}: {weight}")
    assert min(weight.values()) > 0, "the page has scripts and styles"
    assert max(weight.values()) <= LIMIT
