// Keeps the screen on while the owner wants that: a phone that sleeps cannot be reached.

let isWanted = false;
let lock: WakeLockSentinel | null = null;

export const isPossible = "wakeLock" in navigator;

export async function keepAwake(wanted: boolean): Promise<void> {
  isWanted = wanted;
  await settle();
}

async function settle(): Promise<void> {
  if (!isPossible) return;
  if (!isWanted) {
    await lock?.release();
    lock = null;
    return;
  }
  // The system takes it away with every change of the page.
  if (document.hidden || (lock && !lock.released)) return;
  lock = await navigator.wakeLock.request("screen").catch(() => null);
}

document.addEventListener("visibilitychange", () => void settle());
