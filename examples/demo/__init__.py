"""One command shows what this package is for. Read `agent`, `workflow`, `worker`, `viewer`, in this order.

`agent` and `workflow` are what you already have: they know nothing of streaming. `worker` is a worker with
three more lines. `viewer` is another process that watches. The rest is scenery: `model` stands in for a
provider, `page` draws, `web` shows the same in a browser, `notes` keeps the times, and `story` starts
everything and ends everything. `without_redis` asks once more over Temporal alone, for the figures, which
`heartbeat_worker` answers.
"""

WHERE = "Where is my order 1042?"
WHEN = "It is a birthday present for Thursday. Will it be on time?"
QUESTIONS = (WHERE, WHEN)
