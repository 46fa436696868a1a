export type * from "./events.js";
export { InvalidCursor } from "./cursor.js";
export type { StreamName } from "./frames.js";
export type { Payload, PayloadCodec } from "./payload.js";
export { CodecMismatch, type Entry, type ReaderOptions, RunReader } from "./reader.js";
export type { IoRedis, NodeRedis, RedisClient } from "./redis.js";
export {
  snapshot,
  type Snapshot,
  StreamNotFound,
  subscribe,
  type SubscribeOptions,
  TransportUnavailable,
} from "./subscribe.js";
export type { TemporalClient } from "./temporal.js";
export { answers, calls, type CallText } from "./answers.js";
