//! Files that go to and from a node while things fail: noise that belongs to the name of its call, so that no other one is taken for it.

use std::path::Path;

use atoll_tests::chance::Chance;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Bytes of a file: too many to travel in a call, so they flow beside it.
const SIZE: usize = 800_000;

fn noise(name: &str) -> Vec<u8> {
    let seed = name
        .bytes()
        .fold(7_u64, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
    let mut chance = Chance::new(seed, 0);
    (0..SIZE / 8).flat_map(|_| chance.draw().to_le_bytes()).collect()
}

/// The parameters that ask for the file of this name, which is there from now on.
pub(super) fn to_fetch(open: &Path, name: &str) -> Value {
    let path = open.join(name);
    std::fs::write(&path, noise(name)).expect("room");
    json!({"path": path, "maxBytes": SIZE})
}

/// Whether the result of such a call is the file.
pub(super) fn fetched(name: &str, result: &Result<Value, Value>) -> Result<(), String> {
    let payload = &result.as_ref().map_err(Value::to_string)?["payload"];
    let bytes = payload["base64"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let is_whole = bytes.is_some_and(|bytes| bytes == noise(name));
    is_whole.then_some(()).ok_or("and other bytes came".to_owned())
}

/// The parameters that write the file of this name.
pub(super) fn to_write(open: &Path, name: &str) -> Value {
    json!({"path": open.join(name), "contentBase64": STANDARD.encode(noise(name))})
}

/// How often it was written, which is never half.
pub(super) fn written(open: &Path, name: &str) -> Result<usize, String> {
    match std::fs::read(open.join(name)) {
        Ok(bytes) if bytes == noise(name) => Ok(1),
        Ok(bytes) => Err(format!("and {} of {SIZE} bytes are there, or others", bytes.len())),
        Err(_) => Ok(0),
    }
}
