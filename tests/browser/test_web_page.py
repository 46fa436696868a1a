"""The page of examples/web in a real Chromium."""

import os
import re

import pytest

from tests.support.processes import program
from tests.support.road import Road

OPENING = "Let me look that up."
ANSWER = "Three ferries are left today"
END = "document.querySelector('footer').innerText.startsWith('completed')"
ANSWERED = "document.querySelector('#answer').innerText"


@pytest.fixture(scope="module")
async def site():
    """The example as its users start it: its address."""
    async with program("-m", "examples.web", "0") as example:
        line = await example.line()
        if not line:
            _, _, err = await example.ended(within=20)
            if "ServerUnavailable" not in err or os.environ.get("CI"):
                pytest.fail(err)
            pytest.skip(err.strip().rpartition("\n")[2])
        [url] = re.findall(r"http://\S+", line)
        yield url


@pytest.fixture
async def road(site):
    """The network between the browser and the site."""
    async with Road(site) as road:
        yield road


@pytest.fixture
async def page(road, chromium_browser):
    """A tab that shows the site."""
    async with chromium_browser.tab() as page:
        await page.open(road.url)
        await page.until("document.readyState === 'complete' && location.protocol === 'http:'")
        yield page


async def ask(page, number):
    await page.evaluate(f"document.querySelectorAll('#suggestions button')[{number}].click()")


async def test_words_tools_and_the_end_are_drawn(page):
    """I ask, watch the words come, see the tool and its result, and how it ended."""
    await ask(page, 0)

    half = await page.until(f"{ANSWERED}.includes('Three') && {ANSWERED}")
    await page.until(END)

    assert ANSWER not in half
    shown = await page.evaluate(ANSWERED)
    assert shown.count(OPENING) == shown.count(ANSWER) == 1
    assert 'timetable {"place": "Lisbon"}\nLisbon: 09:40, 14:10, 18:30' in shown


async def test_a_dead_attempt_is_taken_back(page):
    """The call that failed is gone with its words; the rest is struck out, and gone with the next attempt."""
    await ask(page, 1)

    await page.until(f"{ANSWERED}.includes('gone alr')")
    struck = await page.until("document.querySelector('.dead')?.innerText")
    await page.until(END)

    assert struck.startswith(OPENING)
    assert "gone alr" not in struck
    shown = await page.evaluate(ANSWERED)
    assert "gone alr" not in shown
    assert shown.count(OPENING) == shown.count(ANSWER) == 1
    assert shown.count("taken back") == 1


async def test_a_reload_in_mid_sentence_loses_nothing(page):
    """I press F5 while it answers."""
    await ask(page, 0)
    await page.until(f"{ANSWERED}.includes('Three')")

    await page.reload()
    question = await page.until("document.querySelector('#question').innerText")
    await page.until(END)

    shown = await page.evaluate(ANSWERED)
    assert question == "When does the ferry to Lisbon leave?"
    assert shown.count(OPENING) == shown.count(ANSWER) == 1


async def test_a_lost_connection_is_found_again(page, road):
    """The stream breaks in mid-sentence. The page connects again, names its place, repeats nothing."""
    await ask(page, 0)
    await page.until(f"{ANSWERED}.includes('Three')")

    road.cut()
    await page.until(END)

    shown = await page.evaluate(ANSWERED)
    assert shown.count(OPENING) == shown.count(ANSWER) == 1
    assert ["last-event-id: 1~" in request for request in road.streams] == [False, True]


async def test_a_site_that_is_away_for_a_moment_is_found_again(page, road):
    """It answers with an error; the page comes again, and goes on where it was."""
    await ask(page, 0)
    await page.until(f"{ANSWERED}.includes('Three')")

    road.refuse(1)
    road.cut()
    await page.until(END)

    shown = await page.evaluate(ANSWERED)
    assert shown.count(OPENING) == shown.count(ANSWER) == 1
    assert ["last-event-id: 1~" in request for request in road.streams] == [False, True, True]


async def test_stop_says_so(page):
    """I press Stop, and the page says what Temporal says."""
    await ask(page, 0)
    await page.until(f"{ANSWERED}.includes('Let')")

    await page.evaluate("document.querySelector('footer button').click()")

    assert await page.until("document.querySelector('footer').innerText.includes('canceled')")
