// A live picture for those who watch: JPEGs as the parts of multipart/x-mixed-replace, told to the gateway one by one, each after the
// gateway took the one before. The camera is off as soon as nobody watches.

import { use } from "./banner.ts";
import { bytes, frame, open, type Picture, prepare } from "./camera.ts";
import type { Call, Command } from "./command.ts";
import { Fault, pause, stopped } from "./fault.ts";
import type { Link } from "./link.ts";
import { number, words } from "./params.ts";
import { base64 } from "./signature.ts";

/** What the gateway must say that it can. */
export const FEATURE = "node-streams-v1";

/** A stream that nobody comes for is over, and the camera off again. */
const UNWATCHED_MS = 30_000;
const BOUNDARY = "frame";

interface Film {
  picture: Picture;
  fps: number;
  maxWidth: number;
  quality: number;
  stop: AbortController;
  isWatched: boolean;
}

const films = new Map<string, Film>();
/** What the gateway calls them while somebody watches. */
const watched = new Map<string, Film>();

/** The gateway that pictures go to. */
let link: () => Link | null = () => null;

export function through(current: () => Link | null): void {
  link = current;
}

async function start(call: Call): Promise<unknown> {
  if (!link()?.features.has(FEATURE)) throw new Fault("STREAMS_UNAVAILABLE", "this gateway takes no streams of a page");
  words(call.params, "format", ["mjpeg", "jpeg", "jpg"]);
  const fps = number(call.params, "fps", { least: 0.1, most: 30, usual: 10 });
  const maxWidth = number(call.params, "maxWidth", { least: 16, most: 1920, usual: 960 });
  const quality = number(call.params, "quality", { least: 0, most: 1, usual: 0.7 });
  const durationMs = number(call.params, "durationMs", { least: 1_000, most: 86_400_000, usual: 600_000 });
  const picture = await open(call.params, call.signal);
  const id = crypto.randomUUID();
  const film: Film = { picture, fps, maxWidth, quality, stop: new AbortController(), isWatched: false };
  films.set(id, film);
  const unuse = use("Live picture");
  const over = setTimeout(() => film.stop.abort(), durationMs);
  const unwatched = setTimeout(() => {
    if (!film.isWatched) film.stop.abort();
  }, UNWATCHED_MS);
  film.stop.signal.addEventListener("abort", () => {
    clearTimeout(over);
    clearTimeout(unwatched);
    films.delete(id);
    picture.close();
    unuse();
  });
  const scale = Math.min(1, maxWidth / picture.video.videoWidth);
  return {
    format: "mjpeg",
    width: Math.round(picture.video.videoWidth * scale),
    height: Math.round(picture.video.videoHeight * scale),
    fps,
    durationMs,
    blob: { id, name: "camera.mjpeg", size: 0, mime: "multipart/x-mixed-replace", kind: "stream" },
  };
}

/** Hears what the gateway says about streams. */
export function event(name: string, payload: Record<string, unknown>): void {
  const [stream, blob] = [payload["streamId"], payload["blobId"]];
  if (typeof stream !== "string") return;
  if (name === "node.stream.close") {
    watched.get(stream)?.stop.abort();
    watched.delete(stream);
  }
  if (name !== "node.stream.open") return;
  const film = typeof blob === "string" ? films.get(blob) : undefined;
  const gateway = link();
  if (!gateway) return;
  if (film && !film.isWatched) void tell(gateway, stream, film);
  else end(gateway, stream, new Fault("STREAM_OVER", "there is no such stream on this phone any more"));
}

/** Says that it is over, and why where it did not end as it should. */
function end(gateway: Link, streamId: string, fault: Fault | null): void {
  const why = fault ? { reason: `${fault.code}: ${fault.message}` } : {};
  void gateway.request("node.stream.end", { streamId, ...why }).catch(() => {});
}

async function tell(gateway: Link, stream: string, film: Film): Promise<void> {
  film.isWatched = true;
  watched.set(stream, film);
  const { signal } = film.stop;
  let fault: Fault | null = null;
  try {
    for (;;) {
      if (signal.aborted) throw stopped(signal);
      const begun = performance.now();
      const { blob } = await frame(film.picture.video, film.maxWidth, film.quality);
      const data = base64(part(await bytes(blob)));
      const answer = await gateway.request("node.stream.chunk", { streamId: stream, data, key: true });
      if (answer["wanted"] !== true) break;
      await pause(signal, Math.max(0, 1000 / film.fps - (performance.now() - begun)));
    }
  } catch (thrown) {
    // Its time was over, or nobody watches: as it should.
    const isMeant = signal.aborted && !(signal.reason instanceof Fault);
    fault = isMeant ? null : Fault.of(thrown);
  }
  watched.delete(stream);
  film.stop.abort();
  end(gateway, stream, fault);
}

/** One picture as a part; its length is named, so that nobody has to look for the boundary. */
function part(jpeg: Uint8Array): Uint8Array {
  const text = new TextEncoder();
  const head = text.encode(`--${BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: ${jpeg.length}\r\n\r\n`);
  const whole = new Uint8Array(head.length + jpeg.length + 2);
  whole.set(head);
  whole.set(jpeg, head.length);
  whole.set([13, 10], head.length + jpeg.length);
  return whole;
}

/** Ends all of them, because the owner says so. */
export function stop(why: Fault): void {
  for (const film of [...films.values()]) film.stop.abort(why);
}

export const STREAMS: Command[] = [
  {
    name: "camera.stream",
    cap: "camera",
    group: "Camera",
    label: "Show a live picture",
    use: "Starting a live picture",
    denied: "CAMERA_DISABLED",
    prepare,
    run: start,
  },
];
