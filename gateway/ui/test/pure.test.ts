// The parts of the page that need no browser.

import assert from "node:assert/strict";
import { createPrivateKey, sign } from "node:crypto";
import { test } from "node:test";

import { backoff } from "../src/node/backoff.ts";
import { decide, read, write } from "../src/node/consent.ts";
import { Frames, written } from "../src/node/frames.ts";
import { number, text, words } from "../src/node/params.ts";
import { platformOf } from "../src/node/platform.ts";
import { verdict } from "../src/node/refusal.ts";
import { setupCode } from "../src/node/setup.ts";
import { base64, base64url, hex, signedText } from "../src/node/signature.ts";

const DEVICE = "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c";
const FACTS = {
  device: DEVICE,
  clientId: "node-host",
  clientMode: "node",
  role: "node",
  scopes: [],
  signedAt: 1700000000000,
  token: "shared-secret",
  nonce: "00000000-0000-4000-8000-000000000001",
  platform: "linux",
  deviceFamily: "Linux",
};

/** An Ed25519 signature by the key whose seed is 00 01 … 1f. */
function signed(message: string): string {
  const seed = Buffer.from(Array.from({ length: 32 }, (_, at) => at));
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  return base64url(sign(null, Buffer.from(message), createPrivateKey({ key: der, format: "der", type: "pkcs8" })));
}

test("the signed text is the one that gateways compute", () => {
  assert.equal(
    signedText(FACTS),
    `v3|${DEVICE}|node-host|node|node||1700000000000|shared-secret|00000000-0000-4000-8000-000000000001|linux|linux`,
  );
  assert.equal(
    signed(signedText(FACTS)),
    "p7L7ms-FrHIA4uKvuEOgvxBslpIr5bhQ6cKSjxtrzV5ullPzzyk7NyPQm1gRPf8V0WmpG7AwVQaTwFTECj7SDw",
  );
  const operator = {
    ...FACTS,
    clientId: "cli",
    clientMode: "cli",
    role: "operator",
    scopes: ["operator.read", "operator.write"],
    token: "",
  };
  assert.equal(
    signed(signedText(operator)),
    "plGkuXQwfObmGCxRTGyweplUszalA60g4dMlIbdpLu_FYonymdRv5j1VKvedApZasr38zWZGbN36NVn78qaJDg",
  );
  const odd = { ...FACTS, clientId: "openclaw-macos", token: "ÄßtokenÜ", platform: " MacOS 26.1 ", deviceFamily: "" };
  assert.equal(
    signed(signedText(odd)),
    "0deQtGEvMnWENk_WGfqg2Ub3ET5_XqHOq05XNAqJ7zJMSfRBKz6uI19lEhUUOi10Nn7oPFI4ELIxnAhhNk8dCA",
  );
});

test("bytes are written as the wire wants them", () => {
  assert.equal(base64url(new Uint8Array([251, 255, 254])), "-__-");
  assert.equal(base64url(new Uint8Array([1])), "AQ");
  assert.equal(base64(new Uint8Array([1])), "AQ==");
  assert.equal(base64(new Uint8Array(100_000)).length, 133_336);
  assert.equal(hex(new Uint8Array([0, 255])), "00ff");
});

test("a setup code is found in whatever was opened, scanned or pasted", () => {
  const code = "a".repeat(42) + "_";
  for (const given of [code, ` ${code}\n`, `#${code}`, `https://10.0.0.2:18789/node#${code}`]) {
    assert.equal(setupCode(given), code, given);
  }
  assert.equal(setupCode(`atoll://pair?key=x&at=wss://h:1&code=${code}`), code);
  const theirs = base64url(new TextEncoder().encode(JSON.stringify({ url: "wss://h", bootstrapToken: "secret" })));
  assert.equal(setupCode(theirs), "secret");
  assert.equal(setupCode(`oc-pair://${theirs}`), "secret");
  for (const given of ["", "#", "hello", "https://10.0.0.2:18789/node", `#${code}x`, "e30"]) {
    assert.equal(setupCode(given), null, given);
  }
});

