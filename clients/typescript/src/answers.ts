/** What stands of what the models said. */

import type { Call, Origin, StreamEvent } from "./events.js";

/** What one model call has said so far. */
export interface CallText {
  readonly origin: Origin;
  readonly call: Call;
  readonly text: string;
  readonly reasoning: string;
  readonly ended: boolean;
  /** The class of the exception if the call failed: its text does not stand. */
  readonly error: string | null;
}

/**
 * Return what each call has said, in the order in which the calls began.
 *
 * What a retry superseded is gone; a call that failed has its `error`.
 */
export function calls(events: Iterable<StreamEvent>): CallText[] {
  const texts = new Map<string, CallText>();
  for (const event of events) {
    if (event.type === "attempt_started" && event.supersedes !== null) {
      const gone = event.supersedes.attempt_id;
      for (const [key, { origin }] of texts) {
        if (origin.attempt_id === gone) {
          texts.delete(key);
        }
      }
    }
    if (!("call" in event) || event.call === null || event.origin === null) {
      continue;
    }
    const { origin, call } = event;
    const key = `${origin.attempt_id}/${call.ordinal}`;
    const before = event.type === "call_started" ? undefined : texts.get(key);
    const known = before ?? { origin, call, text: "", reasoning: "", ended: false, error: null };
    if (event.type === "call_started") {
      texts.set(key, known);
    } else if (event.type === "token") {
      texts.set(key, { ...known, text: known.text + event.token });
    } else if (event.type === "reasoning") {
      texts.set(key, { ...known, reasoning: known.reasoning + event.token });
    } else if (event.type === "call_ended") {
      texts.set(key, { ...known, ended: true, error: event.error });
    }
  }
  return [...texts.values()];
}

/** Return the text of each call that stands, by attempt and call, in the order in which the calls began. */
export function answers(events: Iterable<StreamEvent>): Map<string, string> {
  const standing = calls(events).filter(({ text, error }) => text !== "" && error === null);
  return new Map(standing.map(({ origin, call, text }) => [`${origin.attempt_id}/${call.ordinal}`, text]));
}
