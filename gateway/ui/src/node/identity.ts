// The device's key: made once, kept where no script can read it out, used to sign.

import { base64url, hex } from "./signature.ts";
import * as store from "./store.ts";

export interface Identity {
  /** SHA-256 of the public key, in hexadecimal. */
  id: string;
  /** The raw public key, base64url. */
  publicKey: string;
  sign(text: string): Promise<string>;
}

function isPair(value: unknown): value is CryptoKeyPair {
  return typeof value === "object" && value !== null && "privateKey" in value && value.privateKey instanceof CryptoKey;
}

/** The key that is kept, or a new one. */
export async function loadOrCreate(): Promise<Identity> {
  const kept = await store.read("identity");
  if (isPair(kept)) return of(kept);
  const made = await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
  if (!isPair(made)) throw new Error("this browser makes no Ed25519 keys; update it");
  await store.write("identity", made);
  return of(made);
}

async function of(pair: CryptoKeyPair): Promise<Identity> {
  const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const digest = await crypto.subtle.digest("SHA-256", raw);
  return {
    id: hex(new Uint8Array(digest)),
    publicKey: base64url(raw),
    async sign(text) {
      const signature = await crypto.subtle.sign({ name: "Ed25519" }, pair.privateKey, new TextEncoder().encode(text));
      return base64url(new Uint8Array(signature));
    },
  };
}