test("attempts come slower, never all at once, and never stop", () => {
  assert.deepEqual([0, 1, 2, 5, 9, 500].map((attempt) => backoff(attempt, 0)), [1000, 2000, 4000, 30000, 30000, 30000]);
  assert.equal(backoff(0, 1), 500);
  assert.equal(backoff(500, 1), 15000);
});

test("a device is called what gateways call it", () => {
  const cases: [string, number, string, string][] = [
    ["Mozilla/5.0 (Linux; Android 14; Pixel 4) Chrome/140 Mobile", 5, "android", "Android"],
    ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)", 5, "ios", "iPhone"],
    ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari", 5, "ios", "iPad"],
    ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari", 0, "macos", "Mac"],
    ["Mozilla/5.0 (X11; Linux x86_64) Chrome/140", 0, "linux", "Linux"],
  ];
  for (const [agent, touch, platform, deviceFamily] of cases) {
    assert.deepEqual(platformOf(agent, touch), { platform, deviceFamily }, agent);
  }
});

test("what the owner has not switched on is denied", () => {
  const none = read(null);
  assert.equal(decide(none, "camera.snap", false), "deny");
  const some = write(write(none, "camera.snap", "ask"), "location.get", "allow");
  assert.equal(decide(some, "camera.snap", false), "ask");
  assert.equal(decide(some, "location.get", false), "allow");
  assert.equal(decide(some, "location.get", true), "paused");
  assert.equal(decide(some, "constructor", false), "deny");
  assert.deepEqual(read({ "camera.snap": "perhaps", "location.get": "allow" }), { "location.get": "allow" });
});

test("parameters are held to their bounds", () => {
  const params = { a: 5, b: "x", c: null, d: -1 };
  assert.equal(number(params, "a", { least: 1, most: 9, usual: 3 }), 5);
  assert.equal(number(params, "missing", { least: 1, most: 9, usual: 3 }), 3);
  assert.equal(number(params, "c", { least: 1, most: 9, usual: 3 }), 3);
  for (const name of ["b", "d"]) assert.throws(() => number(params, name, { least: 0, most: 9, usual: 3 }), /INVALID_REQUEST/);
  assert.equal(text(params, "b"), "x");
  assert.equal(text(params, "missing"), null);
  assert.throws(() => text(params, "a"), /INVALID_REQUEST/);
  assert.throws(() => words(params, "b", ["front", "back"]), /front, back/);
});

test("each refusal leads to one next step", () => {
  const of = (code: string, more: object = {}) => verdict({ code: "X", message: "m", details: { code, ...more } }, true);
  assert.equal(of("AUTH_DEVICE_TOKEN_MISMATCH").kind, "removed");
  assert.equal(of("AUTH_BOOTSTRAP_TOKEN_INVALID").kind, "removed");
  assert.equal(verdict({ details: { code: "AUTH_BOOTSTRAP_TOKEN_INVALID" } }, false).kind, "code");
  assert.equal(of("PAIRING_REQUIRED", { requestId: "r1" }).kind, "approval");
  assert.equal(of("PROTOCOL_MISMATCH").kind, "version");
  assert.equal(of("AUTH_RATE_LIMITED").kind, "later");
  assert.equal(of("ANYTHING").kind, "later");
  assert.equal(verdict({ message: "m", details: { code: "AUTH_TOKEN_MISSING" } }, false).kind, "code");
  assert.equal(verdict("nonsense", true).kind, "later");
});

test("messages are whole however the stream was cut, and the last one says why", () => {
  const farewell = new Uint8Array(4 + 3);
  new DataView(farewell.buffer).setUint32(0, 0x8000_0000 | (3 << 16) | 1008);
  farewell.set(new TextEncoder().encode("why"), 4);
  const bytes = [...written("eins"), ...written(""), ...written("zwei ä"), ...farewell];
  for (const size of [1, 2, 3, 5, 7, bytes.length]) {
    const frames = new Frames();
    const heard = [];
    for (let at = 0; at < bytes.length; at += size) heard.push(...frames.push(Uint8Array.from(bytes.slice(at, at + size))));
    assert.deepEqual(heard, [{ text: "eins" }, { text: "" }, { text: "zwei ä" }, { farewell: "why" }], `${size}`);
  }
  assert.throws(() => new Frames().push(Uint8Array.of(0x7f, 0xff, 0xff, 0xff)), /fit/);
});
