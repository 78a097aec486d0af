// How things stand, in plain words, and what to do about it.

import { button, element, section } from "./element.ts";
import type { State } from "./link.ts";

interface Notice {
  title: string;
  text: string;
  command?: string;
  again?: boolean;
}

export function start(again: () => void): void {
  button("notice-again", again);
}

/** The line under the name, and the card below it. */
export function show(state: State, isPaused: boolean): void {
  const line = element("state", HTMLElement);
  line.dataset["state"] = state.kind === "linked" && isPaused ? "paused" : state.kind;
  line.textContent = summary(state, isPaused);
  draw(noticeOf(state));
}

function summary(state: State, isPaused: boolean): string {
  switch (state.kind) {
    case "linked":
      return isPaused ? "Paused" : "Connected, ready";
    case "connecting":
      return "Connecting …";
    case "lost":
      return "Not connected, trying again";
    case "approval":
      return "Waiting for your yes";
    case "removed":
      return "Removed from the gateway";
    case "code":
      return "Not connected";
    case "version":
      return "The page is out of date";
  }
}

function noticeOf(state: State): Notice | null {
  switch (state.kind) {
    case "linked":
    case "connecting":
      return null;
    case "lost":
      return { title: "The gateway is not there", text: `${state.message}. This page keeps trying by itself.`, again: true };
    case "approval":
      return {
        title: "The gateway asks you first",
        text: "On the gateway:",
        command: `atoll devices approve ${state.request.slice(0, 8)}`,
      };
    case "removed":
      return {
        title: "The gateway no longer knows this phone",
        text: "Somebody removed it or withdrew its key. If it should come back, make a new code on the gateway and open its link here:",
        command: "atoll qr --phone",
        again: true,
      };
    case "code":
      return {
        title: "The code does not work",
        text: "A code works once and for ten minutes. Make a new one on the gateway and open its link here:",
        command: "atoll qr --phone",
      };
    case "version":
      return { title: "This page and the gateway are of different versions", text: "Reload the page.", again: true };
  }
}

function draw(notice: Notice | null): void {
  section("notice").hidden = notice === null;
  section("notice-title").textContent = notice?.title ?? "";
  section("notice-text").textContent = notice?.text ?? "";
  section("notice-command").textContent = notice?.command ?? "";
  section("notice-command").hidden = notice?.command === undefined;
  section("notice-again").hidden = notice?.again !== true;
}
