// The cameras: which there are, a photo, and the picture source that clips and streams share. A camera is on only while it is used.

import type { Call, Command } from "./command.ts";
import { Fault, pause, unlessStopped } from "./fault.ts";
import { flag, number, type Params, text, words } from "./params.ts";
import { base64 } from "./signature.ts";

/** How long a camera may take to give its first picture. */
const FIRST_PICTURE_MS = 8_000;
/** How long a torch takes to shine, and the picture to get used to it. */
const TORCH_MS = 700;

interface Source {
  key: string;
  stream: MediaStream;
  video: HTMLVideoElement;
  users: number;
}

/** The camera that is on, if one is. */
let source: Promise<Source> | null = null;
let sourceKey = "";

/** A camera that is on, until `close`. */
export interface Picture {
  stream: MediaStream;
  video: HTMLVideoElement;
  close(): void;
}

/** Turns a camera on, or joins whoever uses it. */
export async function open(params: Params, signal: AbortSignal): Promise<Picture> {
  const deviceId = text(params, "deviceId", 500);
  const facing = words(params, "facing", ["back", "front"]);
  const key = deviceId ?? facing;
  if (source && sourceKey !== key) throw new Fault("CAMERA_BUSY", "the other camera of this phone is in use; try again later");
  if (!source) {
    sourceKey = key;
    source = start(key, deviceId, facing);
    source.catch(() => {
      source = null;
    });
  }
  const opening = source;
  const opened = await opening;
  opened.users += 1;
  let isOpen = true;
  const close = () => {
    if (!isOpen) return;
    isOpen = false;
    opened.users -= 1;
    if (opened.users > 0) return;
    for (const track of opened.stream.getTracks()) track.stop();
    opened.video.srcObject = null;
    opened.video.remove();
    if (source === opening) source = null;
  };
  try {
    if (Object.hasOwn(params, "torch")) {
      const isOn = flag(params, "torch", false);
      await torch(opened.stream, isOn);
      if (isOn) await pause(signal, TORCH_MS);
    }
    await unlessStopped(signal, Promise.resolve());
  } catch (fault) {
    close();
    throw fault;
  }
  return { stream: opened.stream, video: opened.video, close };
}

async function start(key: string, deviceId: string | null, facing: "front" | "back"): Promise<Source> {
  const facingMode = facing === "front" ? "user" : "environment";
  const which: MediaTrackConstraints = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: { ideal: facingMode } };
  const stream = await media({ video: { ...which, width: { ideal: 1920 }, height: { ideal: 1080 } } }, "CAMERA");
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.className = "source";
  video.srcObject = stream;
  // Some browsers decode only what is in the page.
  document.body.append(video);
  const shown = new Promise<void>((resolve) => video.addEventListener("loadeddata", () => resolve(), { once: true }));
  const late = new Promise<never>((_, reject) =>
    setTimeout(() => reject(new Fault("CAMERA_UNAVAILABLE", silence())), FIRST_PICTURE_MS),
  );
  try {
    await video.play();
    await Promise.race([shown, late]);
  } catch (fault) {
    for (const track of stream.getTracks()) track.stop();
    video.remove();
    throw fault instanceof Fault ? fault : new Fault("CAMERA_UNAVAILABLE", silence());
  }
  return { key, stream, video, users: 0 };
}

function silence(): string {
  return document.hidden
    ? "the camera gives no picture while the page is in the background; open the page on the phone and leave it open"
    : "the camera gives no picture; another app may be using it";
}

/** The browser's devices, with its refusals in the words that callers know. */
export async function media(constraints: MediaStreamConstraints, what: "CAMERA" | "MIC"): Promise<MediaStream> {
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (thrown) {
    const name = thrown instanceof DOMException ? thrown.name : "";
    const device = what === "CAMERA" ? "camera" : "microphone";
    if (name === "NotAllowedError") {
      const next = "allow it for this page in the browser's settings";
      throw new Fault(`${what}_PERMISSION_REQUIRED`, `the browser does not let the page use the ${device}; ${next}`);
    }
    if (name === "NotFoundError" || name === "OverconstrainedError") {
      throw new Fault(`${what}_UNAVAILABLE`, `this phone has no such ${device}`);
    }
    throw new Fault(`${what}_UNAVAILABLE`, `the ${device} cannot be used; another app may be using it`);
  }
}

async function torch(stream: MediaStream, isOn: boolean): Promise<void> {
  const track = stream.getVideoTracks()[0];
  const abilities: object = track?.getCapabilities?.() ?? {};
  if (!track || !("torch" in abilities)) {
    if (isOn) throw new Fault("TORCH_UNAVAILABLE", "this camera has no torch that a browser can switch");
    return;
  }
  // Not among the constraints that every browser knows.
  await track.applyConstraints({ advanced: [{ torch: isOn } as MediaTrackConstraintSet] });
}

/** What the camera shows now, no wider than that, as JPEG. */
export async function frame(video: HTMLVideoElement, maxWidth: number, quality: number): Promise<{ blob: Blob; width: number; height: number }> {
  const scale = Math.min(1, maxWidth / video.videoWidth);
  const width = Math.max(1, Math.round(video.videoWidth * scale));
  const height = Math.max(1, Math.round(video.videoHeight * scale));
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (!context) throw new Fault("CAMERA_UNAVAILABLE", "the browser has no room for a picture");
  context.drawImage(video, 0, 0, width, height);
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
  if (!blob) throw new Fault("CAMERA_UNAVAILABLE", "the picture could not be made");
  return { blob, width, height };
}

export async function bytes(blob: Blob): Promise<Uint8Array> {
  return new Uint8Array(await blob.arrayBuffer());
}

async function list(): Promise<unknown> {
  const all = await navigator.mediaDevices.enumerateDevices();
  const devices = all
    .filter((device) => device.kind === "videoinput")
    .map((device, at) => ({
      id: device.deviceId,
      name: device.label || `camera ${at + 1}`,
      position: position(device.label),
      deviceType: "camera",
    }));
  return { devices };
}

function position(label: string): string {
  if (/front|user|selfie/i.test(label)) return "front";
  if (/back|rear|environment/i.test(label)) return "back";
  return "unspecified";
}

async function snap(call: Call): Promise<unknown> {
  const maxWidth = number(call.params, "maxWidth", { least: 16, most: 8192, usual: 1600 });
  const quality = number(call.params, "quality", { least: 0, most: 1, usual: 0.9 });
  const delayMs = number(call.params, "delayMs", { least: 0, most: 30_000, usual: 0 });
  const picture = await open(call.params, call.signal);
  try {
    if (delayMs > 0) await pause(call.signal, delayMs);
    const { blob, width, height } = await frame(picture.video, maxWidth, quality);
    return { format: "jpg", base64: base64(await bytes(blob)), width, height };
  } finally {
    picture.close();
  }
}

/** The browser's own question, when the owner switches a camera command on. */
export async function prepare(): Promise<void> {
  const stream = await media({ video: true }, "CAMERA");
  for (const track of stream.getTracks()) track.stop();
}

const COMMON = { cap: "camera", group: "Camera", denied: "CAMERA_DISABLED", prepare };

export const CAMERA: Command[] = [
  { ...COMMON, name: "camera.list", label: "See which cameras there are", use: "Looking for cameras", run: list },
  { ...COMMON, name: "camera.snap", label: "Take a photo", use: "Taking a photo", run: snap },
];
