// Asks whoever holds the phone, one question after the other.

import { element, section } from "./element.ts";
import { Fault } from "./fault.ts";
import { system } from "./notify.ts";

let last: Promise<unknown> = Promise.resolve();

/** Resolves when the owner allows it this once. */
export function ask(what: string, signal: AbortSignal): Promise<void> {
  const asked = last.then(() => question(what, signal));
  last = asked.catch(() => {});
  return asked;
}

function question(what: string, signal: AbortSignal): Promise<void> {
  const unanswered = new Fault("CONSENT_TIMEOUT", "nobody at the phone answered in time");
  if (signal.aborted) return Promise.reject(unanswered);
  const dialog = element("ask", HTMLDialogElement);
  section("ask-title").textContent = `${what}?`;
  section("ask-text").textContent = "Your gateway asks for it now.";
  if (document.hidden) void system("Your gateway asks", { body: `${what}?`, tag: "ask" }).catch(() => false);
  return new Promise((resolve, reject) => {
    const answers = new AbortController();
    const end = (act: () => void) => {
      answers.abort();
      dialog.close();
      act();
    };
    const refused = () => end(() => reject(new Fault("CONSENT_DENIED", "the owner of the phone said no")));
    const on = (target: EventTarget, name: string, act: () => void) =>
      target.addEventListener(name, act, { signal: answers.signal });
    on(section("ask-yes"), "click", () => end(resolve));
    on(section("ask-no"), "click", refused);
    on(dialog, "cancel", refused);
    on(signal, "abort", () => end(() => reject(unanswered)));
    dialog.showModal();
  });
}
