// The red line that says what is being used right now, and stops it.

import { button, element, section } from "./element.ts";

/** A quick use is shown for so long all the same. */
const LEAST_MS = 1_500;

const uses = new Map<symbol, string>();
let stop: () => void = () => {};

export function start(whenStopped: () => void): void {
  stop = whenStopped;
  button("stop", () => stop());
}

/** Shows a use until the function it gives is called. */
export function use(what: string): () => void {
  const key = Symbol(what);
  const since = performance.now();
  uses.set(key, what);
  draw();
  return () => {
    const end = () => {
      uses.delete(key);
      draw();
    };
    setTimeout(end, Math.max(0, LEAST_MS - (performance.now() - since)));
  };
}

function draw(): void {
  const what = [...new Set(uses.values())];
  element("uses", HTMLElement).textContent = what.length > 0 ? `In use by your gateway: ${what.join(", ")}` : "";
  section("banner").hidden = what.length === 0;
  document.title = what.length > 0 ? `● ${what[0]}` : "atoll phone";
}
