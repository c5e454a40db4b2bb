/** Stands in for `@std/assert` where JSR can't be reached: what the tests use of it, on `node:assert`. */

import nodeAssert from "node:assert/strict";

export function assert(condition: unknown, message?: string): asserts condition {
  nodeAssert.ok(condition, message);
}
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  nodeAssert.deepStrictEqual(actual, expected, message);
}
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  nodeAssert.match(actual, expected, message);
}
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  nodeAssert.ok(actual.includes(expected), message ?? `${actual} does not include ${expected}`);
}
export async function assertRejects(
  run: () => Promise<unknown>,
  // deno-lint-ignore no-explicit-any -- whatever an error is constructed from
  type: new (...args: any[]) => Error,
  includes = "",
): Promise<void> {
  await nodeAssert.rejects(
    run,
    (error: Error) => error instanceof type && error.message.includes(includes),
  );
}
export function assertThrows(
  run: () => unknown,
  // deno-lint-ignore no-explicit-any -- whatever an error is constructed from
  type: new (...args: any[]) => Error,
  includes = "",
): void {
  nodeAssert.throws(
    run,
    (error: Error) => error instanceof type && error.message.includes(includes),
  );
}
