// The page as an app: its worker, and the browser's offer to put it on the home screen.

import { button, section } from "./element.ts";

/** What browsers that can install pages say. */
interface InstallOffer extends Event {
  prompt(): Promise<unknown>;
}

export function start(): void {
  // Without the worker everything works but the start without a network.
  void navigator.serviceWorker?.register("/node/sw.js", { scope: "/node" }).catch(() => {});
  let offer: InstallOffer | null = null;
  window.addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    if (!("prompt" in event)) return;
    offer = event as InstallOffer;
    section("install-row").hidden = false;
  });
  button("install", () => {
    section("install-row").hidden = true;
    void offer?.prompt();
  });
}
