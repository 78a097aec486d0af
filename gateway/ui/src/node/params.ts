// The parameters of a call, held to their bounds. Pure.

import { Fault } from "./fault.ts";

export type Params = Readonly<Record<string, unknown>>;

/** Reads the JSON of a call; no text is no parameters. */
export function parse(json: string | null | undefined): Params {
  if (json === null || json === undefined) return {};
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new Fault("INVALID_REQUEST", "the parameters are not JSON");
  }
  if (value === null) return {};
  if (!isObject(value)) throw new Fault("INVALID_REQUEST", "the parameters must be an object");
  return value;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function given(params: Params, name: string): unknown {
  return Object.hasOwn(params, name) && params[name] !== null ? params[name] : undefined;
}

export function number(params: Params, name: string, bounds: { least: number; most: number; usual: number }): number {
  const value = given(params, name);
  if (value === undefined) return bounds.usual;
  if (typeof value !== "number" || !(value >= bounds.least && value <= bounds.most)) {
    throw new Fault("INVALID_REQUEST", `${name} must be a number from ${bounds.least} to ${bounds.most}`);
  }
  return value;
}

export function text(params: Params, name: string, most = 10_000): string | null {
  const value = given(params, name);
  if (value === undefined) return null;
  if (typeof value !== "string" || value.length > most) {
    throw new Fault("INVALID_REQUEST", `${name} must be a text of at most ${most} characters`);
  }
  return value;
}

export function flag(params: Params, name: string, usual: boolean): boolean {
  const value = given(params, name);
  if (value === undefined) return usual;
  if (typeof value !== "boolean") throw new Fault("INVALID_REQUEST", `${name} must be true or false`);
  return value;
}

/** One of some words; the first where none is given. */
export function words<T extends string>(params: Params, name: string, known: readonly [T, ...T[]]): T {
  const value = given(params, name);
  if (value === undefined) return known[0];
  const found = known.find((word) => word === value);
  if (found === undefined) throw new Fault("INVALID_REQUEST", `${name} must be one of ${known.join(", ")}`);
  return found;
}
