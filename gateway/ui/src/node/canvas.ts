// What agents present: a frame of its own origin that reaches neither this page nor the gateway nor the network.

import type { Call, Command } from "./command.ts";
import { Fault, unlessStopped } from "./fault.ts";
import { isObject, number, text, words } from "./params.ts";

const READY_MS = 10_000;

let stage: HTMLElement | null = null;
let current: HTMLIFrameElement | null = null;
let lastAsk = 0;

/** Where frames go; it is shown while there is one. */
export function presentIn(element: HTMLElement): void {
  stage = element;
}

export function hide(): void {
  current?.remove();
  current = null;
  if (stage) stage.hidden = true;
}

async function show(signal: AbortSignal): Promise<HTMLIFrameElement> {
  hide();
  if (!stage) throw new Fault("CANVAS_UNAVAILABLE", "the page is not ready");
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts");
  frame.title = "What an agent presents";
  frame.src = "/node/canvas.html";
  const loaded = new Promise<void>((resolve) => frame.addEventListener("load", () => resolve(), { once: true }));
  current = frame;
  stage.querySelector(".frame")?.replaceChildren(frame);
  stage.hidden = false;
  const late = new Promise<never>((_, reject) =>
    setTimeout(() => reject(new Fault("CANVAS_UNAVAILABLE", "what was to be presented did not load")), READY_MS),
  );
  await unlessStopped(signal, Promise.race([loaded, late]));
  return frame;
}

/** Asks the frame; what comes back is somebody else's word. */
function ask(frame: HTMLIFrameElement, order: Record<string, unknown>, signal: AbortSignal): Promise<Record<string, unknown>> {
  const id = ++lastAsk;
  const answer = new Promise<Record<string, unknown>>((resolve, reject) => {
    const hear = (event: MessageEvent) => {
      if (event.source !== frame.contentWindow || !isObject(event.data) || event.data["id"] !== id) return;
      window.removeEventListener("message", hear);
      const error = event.data["error"];
      if (typeof error === "string") reject(new Fault("CANVAS_ERROR", error.slice(0, 2_000)));
      else resolve(event.data);
    };
    window.addEventListener("message", hear);
    signal.addEventListener("abort", () => window.removeEventListener("message", hear), { once: true });
  });
  frame.contentWindow?.postMessage({ id, ...order }, "*");
  return unlessStopped(signal, answer);
}

/** The text of a `data:` address, or null for any other. */
async function inlined(url: string): Promise<string | null> {
  const match = /^data:text\/html(;[^,]*)?,/.exec(url);
  if (!match) return null;
  const rest = url.slice(match[0].length);
  if (!/;base64/i.test(match[1] ?? "")) return decodeURIComponent(rest);
  return new TextDecoder().decode(Uint8Array.from(atob(rest), (letter) => letter.charCodeAt(0)));
}

async function present(call: Call): Promise<unknown> {
  const url = text(call.params, "url", 2_000_000);
  const html = text(call.params, "html", 2_000_000) ?? (url === null ? "" : await inlined(url));
  if (html === null) {
    const next = "give the page itself, as html or as a data:text/html address";
    throw new Fault("CANVAS_FOREIGN", `this phone shows nothing that it would have to fetch from elsewhere; ${next}`);
  }
  const frame = await show(call.signal);
  await ask(frame, { order: "write", html }, call.signal);
  return { ok: true };
}

function presented(): HTMLIFrameElement {
  if (!current) throw new Fault("CANVAS_EMPTY", "nothing is presented; present something first");
  return current;
}

async function evaluate(call: Call): Promise<unknown> {
  const code = text(call.params, "javaScript", 1_000_000) ?? text(call.params, "code", 1_000_000);
  if (code === null) throw new Fault("INVALID_REQUEST", "javaScript is missing");
  const answer = await ask(presented(), { order: "eval", code }, call.signal);
  return { result: typeof answer["result"] === "string" ? answer["result"] : "" };
}

async function snapshot(call: Call): Promise<unknown> {
  const format = words(call.params, "format", ["png", "jpeg", "jpg"]);
  const maxWidth = number(call.params, "maxWidth", { least: 16, most: 4096, usual: 1600 });
  const quality = number(call.params, "quality", { least: 0, most: 1, usual: 0.9 });
  const kind = format === "png" ? "png" : "jpeg";
  const answer = await ask(presented(), { order: "snapshot", type: `image/${kind}`, maxWidth, quality }, call.signal);
  const { base64, width, height } = answer;
  if (typeof base64 !== "string") throw new Fault("CANVAS_ERROR", "no picture came");
  return { format: kind, base64, width, height };
}

async function hideIt(): Promise<unknown> {
  hide();
  return { ok: true };
}

const COMMON = { cap: "canvas", group: "Screen", denied: "CANVAS_DISABLED" };

export const CANVAS: Command[] = [
  { ...COMMON, name: "canvas.present", label: "Show a page here", use: "Showing a page", run: present },
  { ...COMMON, name: "canvas.navigate", label: "Change the shown page", use: "Showing a page", run: present },
  { ...COMMON, name: "canvas.hide", label: "Take it away", use: "Hiding a page", run: hideIt },
  { ...COMMON, name: "canvas.eval", label: "Run scripts in the shown page", use: "Working in the shown page", run: evaluate },
  { ...COMMON, name: "canvas.snapshot", label: "Take a picture of the shown page", use: "Picturing the shown page", run: snapshot },
];
