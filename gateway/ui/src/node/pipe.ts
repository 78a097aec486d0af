// What carries the link's messages: WebTransport where the browser and the gateway have it, a WebSocket else. Both are tried side by side and
// one is kept, as nodes do with QUIC and TLS. Never looks into a message.

import { Frames, written } from "./frames.ts";
import { isObject } from "./params.ts";

/** What a pipe tells. Nothing more comes after `ended`. */
export interface Ends {
  opened(): void;
  message(text: string): void;
  ended(reason: string): void;
}

export interface Pipe {
  readonly isOpen: boolean;
  send(text: string): void;
  /** Nothing is told after this. */
  close(code: number, reason: string): void;
}

/** So much later than the WebSocket, WebTransport is still the better one. */
const AHEAD_MS = 300;
/** How often the gateway hears that the page is there: one that was started again does not know it and says so. */
const BEAT_MS = 8_000;
/** What the gateway offers must be known by then. */
const OFFER_MS = 5_000;

/** Opens the better of the two. */
export function open(ends: Ends): Pipe {
  return new Race(ends);
}

class Race implements Pipe {
  private kept: Pipe | null = null;
  private isOver = false;
  private wait: ReturnType<typeof setTimeout> | undefined;
  /** What the WebSocket has said while the other one had its chance. */
  private early: string[] = [];
  private readonly alive: Set<Pipe>;
  private readonly ends: Ends;

  constructor(ends: Ends) {
    this.ends = ends;
    const socket: Pipe = new Socket({
      opened: () => {
        if (this.alive.has(session)) this.wait = setTimeout(() => this.keep(socket), AHEAD_MS);
        else this.keep(socket);
      },
      message: (text) => (this.kept === socket ? ends.message(text) : void this.early.push(text)),
      ended: (reason) => this.lost(socket, reason),
    });
    const session: Pipe = new Session({
      opened: () => this.keep(session),
      message: (text) => ends.message(text),
      ended: (reason) => {
        this.lost(session, reason);
        // A WebSocket that is open waits for nobody any more.
        if (socket.isOpen) this.keep(socket);
      },
    });
    this.alive = new Set([socket, session]);
  }

  get isOpen(): boolean {
    return this.kept?.isOpen ?? false;
  }

  send(text: string): void {
    this.kept?.send(text);
  }

  close(code: number, reason: string): void {
    this.isOver = true;
    clearTimeout(this.wait);
    for (const pipe of this.alive) pipe.close(code, reason);
  }

  private keep(pipe: Pipe): void {
    if (this.kept || this.isOver) return;
    clearTimeout(this.wait);
    this.kept = pipe;
    for (const other of this.alive) if (other !== pipe) other.close(1000, "another way was taken");
    this.alive.clear();
    this.alive.add(pipe);
    this.ends.opened();
    // Only a WebSocket says something before it is kept.
    for (const text of this.early.splice(0)) if (pipe instanceof Socket) this.ends.message(text);
  }

  private lost(pipe: Pipe, reason: string): void {
    if (!this.alive.delete(pipe) || this.isOver) return;
    if (this.alive.size > 0) return;
    this.isOver = true;
    clearTimeout(this.wait);
    this.ends.ended(reason);
  }
}

class Socket implements Pipe {
  private readonly socket: WebSocket;

  constructor(ends: Ends) {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/`);
    this.socket.onopen = () => ends.opened();
    this.socket.onmessage = (message) => {
      if (typeof message.data === "string") ends.message(message.data);
    };
    this.socket.onclose = (close) => ends.ended(close.reason);
  }

  get isOpen(): boolean {
    return this.socket.readyState === WebSocket.OPEN;
  }

  send(text: string): void {
    this.socket.send(text);
  }

  close(code: number, reason: string): void {
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close(code, reason);
  }
}

class Session implements Pipe {
  private transport: WebTransport | null = null;
  private writer: WritableStreamDefaultWriter<Uint8Array> | null = null;
  private beat: ReturnType<typeof setInterval> | undefined;
  private isOver = false;
  private readonly ends: Ends;

  constructor(ends: Ends) {
    this.ends = ends;
    this.run().then(
      (reason) => this.end(reason),
      (error: unknown) => this.end(error instanceof Error ? error.message : ""),
    );
  }

  get isOpen(): boolean {
    return this.writer !== null && !this.isOver;
  }

  send(text: string): void {
    // A write that fails ends the reading too, which says so.
    this.writer?.write(written(text)).catch(() => {});
  }

  close(code: number, reason: string): void {
    this.isOver = true;
    this.hangUp(code, reason);
  }

  /** Carries it from the offer to the end; why it ended. */
  private async run(): Promise<string> {
    const hashes = await offer();
    if (this.isOver || hashes === null) return "";
    const transport = new WebTransport(`https://${location.host}/`, hashes.length > 0 ? { serverCertificateHashes: hashes } : {});
    this.transport = transport;
    transport.closed.catch(() => {});
    await transport.ready;
    // The gateway opens the one stream, and speaks first.
    const streams: ReadableStreamDefaultReader<WebTransportBidirectionalStream> = transport.incomingBidirectionalStreams.getReader();
    const { value: stream } = await streams.read();
    if (this.isOver || !stream) return "";
    this.writer = stream.writable.getWriter();
    const datagrams = transport.datagrams.writable.getWriter();
    this.beat = setInterval(() => void datagrams.write(new Uint8Array(1)).catch(() => {}), BEAT_MS);
    this.ends.opened();
    return await this.hear(stream.readable.getReader());
  }

  private async hear(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
    const frames = new Frames();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || this.isOver) return "";
      for (const heard of frames.push(value)) {
        if ("farewell" in heard) return heard.farewell;
        if (!this.isOver) this.ends.message(heard.text);
      }
    }
  }

  private end(reason: string): void {
    if (this.isOver) return;
    this.isOver = true;
    this.hangUp(0, "");
    this.ends.ended(reason);
  }

  private hangUp(closeCode: number, reason: string): void {
    clearInterval(this.beat);
    try {
      this.transport?.close({ closeCode, reason });
    } catch {
      // It has ended already.
    }
  }
}

/** The certificates by which to know the gateway, none of them where the browser is to judge by itself; null where there is no WebTransport. */
async function offer(): Promise<WebTransportHash[] | null> {
  if (typeof WebTransport !== "function") return null;
  const answer = await fetch("/.well-known/atoll", { cache: "no-store", signal: AbortSignal.timeout(OFFER_MS) });
  const known: unknown = await answer.json();
  const offered = isObject(known) ? known["webTransport"] : null;
  if (!isObject(offered) || !Array.isArray(offered["sha256"])) return null;
  const hashes = offered["sha256"].filter((hash) => typeof hash === "string" && /^[0-9a-f]{64}$/.test(hash));
  // A browser judges only a page that came over HTTPS, whose certificate it has judged already.
  if (hashes.length === 0 && location.protocol !== "https:") return null;
  return hashes.map((hash: string) => ({ algorithm: "sha-256", value: bytesOf(hash) }));
}

function bytesOf(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
