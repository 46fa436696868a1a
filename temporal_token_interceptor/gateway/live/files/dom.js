// Elements and texts. Whatever a model, a tool or a user wrote becomes a text node: nothing here parses markup.

// Marks that reorder or hide text, and control codes, are shown as what they are: one character that cannot be read.
// Those of the last two ranges draw nothing at all: whole sentences can be written in them, and be copied unseen.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2060-\u206f\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/g

export const plain = text => String(text).replace(HIDDEN, '\ufffd')

export function el(tag, className = '', ...children) {
  const element = document.createElement(tag)
  if (className) element.className = className
  element.append(...children.map(child => child instanceof Node ? child : plain(child)))
  return element
}

export function button(text, onclick, className = '') {
  const element = el('button', className, text)
  element.type = 'button'
  element.onclick = onclick
  return element
}

export const $ = selector => document.querySelector(selector)

export const count = (number, thing) => `${number.toLocaleString('en')} ${thing}${number === 1 ? '' : 's'}`

export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

const SHOWN = 50_000  // characters of one text: a browser lays out no more than that quickly

// A text that grows. Only what is new is added to the page; of a very long one the beginning is shown, and more on request.
export class TextBox {
  constructor(tag = 'div') {
    this.element = el(tag, 'written')
    this.element.dir = 'auto'
    this.limit = SHOWN
    this.shown = 0
    this.more = button('', () => { this.limit += SHOWN; this.show(this.text) }, 'more')
  }

  show(text, isRewritten = false) {
    this.text = text
    if (isRewritten || text.length < this.shown) {
      this.element.replaceChildren()
      this.shown = 0
    }
    let end = Math.min(text.length, this.limit)
    if (/[\ud800-\udbff]/.test(text[end - 1])) end-- // half a character waits for its other half
    if (end > this.shown) {
      const piece = plain(text.slice(this.shown, end)), last = this.element.lastChild
      if (last instanceof Text) last.appendData(piece)
      else if (this.more.isConnected) this.more.before(piece)
      else this.element.append(piece)
      this.shown = end
    }
    if (text.length > this.limit) {
      this.more.textContent = `Show more: ${count(text.length - end, 'character')} left`
      if (!this.more.isConnected) this.element.append(this.more)
    } else this.more.remove()
  }
}
