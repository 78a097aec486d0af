// What a gateway's refusal to let this phone in means, and what comes next. Pure.

import { isObject } from "./params.ts";

export type Verdict =
  /** The gateway no longer knows this phone: a new code is needed. */
  | { kind: "removed" }
  /** The code is spent, expired or wrong, or none was there. */
  | { kind: "code" }
  /** A person has to say yes. */
  | { kind: "approval"; request: string }
  /** The page is older or newer than the gateway. */
  | { kind: "version" }
  /** Try again by itself; not before so many milliseconds. */
  | { kind: "later"; message: string; notBeforeMs: number };

/** Reads the error of a refused connect. `hasToken`: the phone showed what an earlier pairing gave it. */
export function verdict(error: unknown, hasToken: boolean): Verdict {
  const fault = isObject(error) ? error : {};
  const details = isObject(fault["details"]) ? fault["details"] : {};
  const message = typeof fault["message"] === "string" ? fault["message"] : "the gateway refused";
  switch (details["code"]) {
    case "AUTH_DEVICE_TOKEN_MISMATCH":
      return { kind: "removed" };
    case "AUTH_BOOTSTRAP_TOKEN_INVALID":
    case "AUTH_TOKEN_MISSING":
    case "AUTH_PASSWORD_MISSING":
    case "AUTH_TOKEN_MISMATCH":
    case "AUTH_UNAUTHORIZED":
      return hasToken ? { kind: "removed" } : { kind: "code" };
    case "PAIRING_REQUIRED":
      return { kind: "approval", request: typeof details["requestId"] === "string" ? details["requestId"] : "" };
    case "PROTOCOL_MISMATCH":
      return { kind: "version" };
    default: {
      const wait = fault["retryAfterMs"];
      return { kind: "later", message, notBeforeMs: typeof wait === "number" && wait > 0 ? wait : 0 };
    }
  }
}
