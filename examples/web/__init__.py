"""Tokens in a browser: `python -m examples.web`, and open the address that it prints.

`chat` is what you already have, `worker` runs it, `app` is a FastAPI app with the gateway, `page.html` draws
what the gateway's `tti.js` reads. `/streams/live/<id of a chat>` shows the same on the live page. In
production, worker and app are processes of their own:

    python -m examples.web.worker
    python -m uvicorn examples.web.app:app --timeout-graceful-shutdown 3

Both read `TEMPORAL_ADDRESS` and the like (as every Temporal client) and `REDIS_URL`.
"""
