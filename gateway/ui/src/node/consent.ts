// What the owner of this phone allows. Everything is denied until it was switched on. Pure.

import { isObject } from "./params.ts";

export type Choice = "deny" | "ask" | "allow";
export type Consent = Readonly<Record<string, Choice>>;

/** What was kept, without anything that is no choice. */
export function read(kept: unknown): Consent {
  if (!isObject(kept)) return {};
  const choices = Object.entries(kept).filter((entry): entry is [string, Choice] => isChoice(entry[1]));
  return Object.fromEntries(choices);
}

export function isChoice(value: unknown): value is Choice {
  return value === "deny" || value === "ask" || value === "allow";
}

/** The consent with one choice changed. */
export function write(consent: Consent, command: string, choice: Choice): Consent {
  return { ...consent, [command]: choice };
}

export function choiceOf(consent: Consent, command: string): Choice {
  return Object.hasOwn(consent, command) ? (consent[command] ?? "deny") : "deny";
}

export function decide(consent: Consent, command: string, isPaused: boolean): Choice | "paused" {
  const choice = choiceOf(consent, command);
  return isPaused && choice !== "deny" ? "paused" : choice;
}
