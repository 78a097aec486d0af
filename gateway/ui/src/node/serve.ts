// Serves calls: consent first, then the command, with the caller's deadline, the banner and the log around it.

import { ask } from "./ask.ts";
import { use } from "./banner.ts";
import type { Command } from "./command.ts";
import { type Consent, decide } from "./consent.ts";
import { Fault, unlessStopped } from "./fault.ts";
import type { Invoke, Result } from "./link.ts";
import * as log from "./log.ts";
import { parse } from "./params.ts";

/** Calls at once; one more is refused. */
const MOST = 8;

export interface Owner {
  consent(): Consent;
  isPaused(): boolean;
}

export class Calls {
  private readonly open = new Map<string, { command: string; stop: AbortController }>();
  private readonly commands: ReadonlyMap<string, Command>;
  private readonly owner: Owner;
  private readonly tell: (call: string, result: Result) => void;

  constructor(commands: readonly Command[], owner: Owner, tell: (call: string, result: Result) => void) {
    this.commands = new Map(commands.map((command) => [command.name, command]));
    this.owner = owner;
    this.tell = tell;
  }

  async serve(invoke: Invoke): Promise<void> {
    // The same call twice is a repetition on the way.
    if (this.open.has(invoke.id)) return;
    const stop = new AbortController();
    const late = setTimeout(() => stop.abort(new Fault("TIMEOUT", "the deadline of the call is over")), invoke.timeoutMs);
    const isRoom = this.open.size < MOST;
    this.open.set(invoke.id, { command: invoke.command, stop });
    let result: Result;
    try {
      if (!isRoom) throw new Fault("BUSY", "this phone is working on as many calls as it can; try again later");
      result = { ok: true, payload: await this.run(invoke, stop.signal) };
    } catch (thrown) {
      const { code, message } = Fault.of(thrown);
      result = { ok: false, error: { code, message } };
    }
    clearTimeout(late);
    this.open.delete(invoke.id);
    log.note(invoke.command, result.ok ? "done" : result.error.code);
    this.tell(invoke.id, result);
  }

  private async run(invoke: Invoke, signal: AbortSignal): Promise<unknown> {
    const command = this.commands.get(invoke.command);
    if (!command) throw new Fault("INVALID_REQUEST", `this phone has no command ${invoke.command}`);
    const params = parse(invoke.paramsJSON);
    switch (decide(this.owner.consent(), command.name, this.owner.isPaused())) {
      case "paused":
        throw new Fault("NODE_PAUSED", "the owner has paused this phone");
      case "deny":
        throw new Fault(command.denied, `the owner has not switched ${command.name} on; it is switched on in the page on the phone`);
      case "ask":
        await ask(command.label, signal);
        break;
      case "allow":
        break;
    }
    const end = use(command.use);
    try {
      return await unlessStopped(signal, command.run({ id: invoke.id, params, signal }));
    } finally {
      end();
    }
  }

  cancel(call: string): void {
    this.open.get(call)?.stop.abort(new Fault("CANCELLED", "the call was called off"));
  }

  /** Ends all that runs, or one command, because the owner says so. */
  stop(why: Fault, command?: string): void {
    for (const call of this.open.values()) {
      if (command === undefined || call.command === command) call.stop.abort(why);
    }
  }
}
