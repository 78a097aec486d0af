// The link to the gateway that this page came from: connects, proves who it is, stays linked, carries calls. Tries again for ever.
// Never decides whether a call is served.

import { backoff } from "./backoff.ts";
import type { Identity } from "./identity.ts";
import { isObject } from "./params.ts";
import { open, type Pipe } from "./pipe.ts";
import type { Platform } from "./platform.ts";
import { type Verdict, verdict } from "./refusal.ts";
import { signedText } from "./signature.ts";

/** What this phone says of itself. */
export interface Facts extends Platform {
  name: string;
  caps: string[];
  commands: string[];
}

/** What lets it in: the token of an earlier pairing, or a setup code. */
export interface Credentials {
  token: string | null;
  code: string | null;
}

export type State =
  | { kind: "connecting" }
  | { kind: "linked" }
  | { kind: "lost"; message: string; retryMs: number }
  | Exclude<Verdict, { kind: "later" }>;

export interface Invoke {
  id: string;
  command: string;
  paramsJSON: string | null;
  timeoutMs: number;
}

/** What the link tells the page. */
export interface Hooks {
  state(state: State): void;
  /** The gateway gave this phone a token, which takes the place of any code. */
  admitted(token: string | null): Promise<void>;
  invoke(invoke: Invoke): void;
  cancel(id: string): void;
  /** Anything else that the gateway says to nodes. */
  event(name: string, payload: Record<string, unknown>): void;
}

export type Result = { ok: true; payload: unknown } | { ok: false; error: { code: string; message: string } };

const CONNECT_MS = 15_000;
const TICK_MS = 30_000;
const LOOK_MS = 5_000;
/** One frame to the gateway, characters; it closes the link of whoever sends more. */
const FRAME = 25 * 1024 * 1024;
/** A phone that was thrown out looks now and then whether it was let in again. */
const REMOVED_MS = 5 * 60_000;
const APPROVAL_MS = 5_000;
/** Results that the gateway has not confirmed are told again over the next link; so many, and so many characters. */
const KEPT = 16;
const KEPT_CHARS = 64 * 1024 * 1024;

interface Waiter {
  done(payload: Record<string, unknown>): void;
  failed(error: unknown): void;
}

export class Link {
  /** What the gateway can do beyond the protocol. */
  features: ReadonlySet<string> = new Set();
  private pipe: Pipe | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly watch: ReturnType<typeof setInterval>;
  private attempt = 0;
  private lastId = 0;
  private heardAt = 0;
  private tickMs = TICK_MS;
  private isLinked = false;
  private isOver = false;
  private readonly waiters = new Map<string, Waiter>();
  private readonly unconfirmed = new Map<string, string>();
  private readonly identity: Identity;
  private readonly facts: Facts;
  private readonly credentials: Credentials;
  private readonly hooks: Hooks;

  constructor(identity: Identity, facts: Facts, credentials: Credentials, hooks: Hooks) {
    this.identity = identity;
    this.facts = facts;
    this.credentials = credentials;
    this.hooks = hooks;
    this.watch = setInterval(() => this.look(), LOOK_MS);
  }

  /** Connects now, unless it is linked or over. */
  connect(): void {
    if (this.isOver || this.pipe) return;
    clearTimeout(this.timer);
    this.hooks.state({ kind: "connecting" });
    this.heardAt = performance.now();
    const pipe: Pipe = open({
      opened: () => {},
      message: (text) => {
        if (this.pipe === pipe) this.heard(text);
      },
      ended: (reason) => {
        if (this.pipe === pipe) this.lost(reason || "the gateway cannot be reached");
      },
    });
    this.pipe = pipe;
  }

  /** Ends it for good. */
  end(): void {
    this.isOver = true;
    clearTimeout(this.timer);
    clearInterval(this.watch);
    this.drop("over");
  }

  /** A request of this node; its answer. */
  request(method: string, params: Record<string, unknown>): Promise<Record<string, unknown>> {
    return new Promise((done, failed) => {
      const id = this.send(method, params);
      if (id === null) failed(new Error("not linked"));
      else this.waiters.set(id, { done, failed });
    });
  }

  /** Tells how a call ended, over the next link if need be. */
  result(call: string, result: Result): void {
    const id = `result:${call}`;
    const own = { id: call, nodeId: this.identity.id };
    const write = (outcome: Result) => {
      const params = outcome.ok
        ? { ...own, ok: true, payloadJSON: JSON.stringify(outcome.payload ?? null) }
        : { ...own, ok: false, error: outcome.error };
      return JSON.stringify({ type: "req", id, method: "node.invoke.result", params });
    };
    let text = write(result);
    if (text.length > FRAME) {
      const message = `the result has ${text.length} characters, and ${FRAME} fit; ask for less`;
      text = write({ ok: false, error: { code: "PAYLOAD_TOO_LARGE", message } });
    }
    this.unconfirmed.set(id, text);
    const size = () => [...this.unconfirmed.values()].reduce((sum, kept) => sum + kept.length, 0);
    while (this.unconfirmed.size > KEPT || size() > KEPT_CHARS) {
      const oldest = this.unconfirmed.keys().next().value;
      if (oldest === undefined) break;
      this.unconfirmed.delete(oldest);
    }
    if (this.isLinked) this.pipe?.send(text);
  }

  private send(method: string, params: Record<string, unknown>): string | null {
    if (!this.pipe?.isOpen) return null;
    const id = `${++this.lastId}`;
    this.pipe.send(JSON.stringify({ type: "req", id, method, params }));
    return id;
  }

  private heard(text: string): void {
    this.heardAt = performance.now();
    let frame: unknown;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    if (!isObject(frame)) return;
    const payload = isObject(frame["payload"]) ? frame["payload"] : {};
    if (frame["type"] === "event" && typeof frame["event"] === "string") this.event(frame["event"], payload);
    if (frame["type"] === "res" && typeof frame["id"] === "string") this.answered(frame["id"], frame, payload);
  }

