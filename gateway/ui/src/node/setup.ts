// The setup code in what a person opened, scanned or pasted. Pure.

const CODE = /^[A-Za-z0-9_-]{43}$/;

/** The code, or null where there is none: a link to this page, a link of the gateway, OpenClaw's setup code, or the code alone. */
export function setupCode(text: string): string | null {
  const trimmed = text.trim();
  const fragment = trimmed.includes("#") ? trimmed.slice(trimmed.indexOf("#") + 1) : null;
  const query = /[?&]code=([^&#]+)/.exec(trimmed)?.[1];
  for (const candidate of [fragment, query, trimmed.replace(/^oc-pair:\/\//, "")]) {
    if (candidate && CODE.test(candidate)) return candidate;
    const inside = candidate ? bootstrapToken(candidate) : null;
    if (inside) return inside;
  }
  return null;
}

/** What an OpenClaw setup code carries: base64url of JSON. */
function bootstrapToken(text: string): string | null {
  try {
    const json: unknown = JSON.parse(atob(text.replaceAll("-", "+").replaceAll("_", "/")));
    const token = typeof json === "object" && json !== null && "bootstrapToken" in json ? json.bootstrapToken : null;
    return typeof token === "string" && token !== "" ? token : null;
  } catch {
    return null;
  }
}
