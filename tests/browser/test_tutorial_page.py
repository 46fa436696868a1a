"""The page of the tutorial in a real Chromium."""

from tests.docs import test_tutorial
from tests.docs.test_tutorial import APP, OUTPUTS, WORKER, address

start = test_tutorial.start  # the tutorial's files, and its commands


async def test_the_answer_grows_to_its_end(start, chromium_browser):
    """I press Ask, and the page has the answer, word for word as the tutorial prints it."""
    async with start(WORKER), start(APP, "--port", "0") as site, chromium_browser.tab() as page:
        await page.open(await address(site))
        await page.until("document.readyState === 'complete' && document.forms.length")
        await page.evaluate("document.forms[0].requestSubmit()")
        shown = await page.until(
            "document.querySelector('#answer').textContent.endsWith('(completed)') && "
            "document.querySelector('#answer').textContent"
        )
        await page.open("about:blank")

    assert shown.replace("(completed)", "\n-- completed --\n") == OUTPUTS[0]
