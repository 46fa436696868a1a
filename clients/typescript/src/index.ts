export type * from "./events.js";
export { InvalidCursor } from "./cursor.js";
export type { StreamName } from "./frames.js";
export { type Entry, type ReaderOptions, RunReader } from "./reader.js";
export type { IoRedis, NodeRedis, RedisClient } from "./redis.js";
export { StreamNotFound, subscribe, type SubscribeOptions, TransportUnavailable } from "./subscribe.js";
export type { TemporalClient } from "./temporal.js";
export { answers } from "./answers.js";
