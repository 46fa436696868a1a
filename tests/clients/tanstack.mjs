// What TanStack AI's client shows after each case.
import { cases, print } from './cases.mjs'
import { shownOver } from './tanstack_client.mjs'

const over = events => ({
  async *connect() { for (const event of structuredClone(events)) yield { timestamp: 1, ...event } },
})

const answers = []
for (const { frames } of cases()) answers.push({ shown: await shownOver(over(frames)), marked: [] })
print(answers)