  private answered(id: string, frame: Record<string, unknown>, payload: Record<string, unknown>): void {
    const error = isObject(frame["error"]) ? frame["error"] : {};
    if (this.unconfirmed.has(id)) {
      // One that the gateway may still take is told again.
      if (frame["ok"] === true || error["retryable"] !== true) this.unconfirmed.delete(id);
      return;
    }
    const waiter = this.waiters.get(id);
    this.waiters.delete(id);
    if (frame["ok"] === true) waiter?.done(payload);
    else waiter?.failed(error);
  }

  private event(name: string, payload: Record<string, unknown>): void {
    const text = (field: string) => (typeof payload[field] === "string" ? payload[field] : null);
    switch (name) {
      case "connect.challenge":
        void this.prove(text("nonce") ?? "", Number(payload["ts"]));
        return;
      case "node.invoke.request": {
        const [id, command] = [text("id"), text("command")];
        if (id === null || command === null) return;
        const timeout = Number(payload["timeoutMs"]);
        const timeoutMs = timeout > 0 ? timeout : 30_000;
        this.hooks.invoke({ id, command, paramsJSON: text("paramsJSON"), timeoutMs });
        return;
      }
      case "node.invoke.cancel":
        this.hooks.cancel(text("invokeId") ?? "");
        return;
      default:
        this.hooks.event(name, payload);
    }
  }

  private async prove(nonce: string, signedAt: number): Promise<void> {
    const pipe = this.pipe;
    const { token, code } = this.credentials;
    const auth = code ? { bootstrapToken: code } : token ? { deviceToken: token } : {};
    const client = { id: "node-host", mode: "node", version: VERSION, platform: this.facts.platform };
    const signed = signedText({
      device: this.identity.id,
      clientId: client.id,
      clientMode: client.mode,
      role: "node",
      scopes: [],
      signedAt,
      token: code ?? token ?? "",
      nonce,
      platform: this.facts.platform,
      deviceFamily: this.facts.deviceFamily,
    });
    const signature = await this.identity.sign(signed);
    if (this.pipe !== pipe) return;
    const answer = this.request("connect", {
      minProtocol: 4,
      maxProtocol: 4,
      client: { ...client, deviceFamily: this.facts.deviceFamily, displayName: this.facts.name, instanceId: INSTANCE },
      caps: this.facts.caps,
      commands: this.facts.commands,
      role: "node",
      scopes: [],
      device: { id: this.identity.id, publicKey: this.identity.publicKey, signature, signedAt, nonce },
      auth,
    });
    await answer.then(
      (hello) => this.welcome(hello),
      (error: unknown) => this.refused(error),
    );
  }

  private async welcome(hello: Record<string, unknown>): Promise<void> {
    const object = (field: string) => (isObject(hello[field]) ? hello[field] : {});
    const tick = Number(object("policy")["tickIntervalMs"]);
    this.tickMs = tick > 0 ? tick : TICK_MS;
    const features = object("features")["capabilities"];
    this.features = new Set(Array.isArray(features) ? features.filter((name) => typeof name === "string") : []);
    const token = object("auth")["deviceToken"];
    if (typeof token === "string") this.credentials.token = token;
    await this.hooks.admitted(this.credentials.token);
    // Kept until the token is safe: a code whose hello was lost may be brought again.
    this.credentials.code = null;
    this.attempt = 0;
    this.isLinked = true;
    for (const text of this.unconfirmed.values()) this.pipe?.send(text);
    this.hooks.state({ kind: "linked" });
  }

  private refused(error: unknown): void {
    // The link that was lost says so itself.
    if (!this.pipe || error instanceof Error) return;
    const judged = verdict(error, this.credentials.token !== null);
    if (this.credentials.code && this.credentials.token) {
      // The code that came along is no good; what was there before may still be.
      this.credentials.code = null;
      this.retry(0, { kind: "connecting" });
      return;
    }
    switch (judged.kind) {
      case "later":
        return this.retry(judged.notBeforeMs, null, judged.message);
      case "approval":
        return this.retry(APPROVAL_MS, judged);
      case "removed":
      case "version":
        return this.retry(REMOVED_MS, judged);
      case "code":
        this.drop(judged.kind);
        this.hooks.state(judged);
    }
  }

  private lost(message: string): void {
    this.retry(0, null, message);
  }

  private retry(notBeforeMs: number, state: State | null, message = ""): void {
    this.drop(message);
    if (this.isOver) return;
    const retryMs = Math.max(notBeforeMs, backoff(this.attempt, Math.random()));
    this.attempt += 1;
    this.timer = setTimeout(() => this.connect(), retryMs);
    this.hooks.state(state ?? { kind: "lost", message, retryMs });
  }

  /** Lets go of the pipe; nothing of it is heard any more. */
  private drop(reason: string): void {
    const pipe = this.pipe;
    this.pipe = null;
    this.isLinked = false;
    pipe?.close(4000, reason.slice(0, 40));
    const gone = [...this.waiters.values()];
    this.waiters.clear();
    for (const waiter of gone) waiter.failed(new Error("the link was lost"));
  }

  /** A gateway that says nothing for two of its ticks is gone, whatever the pipe believes. */
  private look(): void {
    if (!this.pipe) return;
    const silence = performance.now() - this.heardAt;
    if (silence > (this.isLinked ? 2 * this.tickMs : CONNECT_MS)) this.lost("the gateway says nothing any more");
  }
}

const VERSION = "0.1.0";
const INSTANCE = typeof crypto.randomUUID === "function" ? crypto.randomUUID() : "page";
