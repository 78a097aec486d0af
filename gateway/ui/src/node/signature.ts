// What the device signs when it connects, and how bytes are written there. Pure.

/** The parts of the signed text, in its order. */
export interface SignedFacts {
  device: string;
  clientId: string;
  clientMode: string;
  role: string;
  scopes: readonly string[];
  /** Unix milliseconds, copied from the challenge. */
  signedAt: number;
  /** The credential that goes along; empty without one. */
  token: string;
  nonce: string;
  platform: string;
  deviceFamily: string;
}

/** The text of version 3. Platform and family are trimmed and lower-cased here, and only here; letters beyond A to Z stay. */
export function signedText(facts: SignedFacts): string {
  return [
    "v3",
    facts.device,
    facts.clientId,
    facts.clientMode,
    facts.role,
    facts.scopes.join(","),
    String(facts.signedAt),
    facts.token,
    facts.nonce,
    normalised(facts.platform),
    normalised(facts.deviceFamily),
  ].join("|");
}

function normalised(text: string): string {
  return text.trim().replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

/** Base64 for URLs, without padding. */
export function base64url(bytes: Uint8Array): string {
  return base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** Ordinary base64. */
export function base64(bytes: Uint8Array): string {
  let text = "";
  // Arguments of one call are limited.
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text);
}

/** Lower-case hexadecimal. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
