// The owner's switches: one row for each command, off at first.

import type { Command } from "./command.ts";
import { type Choice, type Consent, choiceOf, isChoice } from "./consent.ts";
import { made, section } from "./element.ts";
import { Fault } from "./fault.ts";

const WORDS: [Choice, string][] = [
  ["deny", "Off"],
  ["ask", "Ask"],
  ["allow", "On"],
];

/** Draws them; `change` hears each choice that the browser lets stand. */
export function draw(commands: readonly Command[], consent: Consent, change: (command: string, choice: Choice) => void): void {
  const groups = new Map<string, Command[]>();
  for (const command of commands) groups.set(command.group, [...(groups.get(command.group) ?? []), command]);
  const drawn = [...groups].flatMap(([group, members]) => [
    made("h3", group),
    ...members.map((command) => row(command, choiceOf(consent, command.name), change)),
  ]);
  section("groups").replaceChildren(...drawn);
}

function row(command: Command, chosen: Choice, change: (command: string, choice: Choice) => void): HTMLElement {
  const fields = made("fieldset");
  fields.dataset["command"] = command.name;
  const choices = made("span");
  choices.className = "choices";
  const trouble = made("small");
  trouble.className = "trouble";
  trouble.setAttribute("role", "alert");
  const inputs = WORDS.map(([choice, word]) => {
    const label = made("label", word);
    const input = document.createElement("input");
    input.type = "radio";
    input.name = command.name;
    input.value = choice;
    input.checked = choice === chosen;
    label.prepend(input);
    choices.append(label);
    return input;
  });
  choices.addEventListener("change", () => {
    const choice = inputs.find((input) => input.checked)?.value;
    if (!isChoice(choice)) return;
    trouble.textContent = "";
    change(command.name, choice);
    if (choice === "deny" || !command.prepare) return;
    command.prepare().catch((thrown: unknown) => {
      for (const input of inputs) input.checked = input.value === "deny";
      trouble.textContent = Fault.of(thrown).message;
      change(command.name, "deny");
    });
  });
  fields.append(made("legend", command.label), choices, trouble);
  return fields;
}
