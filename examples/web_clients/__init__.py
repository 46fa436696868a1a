"""One gateway for the clients that pages already have: `python -m examples.web_clients`.

`app` mounts the formats and starts chats, `worker` runs them, and each `.mjs` file is a client of some twenty
lines, for node, with its package installed:

    npm install ai
    node examples/web_clients/ai_sdk.mjs "When does the ferry leave? And die, once."

A question with `die` in it lets the first attempt fail in mid-sentence.
"""
