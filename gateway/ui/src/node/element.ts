// The elements of the page, by their ids.

/** The element of that id and kind; the page is made so that it is there. */
export function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} ${id}`);
  return found;
}

export function section(id: string): HTMLElement {
  return element(id, HTMLElement);
}

export function button(id: string, press: () => void): HTMLButtonElement {
  const found = element(id, HTMLButtonElement);
  found.addEventListener("click", press);
  return found;
}

/** A new element with a text in it. */
export function made<K extends keyof HTMLElementTagNameMap>(tag: K, text = ""): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}
