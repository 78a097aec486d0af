// The page: puts the parts together. Owns what the owner chose and which card is seen.

import * as awake from "./awake.ts";
import * as banner from "./banner.ts";
import { CAMERA } from "./camera.ts";
import * as canvas from "./canvas.ts";
import type { Command } from "./command.ts";
import { type Consent, choiceOf, read as readConsent, write as writeConsent } from "./consent.ts";
import { DEVICE, nameDevice } from "./device.ts";
import { button, element, section } from "./element.ts";
import { Fault } from "./fault.ts";
import { loadOrCreate } from "./identity.ts";
import * as install from "./install.ts";
import { Link, type State } from "./link.ts";
import * as log from "./log.ts";
import * as notice from "./notice.ts";
import { MESSAGES, showLinesBy } from "./notify.ts";
import { isObject } from "./params.ts";
import { PLACE } from "./place.ts";
import { type Platform, platformOf } from "./platform.ts";
import { RECORDINGS, soundOnlyIf } from "./record.ts";
import { Calls } from "./serve.ts";
import { setupCode } from "./setup.ts";
import * as store from "./store.ts";
import * as stream from "./stream.ts";
import { draw as drawSwitches } from "./switches.ts";

const COMMANDS: Command[] = [...CAMERA, ...stream.STREAMS, ...RECORDINGS, ...PLACE, ...MESSAGES, ...canvas.CANVAS, ...DEVICE];

interface Kept {
  token: string | null;
  code: string | null;
  name: string;
  consent: Consent;
  isPaused: boolean;
  isAwake: boolean;
}

async function kept(): Promise<Kept> {
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : null);
  return {
    token: text(await store.read("token")),
    code: text(await store.read("code")),
    name: text(await store.read("name")) ?? "Phone",
    consent: readConsent(await store.read("consent")),
    isPaused: (await store.read("paused")) === true,
    isAwake: (await store.read("awake")) === true,
  };
}

/** The gateway holds a phone to the kind that it came in as, though a browser may call itself something else tomorrow. */
async function platform(): Promise<Platform> {
  const found = await store.read("platform");
  if (isObject(found) && typeof found["platform"] === "string" && typeof found["deviceFamily"] === "string") {
    return { platform: found["platform"], deviceFamily: found["deviceFamily"] };
  }
  const now = platformOf(navigator.userAgent, navigator.maxTouchPoints);
  await store.write("platform", now);
  return now;
}

/** The code in the address, which is not left there for whoever looks over a shoulder or syncs histories. */
function codeInAddress(): string | null {
  const code = setupCode(location.hash);
  if (location.hash) history.replaceState(null, "", location.pathname);
  return code;
}

class Page {
  private state: State = { kind: "connecting" };
  private link: Link | null = null;
  private calls: Calls | null = null;
  private readonly kept: Kept;

  constructor(kept: Kept) {
    this.kept = kept;
    stream.through(() => this.link);
    soundOnlyIf(() => choiceOf(this.kept.consent, "audio.record") === "allow");
  }

