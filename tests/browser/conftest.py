"""One Chromium for the tests of a file; each test has tabs of its own."""

import os

import pytest

from tests.support.chromium import browser, find_chromium


# For a file, not for the session: a start takes 1 s of CPU, and one that idles takes as much in 20 s.
@pytest.fixture(scope="module")
async def chromium_browser(tmp_path_factory):
    """A Chromium. In CI its absence is a failure: what a page shows has no other proof."""
    if find_chromium() is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium (Debian: apt install chromium)")
        pytest.skip("no chromium (Debian: apt install chromium)")
    async with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
async def tab(chromium_browser):
    async with chromium_browser.tab() as tab:
        await tab.watch()
        yield tab
