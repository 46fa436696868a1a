/** Reads the entries of one run in their order; knows no clock and no server. */

import { Attempts } from "./attempts.js";
import { type Cursor, isId, padded, parseCursor, Position, positionOf, prefixOf, unpadded } from "./cursor.js";
import type { Gap, Origin, StreamEvent } from "./events.js";
import { Held } from "./held.js";
import type { RunResults } from "./history.js";
import { countsIn, framesIn } from "./results.js";
import { type Frame, NoFrame, readFrame, type StreamName } from "./frames.js";

/** An entry of a stream, as Redis has it. */
export interface Entry {
  readonly id: string;
  /** The value of the field `f`; `null` if it has none. */
  readonly data: Uint8Array | null;
  /** Whether a codec has opened it: then it must name its stream. */
  readonly wasSealed?: boolean;
  /** Why it cannot be opened. */
  readonly unopened?: string;
}

/** Not one of the first frames can be opened: the codec is missing, or its keys are wrong. */
export class CodecMismatch extends Error {
  override readonly name = "CodecMismatch";
}

const HOPELESS = 8; // so many frames that cannot be opened, and none that can, are no accident

export interface ReaderOptions {
  /** Where to go on from. */
  readonly cursor?: string | null;
  /** Whether the entries were sealed, and a codec has opened them. */
  readonly sealed?: boolean;
  /** What stood in a run that this one does again, as `standing` of its reader. */
  readonly before?: readonly Origin[];
  /** Whether nothing of an attempt is shown before it has succeeded. */
  readonly hold?: boolean;
}

/** Return the entry of a cursor: where a reader stands elsewhere, and where it read last. */
function joined(elsewhere: string, entry: string): string {
  return elsewhere === "" ? entry : `${elsewhere}.${entry}`;
}

/** One reader of one run. */
export class RunReader {
  /** Entries that were no frames. */
  skipped = 0;
  readonly #stream: StreamName;
  readonly #attempts: Attempts;
  readonly #place: Cursor | null;
  readonly #wasSealed: boolean;
  readonly #held: Held | null;
  #isReadable = false;
  #unopened: StreamEvent[] = []; // gaps, until it is known that others can be opened
  #mismatch = "";
  #mark: string;
  #position: number;
  #historyMark: string;
  #historyPosition: number;
  #historyAt = ""; // the entry of the history that was read last
  #isShort = false; // the history could not be read
  #last = ""; // the entry that was read last, padded
  #hasBegun = false;

  /** @throws InvalidCursor if the cursor is none. */
  constructor(stream: StreamName, options: ReaderOptions = {}) {
    this.#stream = stream;
    this.#attempts = new Attempts(stream.run_id, options.before);
    this.#place = options.cursor == null ? null : parseCursor(options.cursor);
    this.#wasSealed = options.sealed ?? false;
    this.#held = options.hold ? new Held(stream.run_id) : null;
    this.#mark = this.#place?.entry ?? "";
    const position = this.#place?.position ?? Position.BEFORE;
    const isFromHistory = this.#place?.isFromHistory ?? false;
    this.#position = isFromHistory ? Position.END : position; // of the transport, all was read before
    this.#historyMark = this.#place?.history ?? "";
    this.#historyPosition = isFromHistory ? position : Position.END;
  }

  /** Whether all of the run is wanted: no cursor leaves out a part. */
  get readsAll(): boolean {
    const place = this.#place;
    return place === null || (place.entry === "" && place.history === "" && place.position <= 0);
  }

  /** The entry of the transport that was read last, by this reader or before its cursor; padded, empty for none. */
  get furthest(): string {
    return this.#last > this.#mark ? this.#last : this.#mark;
  }

  /** How far all was read, in the transport and in the history: the entry of a cursor. */
  get place(): string {
    const { furthest, furthestHistory: history } = this;
    return this.#historyAt === "" ? joined(history, furthest) : joined(furthest, history);
  }

  /** The entry of the history that was read before the cursor, and the transport's entry of it. */
  get recalled(): { readonly history: string; readonly entry: string } | null {
    return this.#historyMark.includes("-") ? { history: this.#historyMark, entry: this.#mark } : null;
  }

