// What was used, for the owner: the newest fifty calls, kept on this phone.

import { made, section } from "./element.ts";
import { isObject } from "./params.ts";
import * as store from "./store.ts";

interface Entry {
  at: number;
  command: string;
  end: string;
}

const MOST = 50;

let entries: Entry[] = [];

export async function load(): Promise<void> {
  const kept = await store.read("log");
  const isEntry = (entry: unknown): entry is Entry =>
    isObject(entry) && typeof entry["at"] === "number" && typeof entry["command"] === "string" && typeof entry["end"] === "string";
  entries = Array.isArray(kept) ? kept.filter(isEntry) : [];
  draw();
}

export function note(command: string, end: string): void {
  entries = [{ at: Date.now(), command, end }, ...entries].slice(0, MOST);
  draw();
  void store.write("log", entries).catch(() => {});
}

function draw(): void {
  const rows = entries.map((entry) => {
    const row = made("li");
    const time = made("time", new Date(entry.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    time.dateTime = new Date(entry.at).toISOString();
    row.append(time, made("span", entry.command), made("span", entry.end));
    return row;
  });
  section("log").replaceChildren(...(rows.length > 0 ? rows : [made("li", "nothing yet")]));
}
