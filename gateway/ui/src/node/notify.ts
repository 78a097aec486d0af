// Messages to whoever holds this phone: notifications of the system, a line in the page, vibration.

import type { Call, Command } from "./command.ts";
import { Fault } from "./fault.ts";
import { text, words } from "./params.ts";

/** Shows a line in the page; set by the page. */
let overlay: (title: string, body: string) => void = () => {};

export function showLinesBy(show: (title: string, body: string) => void): void {
  overlay = show;
}

function mayNotify(): boolean {
  return typeof Notification === "function" && Notification.permission === "granted";
}

/** A notification of the system; whether there was one. */
export async function system(title: string, options: NotificationOptions): Promise<boolean> {
  if (!mayNotify()) return false;
  const worker = await navigator.serviceWorker?.getRegistration("/node");
  // On phones only a worker may show one.
  if (worker) await worker.showNotification(title, { icon: "/node/icon-192.png", ...options });
  else new Notification(title, options);
  return true;
}

async function notify(call: Call): Promise<unknown> {
  const title = text(call.params, "title", 200) ?? "";
  const body = text(call.params, "body", 2_000) ?? "";
  if (title === "" && body === "") throw new Fault("INVALID_REQUEST", "a notification needs a title or a body");
  const delivery = words(call.params, "delivery", ["auto", "system", "overlay"]);
  const priority = words(call.params, "priority", ["active", "passive", "timeSensitive"]);
  if (delivery !== "overlay") {
    const options = { body, silent: priority === "passive", requireInteraction: priority === "timeSensitive" };
    if (await system(title || "atoll", options)) {
      overlay(title, body);
      return { delivered: "system" };
    }
    if (delivery === "system") {
      const next = "allow notifications for this page in the browser's settings";
      throw new Fault("NOTIFICATIONS_DISABLED", `the browser shows no notifications of this page; ${next}`);
    }
  }
  overlay(title, body);
  return { delivered: "overlay" };
}

async function vibrate(call: Call): Promise<unknown> {
  const given = call.params["pattern"] ?? call.params["durationMs"] ?? 200;
  const pattern: unknown[] = Array.isArray(given) ? given : [given];
  const isTime = (time: unknown): time is number => typeof time === "number" && time >= 0 && time <= 5_000;
  if (pattern.length > 20 || !pattern.every(isTime)) {
    throw new Fault("INVALID_REQUEST", "pattern has at most 20 numbers from 0 to 5000 (milliseconds on, off, on, …)");
  }
  if (!navigator.vibrate(pattern)) throw new Fault("VIBRATION_UNAVAILABLE", "touch the page once, then it may vibrate");
  return { ok: true };
}

export const MESSAGES: Command[] = [
  {
    name: "system.notify",
    cap: "system",
    group: "Messages",
    label: "Show notifications",
    use: "Showing a notification",
    denied: "NOTIFICATIONS_DISABLED",
    async prepare() {
      // A refusal leaves the line in the page.
      if (typeof Notification === "function") await Notification.requestPermission();
    },
    run: notify,
  },
  ...("vibrate" in navigator
    ? [
        {
          name: "device.vibrate",
          cap: "device",
          group: "Messages",
          label: "Vibrate",
          use: "Vibrating",
          denied: "VIBRATION_DISABLED",
          run: vibrate,
        },
      ]
    : []),
];