  start(): void {
    section("title").textContent = this.kept.name;
    element("name", HTMLInputElement).value = this.kept.name;
    notice.start(() => location.reload());
    banner.start(() => this.stop("stopped it"));
    this.manage();
    this.messages();
    element("pair-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      void this.accept();
    });
    window.addEventListener("hashchange", () => {
      const code = codeInAddress();
      if (code) void this.offer(code);
    });
    // Whoever comes back to the page does not wait for the next attempt.
    const wake = () => {
      if (!document.hidden) this.link?.connect();
    };
    window.addEventListener("online", wake);
    document.addEventListener("visibilitychange", wake);
    const code = codeInAddress();
    if (code) void this.offer(code);
    else if (this.kept.token || this.kept.code) void this.join();
    else this.invite("Open the link that your gateway shows, or paste it here.", true);
  }

  /** A code was opened: the owner says yes here before the phone says anything. */
  private async offer(code: string): Promise<void> {
    element("code", HTMLInputElement).value = code;
    this.invite(`The gateway at ${location.host} may then use what you switch on here, and nothing else.`, false);
  }

  private invite(text: string, asksForCode: boolean): void {
    section("pair").hidden = false;
    section("pair-text").textContent = text;
    section("code-row").hidden = !asksForCode;
    element("state", HTMLElement).dataset["state"] = "new";
    element("state", HTMLElement).textContent = "Not connected yet";
  }

  private async accept(): Promise<void> {
    const code = setupCode(element("code", HTMLInputElement).value);
    if (!code) {
      section("pair-text").textContent = "That is neither a link nor a code of a gateway; copy all of it.";
      section("code-row").hidden = false;
      return;
    }
    this.kept.name = element("name", HTMLInputElement).value.trim() || "Phone";
    this.kept.code = code;
    // A page that is closed in the middle of it goes on from here.
    await store.write("name", this.kept.name);
    await store.write("code", code);
    section("title").textContent = this.kept.name;
    section("pair").hidden = true;
    await this.join();
  }

  private async join(): Promise<void> {
    this.link?.end();
    const identity = await loadOrCreate();
    const caps = [...new Set(COMMANDS.map((command) => command.cap))];
    const commands = COMMANDS.map((command) => command.name);
    const facts = { ...(await platform()), name: this.kept.name, caps, commands };
    const credentials = { token: this.kept.token, code: this.kept.code };
    const link = new Link(identity, facts, credentials, {
      state: (state) => this.shows(state),
      admitted: (token) => this.admitted(token),
      invoke: (invoke) => void calls.serve(invoke),
      cancel: (id) => calls.cancel(id),
      event: stream.event,
    });
    const owner = { consent: () => this.kept.consent, isPaused: () => this.kept.isPaused };
    const calls = new Calls(COMMANDS, owner, (call, result) => link.result(call, result));
    [this.link, this.calls] = [link, calls];
    nameDevice(this.kept.name);
    section("about-gateway").textContent = location.host;
    section("about-device").textContent = identity.id;
    this.cards();
    link.connect();
  }

  private async admitted(token: string | null): Promise<void> {
    if (token) await store.write("token", token);
    await store.forget("code");
    [this.kept.token, this.kept.code] = [token, null];
  }

  /** Ends what runs, since the owner did that: all of it, or one command. */
  private stop(did: string, command?: string): void {
    const why = new Fault("CANCELLED", `the owner of the phone ${did}`);
    this.calls?.stop(why, command);
    if (command === undefined || command === "camera.stream") stream.stop(why);
  }

  private cards(): void {
    for (const id of ["consent", "manage", "log-card", "about"]) section(id).hidden = false;
    drawSwitches(COMMANDS, this.kept.consent, (command, choice) => {
      this.kept.consent = writeConsent(this.kept.consent, command, choice);
      void store.write("consent", this.kept.consent);
      if (choice === "deny") this.stop(`switched ${command} off`, command);
    });
  }

  private shows(state: State): void {
    this.state = state;
    notice.show(state, this.kept.isPaused);
    if (state.kind === "code") {
      void store.forget("code");
      this.invite("Paste the new link or code.", true);
      notice.show(state, this.kept.isPaused);
    }
  }

  private manage(): void {
    const pause = button("pause", () => {
      this.kept.isPaused = !this.kept.isPaused;
      void store.write("paused", this.kept.isPaused);
      if (this.kept.isPaused) this.stop("has paused it");
      drawPause();
    });
    const drawPause = () => {
      pause.setAttribute("aria-pressed", String(this.kept.isPaused));
      pause.textContent = this.kept.isPaused ? "Resume" : "Pause";
      if (this.link) notice.show(this.state, this.kept.isPaused);
    };
    drawPause();
    const screen = element("awake", HTMLInputElement);
    screen.checked = this.kept.isAwake;
    screen.disabled = !awake.isPossible;
    if (!awake.isPossible) section("awake-text").textContent = "This browser cannot; set it in the phone's settings.";
    screen.addEventListener("change", () => {
      void awake.keepAwake(screen.checked);
      void store.write("awake", screen.checked);
    });
    void awake.keepAwake(this.kept.isAwake);
    const leaving = element("leaving", HTMLDialogElement);
    button("leave", () => leaving.showModal());
    button("leaving-no", () => leaving.close());
    button("leaving-yes", () => void this.leave());
  }

  private async leave(): Promise<void> {
    this.stop("has left the gateway");
    this.link?.end();
    await store.forgetAll();
    location.reload();
  }

  private messages(): void {
    canvas.presentIn(section("stage"));
    button("unshow", () => canvas.hide());
    button("unline", () => {
      section("line").hidden = true;
    });
    showLinesBy((title, body) => {
      section("line-title").textContent = title || "Message";
      section("line-body").textContent = body;
      section("line").hidden = false;
    });
  }
}

function insecure(): void {
  section("insecure").hidden = false;
  const link = element("secure-link", HTMLAnchorElement);
  link.href = `https://${location.host}${location.pathname}${location.hash}`;
  link.textContent = `https://${location.host}/node`;
  element("state", HTMLElement).textContent = "This address is not secure";
}

/** Two tabs would push each other out of the gateway, so one of them waits. */
async function alone(): Promise<void> {
  if (!navigator.locks) return;
  const held = new Promise<void>((resolve) => {
    void navigator.locks.request("atoll-node", () => {
      resolve();
      return new Promise(() => {});
    });
  });
  const hint = setTimeout(() => {
    element("state", HTMLElement).textContent = "Open in another tab of this browser";
  }, 1_000);
  await held;
  clearTimeout(hint);
}

async function main(): Promise<void> {
  if (!isSecureContext) return insecure();
  install.start();
  await alone();
  await log.load();
  new Page(await kept()).start();
}

main().catch((thrown: unknown) => {
  element("state", HTMLElement).textContent = `The page cannot start: ${Fault.of(thrown).message}`;
});
