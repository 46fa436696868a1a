/** Values of foreign JSON, checked at the border: each function throws `Broken` for what is something else. */

/** What was read is not what the protocol says. */
export class Broken extends Error {
  override readonly name = "Broken";
}

export type Facts = { readonly [name: string]: unknown };

/** The member of an object, and nothing that it inherits; one that is null is absent. */
export function member(facts: Facts, name: string): unknown {
  return Object.hasOwn(facts, name) ? (facts[name] ?? undefined) : undefined;
}

export function object(value: unknown): Facts {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Broken("expected an object");
  }
  return value as Facts;
}

export function array(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) {
    throw new Broken("expected an array");
  }
  return value;
}

export function text(value: unknown): string {
  if (typeof value !== "string") {
    throw new Broken("expected a string");
  }
  return value;
}

export function integer(value: unknown): number {
  if (!Number.isInteger(value)) {
    throw new Broken("expected a whole number");
  }
  return value as number;
}

export function natural(value: unknown): number {
  const found = integer(value);
  if (found < 0) {
    throw new Broken("expected a number from 0");
  }
  return found;
}

export function truth(value: unknown): boolean {
  if (typeof value !== "boolean") {
    throw new Broken("expected true or false");
  }
  return value;
}

export function texts(value: unknown): readonly string[] {
  return array(value).map(text);
}

/** What a member holds; the other value where it is absent. */
export function given<T>(read: (value: unknown) => T, value: unknown, other: T): T {
  return value === undefined ? other : read(value);
}

/** What a member holds; `null` where it is absent or null. */
export function optional<T>(read: (value: unknown) => T, value: unknown): T | null {
  return value === undefined || value === null ? null : read(value);
}
