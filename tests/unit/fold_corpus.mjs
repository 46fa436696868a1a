// Folds each case of a corpus, from standard input, and prints the states as JSON.
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const { empty, fold, messages, tree } = await import(pathToFileURL(process.argv[2]))
const cases = JSON.parse(readFileSync(0, 'utf8'))
console.log(JSON.stringify(cases.map(events => {
  const state = events.reduce(fold, empty())
  const count = nodes => nodes.reduce((sum, node) => sum + 1 + count(node.children), 0)
  return {
    run: state.run, items: [...state.items.values()], notes: state.notes, status: state.status,
    texts: messages(state).map(message => message.text), nodes: count(tree(state)),
  }
})))
