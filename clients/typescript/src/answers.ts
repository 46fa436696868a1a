/** The texts that stand. */

import type { StreamEvent } from "./events.js";

/**
 * Return the text of each call that stands, by attempt and call, in the order in which the calls began.
 *
 * What a retry superseded is gone, and so is the text of a call that failed.
 */
export function answers(events: Iterable<StreamEvent>): Map<string, string> {
  const texts = new Map<string, string>();
  for (const event of events) {
    if (event.type === "token") {
      const key = `${event.origin.attempt_id}/${event.call.ordinal}`;
      texts.set(key, (texts.get(key) ?? "") + event.token);
    } else if (event.type === "attempt_started" && event.supersedes !== null) {
      const gone = `${event.supersedes.attempt_id}/`;
      for (const key of texts.keys()) {
        if (key.startsWith(gone)) {
          texts.delete(key);
        }
      }
    } else if (event.type === "call_ended" && event.error !== null) {
      texts.delete(`${event.origin.attempt_id}/${event.call.ordinal}`);
    }
  }
  return texts;
}
