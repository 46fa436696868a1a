"""One Chromium for all tests of pages; each test has tabs of its own."""

import os

import pytest

from tests.support.chromium import browser, find_chromium


@pytest.fixture(scope="session")
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
