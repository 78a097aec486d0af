// What a command of this phone is made of. One file each family implements some.

import type { Params } from "./params.ts";

/** One call while it is served. */
export interface Call {
  id: string;
  params: Params;
  /** Says so when the deadline is over, the caller has gone, or the owner stopped it. */
  signal: AbortSignal;
}

export interface Command {
  name: string;
  /** The family that it is declared under. */
  cap: string;
  /** The heading under which the owner finds it. */
  group: string;
  /** What it does, for the owner. */
  label: string;
  /** What the banner says while it is served. */
  use: string;
  /** The code of a refusal while the owner does not allow it. */
  denied: string;
  /** Gets the browser's own permission; called when the owner switches it on, on a tap. */
  prepare?(): Promise<void>;
  run(call: Call): Promise<unknown>;
}