  get furthestHistory(): string {
    return this.#historyAt > this.#historyMark ? this.#historyAt : this.#historyMark;
  }

  /** The id of the entry that was read last, as Redis writes it; empty for none. */
  get lastId(): string {
    return this.#last === "" ? "" : unpadded(this.#last);
  }

  /**
   * Return what is to be reported before the first entry: once, before the first `read`.
   *
   * @param newest The id of the stream's newest entry; empty if it has none.
   */
  begin(newest: string): StreamEvent[] {
    if (this.#mark === "" || (newest !== "" && padded(newest) >= this.#mark)) {
      return [];
    }
    // The stream is older than the cursor: it was lost, and begins again.
    this.#mark = "";
    this.#position = Position.BEFORE;
    this.#attempts.again = true;
    return [this.#gap("transport", prefixOf(this.#stream.run_id, joined(this.furthestHistory, "")) + Position.GAP)];
  }

  /**
   * Return what entries add.
   *
   * @param begun The id of the first entry that the stream ever had, or `null` if that is not known.
   */
  read(entries: readonly Entry[], begun: string | null = null): StreamEvent[] {
    const events: StreamEvent[] = [];
    for (const one of entries) {
      const entry = padded(one.id);
      const frame = this.#frame(one);
      if (!this.#hasBegun) {
        this.#hasBegun = true;
        events.push(...this.#lostStart(entry, frame, begun));
      }
      this.#last = entry;
      const known = this.#known(entry);
      const named = joined(this.furthestHistory, entry);
      const added = frame === null ? this.#unread(named, one) : this.#read(named, frame);
      events.push(...added.filter((event) => positionOf(event.cursor) > known));
    }
    return events;
  }

  /**
   * Return what only the end shows: once the run has closed and all entries are read.
   *
   * @param begun As for `read`.
   */
  end(begun: string | null = null): StreamEvent[] {
    const events: StreamEvent[] = [];
    if (!this.#hasBegun && this.readsAll && this.#mark === "" && begun !== null && isId(begun)) {
      events.push(this.#gap("trimmed", prefixOf(this.#stream.run_id, joined(this.furthestHistory, "")) + Position.GAP));
    }
    return events;
  }

  /** Return what is held still, and a gap for each newest attempt that has not said how it ended. */
  tail(): StreamEvent[] {
    this.checkOpened();
    const prefix = prefixOf(this.#stream.run_id, this.place);
    const found = this.#held?.rest(this.place) ?? [];
    for (const [origin, reason] of this.#attempts.doubtful()) {
      found.push(this.#gap(reason, `${prefix}${Position.TAIL + found.length}`, origin));
    }
    if (this.#isShort) {
      found.push(this.#gap("transport", `${prefix}${Position.TAIL + found.length}`));
    }
    const place = this.#place;
    const isThere = place?.entry === this.furthest && place.history === this.furthestHistory;
    return found.filter((event) => !isThere || positionOf(event.cursor) > place.position);
  }

  /** @throws CodecMismatch if there were frames, and none could be opened. */
  checkOpened(): void {
    if (this.#mismatch !== "" && !this.#isReadable) {
      throw new CodecMismatch(this.#mismatch);
    }
  }

  /**
   * Return what the results of activities hold that the transport did not take.
   *
   * @param upTo The entry of the history up to which it was read before the cursor; all by default.
   */
  heal({ workflowType, completed }: RunResults, upTo?: string): StreamEvent[] {
    // A reader that resumes in the transport may have received there what that has no more.
    const takesCounts = upTo === undefined && (this.#place === null || this.#place.entry === "");
    const events: StreamEvent[] = [];
    for (const one of completed) {
      if (upTo !== undefined && one.id > upTo) {
        break;
      }
      if (!this.#attempts.isSettled(one)) {
        const counts = takesCounts ? countsIn(one, this.#stream, workflowType) : [];
        for (const { id, frame } of [...framesIn(one, this.#stream), ...counts]) {
          this.#historyAt = id;
          const known = this.#knownInHistory(id);
          const added = this.#read(joined(this.furthest, id), frame);
          events.push(...added.filter((event) => positionOf(event.cursor) > known));
        }
      }
      this.#attempts.compare(one);
    }
    return events;
  }

  /** Note that the history could not be read. */
  healingFailed(): void {
    this.#isShort = true;
  }

  /** Return the attempt that stands of each activity. */
  standing(): readonly Origin[] {
    return this.#attempts.standing();
  }

  /** Report a gap where the stream lost entries after one that was read. */
  cut(reason: "trimmed" | "transport"): StreamEvent[] {
    this.#attempts.cut(reason);
    return [this.#gap(reason, `${prefixOf(this.#stream.run_id, joined(this.furthestHistory, this.#last))}${Position.TAIL - 1}`)];
  }

  /** Report what was before the oldest entry that is there, and is missing. */
  #lostStart(entry: string, frame: Frame | null, begun: string | null): StreamEvent[] {
    const first = begun !== null && begun.length <= 100 && isId(begun) ? padded(begun) : "";
    const wasReported = this.#mark === "" ? !this.readsAll || this.#attempts.again : this.#mark >= entry;
    const mark = wasReported ? "" : this.#mark;
    const isLost = mark !== "" || (frame?.number ?? 0) > 0 || (first !== "" && first < entry);
    if (!isLost) {
      return [];
    }
    // A stream that began after the cursor's entry, or in the middle of an attempt, has begun again.
    const wasTrimmed = first !== "" && (mark !== "" ? first <= mark : first < entry);
    const reason = wasTrimmed ? "trimmed" : "transport";
    this.#attempts.cut(reason);
    return wasReported ? [] : [this.#gap(reason, prefixOf(this.#stream.run_id, joined(this.furthestHistory, "")) + Position.GAP)];
  }

  /** Return the position up to which all of an entry was read before. */
  #known(entry: string): number {
    if (this.#mark === "" || entry > this.#mark) {
      return Position.BEFORE;
    }
    return entry === this.#mark ? this.#position : Position.END;
  }

  #read(entry: string, frame: Frame): StreamEvent[] {
    const added = this.#attempts.read(entry, frame);
    this.#isReadable = true;
    const gaps = this.#unopened;
    this.#unopened = [];
    return [...gaps, ...(this.#held?.read(entry, added) ?? added)];
  }

  /** Return what an entry shows that cannot be read: nothing, or a gap if it may be a frame of ours. */
  #unread(entry: string, { unopened }: Entry): StreamEvent[] {
    if (unopened === undefined) {
      return [];
    }
    const gap = this.#gap("unreadable", `${prefixOf(this.#stream.run_id, entry)}${Position.STARTED}`);
    if (this.#isReadable) {
      return [gap];
    }
    this.#unopened.push(gap);
    this.#mismatch = unopened;
    if (this.#unopened.length === HOPELESS) {
      throw new CodecMismatch(unopened);
    }
    return [];
  }

  #knownInHistory(entry: string): number {
    if (this.#historyMark === "" || entry > this.#historyMark) {
      return Position.BEFORE;
    }
    return entry === this.#historyMark ? this.#historyPosition : Position.END;
  }

  #frame({ id, data, wasSealed, unopened }: Entry): Frame | null {
    try {
      if (unopened !== undefined) {
        throw new NoFrame(unopened);
      }
      const stored = Number(id.slice(0, id.indexOf("-")));
      const isSealed = wasSealed ?? this.#wasSealed;
      return readFrame(data ?? new Uint8Array(), this.#stream, stored, Date.now(), isSealed);
    } catch (error) {
      if (error instanceof NoFrame) {
        this.skipped += 1;
        return null;
      }
      throw error;
    }
  }

  #gap(reason: Gap["reason"], cursor: string, origin: Origin | null = null): StreamEvent {
    return { v: 1, type: "gap", cursor, origin: origin as Origin, missing: null, reason, call: null };
  }
}
