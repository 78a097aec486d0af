// Facts about this phone: what it is, and how its battery and network are.

import type { Command } from "./command.ts";

interface Battery {
  level: number;
  charging: boolean;
}

/** What not every browser tells. */
interface Extras {
  getBattery?(): Promise<Battery>;
  connection?: { type?: string; effectiveType?: string };
  deviceMemory?: number;
}

/** 0 to 1 and whether it charges; null where the browser does not tell. */
export async function battery(): Promise<Battery | null> {
  const extras = navigator as Navigator & Extras;
  return (await extras.getBattery?.().catch(() => null)) ?? null;
}

let ownName = "";

export function nameDevice(name: string): void {
  ownName = name;
}

async function info(): Promise<unknown> {
  return {
    deviceName: ownName,
    modelIdentifier: "browser",
    systemName: systemName(),
    systemVersion: "",
    appVersion: "0.1.0",
    appBuild: "page",
    locale: navigator.language,
    userAgent: navigator.userAgent,
    cpuCount: navigator.hardwareConcurrency,
  };
}

function systemName(): string {
  return /Android/.test(navigator.userAgent) ? "Android" : /iPhone|iPad/.test(navigator.userAgent) ? "iOS" : navigator.platform;
}

async function status(): Promise<unknown> {
  const extras = navigator as Navigator & Extras;
  const [power, storage] = await Promise.all([battery(), navigator.storage?.estimate?.().catch(() => null)]);
  return {
    battery: power && { level: power.level, state: power.level === 1 && power.charging ? "full" : power.charging ? "charging" : "unplugged" },
    network: { online: navigator.onLine, type: extras.connection?.type, effectiveType: extras.connection?.effectiveType },
    storage: storage && { usedBytes: storage.usage, totalBytes: storage.quota },
    cpuCount: navigator.hardwareConcurrency,
    isVisible: !document.hidden,
    uptimeSeconds: Math.round(performance.now() / 1000),
  };
}

const COMMON = { cap: "device", group: "This phone", denied: "DEVICE_DISABLED" };

export const DEVICE: Command[] = [
  { ...COMMON, name: "device.info", label: "What kind of phone it is", use: "Reading facts", run: info },
  { ...COMMON, name: "device.status", label: "Battery and network", use: "Reading the battery", run: status },
];
