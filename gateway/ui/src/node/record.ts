// Recordings of some seconds: a clip of the camera, a clip of the microphone.

import { bytes, media, open, prepare } from "./camera.ts";
import type { Call, Command } from "./command.ts";
import { Fault, pause } from "./fault.ts";
import { flag, number } from "./params.ts";
import { base64 } from "./signature.ts";

const LONGEST_MS = 60_000;
/** A minute of it fits into one frame to the gateway. */
const VIDEO_BITS = 2_000_000;
const AUDIO_BITS = 64_000;

const VIDEO = ["video/mp4;codecs=avc1.42E01E,mp4a.40.2", "video/mp4;codecs=avc1.42E01E,opus", "video/webm;codecs=vp8,opus", "video/webm"];
const SILENT = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp8", "video/webm"];
const AUDIO = ["audio/mp4;codecs=mp4a.40.2", "audio/webm;codecs=opus", "audio/webm", "audio/mp4"];

/** Whether the owner lets this phone's microphone into a clip. */
let mayHear: () => boolean = () => false;

export function soundOnlyIf(allowed: () => boolean): void {
  mayHear = allowed;
}

function format(kinds: string[]): string {
  const found = kinds.find((kind) => MediaRecorder.isTypeSupported(kind));
  if (!found) throw new Fault("RECORDING_UNAVAILABLE", "this browser cannot record; update it");
  return found;
}

async function record(stream: MediaStream, mimeType: string, durationMs: number, signal: AbortSignal) {
  const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: VIDEO_BITS, audioBitsPerSecond: AUDIO_BITS });
  const parts: Blob[] = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const ended = new Promise<void>((resolve, reject) => {
    recorder.onstop = () => resolve();
    recorder.onerror = () => reject(new Fault("RECORDING_UNAVAILABLE", "the browser gave up recording"));
  });
  const begun = performance.now();
  recorder.start();
  try {
    await Promise.race([pause(signal, durationMs), ended]);
  } finally {
    if (recorder.state !== "inactive") recorder.stop();
  }
  await ended;
  const blob = new Blob(parts);
  if (blob.size === 0) throw new Fault("RECORDING_UNAVAILABLE", "nothing was recorded; is the page in the background?");
  return { base64: base64(await bytes(blob)), durationMs: Math.round(performance.now() - begun) };
}

function container(mimeType: string): string {
  return mimeType.slice(mimeType.indexOf("/") + 1).split(";")[0] ?? "webm";
}

function duration(call: Call): number {
  return number(call.params, "durationMs", { least: 100, most: LONGEST_MS, usual: 3_000 });
}

async function microphone(): Promise<MediaStream> {
  if (!mayHear()) throw new Fault("MIC_DISABLED", "sound is off; it is switched on beside audio.record in the page on the phone");
  return await media({ audio: true }, "MIC");
}

async function clip(call: Call): Promise<unknown> {
  const durationMs = duration(call);
  const wantsSound = flag(call.params, "includeAudio", true);
  const picture = await open(call.params, call.signal);
  let sound: MediaStream | null = null;
  let audioMissing: string | undefined;
  try {
    // A clip without sound is better than none: a phone may have no microphone to give.
    if (wantsSound) {
      sound = await microphone().catch((thrown: unknown) => {
        audioMissing = Fault.of(thrown).message;
        return null;
      });
    }
    const stream = new MediaStream([...picture.stream.getVideoTracks(), ...(sound?.getAudioTracks() ?? [])]);
    const mimeType = format(sound ? VIDEO : SILENT);
    const recorded = await record(stream, mimeType, durationMs, call.signal);
    const { videoWidth: width, videoHeight: height } = picture.video;
    return { format: container(mimeType), ...recorded, hasAudio: sound !== null, audioMissing, width, height };
  } finally {
    for (const track of sound?.getTracks() ?? []) track.stop();
    picture.close();
  }
}

async function listen(call: Call): Promise<unknown> {
  const durationMs = duration(call);
  const sound = await media({ audio: true }, "MIC");
  try {
    const mimeType = format(AUDIO);
    const recorded = await record(sound, mimeType, durationMs, call.signal);
    return { format: container(mimeType), ...recorded };
  } finally {
    for (const track of sound.getTracks()) track.stop();
  }
}

async function prepareSound(): Promise<void> {
  const stream = await media({ audio: true }, "MIC");
  for (const track of stream.getTracks()) track.stop();
}

export const RECORDINGS: Command[] = [
  {
    name: "camera.clip",
    cap: "camera",
    group: "Camera",
    label: "Record a video",
    use: "Recording a video",
    denied: "CAMERA_DISABLED",
    prepare,
    run: clip,
  },
  {
    name: "audio.record",
    cap: "audio",
    group: "Microphone",
    label: "Record sound, also in videos",
    use: "Recording sound",
    denied: "MIC_DISABLED",
    prepare: prepareSound,
    run: listen,
  },
];
