"""What docs/live-page.md shows: a gateway with the page."""

import httpx

from temporal_token_interceptor import TokenSubscriber
from temporal_token_interceptor.gateway.access import Allow, Target
from tests.support.pages import Block
from tests.support.snippets import Stage, play


@play("docs/live-page.md", "from temporal_token_interceptor.gateway.app import gateway")
async def the_page_is_served(stage: Stage, block: Block) -> None:
    """The page is there, and its list has what Temporal has; both were asked for."""
    asked: list[Target] = []

    async def may_read(request: object, target: Target) -> Allow:
        asked.append(target)
        return Allow()

    subscriber = TokenSubscriber(stage.client)
    app = (await block.run(subscriber=subscriber, may_read=may_read, client=stage.client))["app"]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
        page, runs = await http.get("/live"), await http.get("/v1/workflows")

    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert isinstance(runs.json()["runs"], list)
    assert [target.action for target in asked[:2]] == ["list", "list"]
