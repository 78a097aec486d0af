// Keeps the shell of the page, so that it starts without the gateway and says so. Caches nothing else, and never an answer to a call.

interface WorkerScope extends EventTarget {
  skipWaiting(): Promise<void>;
  readonly clients: { claim(): Promise<void>; matchAll(options: object): Promise<{ focus?(): Promise<unknown> }[]>; openWindow(url: string): Promise<unknown> };
}

interface Extendable extends Event {
  waitUntil(work: Promise<unknown>): void;
}

interface Fetch extends Event {
  readonly request: Request;
  respondWith(answer: Promise<Response>): void;
}

const worker = self as unknown as WorkerScope;
const SHELL = "atoll-node-shell";
const PAGE = "/node";

async function keep(): Promise<void> {
  const cache = await caches.open(SHELL);
  const page = await fetch(PAGE, { cache: "no-cache" });
  const text = await page.clone().text();
  const parts = [...text.matchAll(/(?:src|href)="(\/node\/[^"]+)"/g)].flatMap((match) => match[1] ?? []);
  await cache.put(PAGE, page);
  await cache.addAll([...new Set(parts)]);
  for (const request of await cache.keys()) {
    const path = new URL(request.url).pathname;
    if (path !== PAGE && !parts.includes(path)) await cache.delete(request);
  }
}

async function page(request: Request): Promise<Response> {
  try {
    const fresh = await fetch(request);
    // A new version brings new parts.
    if (fresh.ok) void keep().catch(() => {});
    return fresh;
  } catch (error) {
    const kept = await caches.match(PAGE);
    if (kept) return kept;
    throw error;
  }
}

async function part(request: Request): Promise<Response> {
  return (await caches.match(request)) ?? fetch(request);
}

worker.addEventListener("install", (event) => {
  (event as Extendable).waitUntil(keep().then(() => worker.skipWaiting()));
});

worker.addEventListener("activate", (event) => {
  (event as Extendable).waitUntil(worker.clients.claim());
});

worker.addEventListener("fetch", (event) => {
  const { request } = event as Fetch;
  const { pathname } = new URL(request.url);
  if (request.method !== "GET") return;
  if (pathname === PAGE && request.mode === "navigate") (event as Fetch).respondWith(page(request));
  else if (pathname.startsWith("/node/assets/") || /^\/node\/icon/.test(pathname)) (event as Fetch).respondWith(part(request));
});

worker.addEventListener("notificationclick", (event) => {
  const show = async () => {
    const [open] = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
    await (open?.focus?.() ?? worker.clients.openWindow(PAGE));
  };
  (event as Extendable).waitUntil(show());
});
