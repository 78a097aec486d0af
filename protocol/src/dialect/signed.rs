//! The text that a device signs when it connects: version 3, and version 2 before it.
//!
//! Never signs or verifies: that is the business of who holds keys.

use std::fmt::Write as _;

/// The facts under a device's signature, each exactly as it was sent.
#[derive(Clone, Copy)]
pub struct SignedFacts<'a> {
    /// The device id.
    pub device: &'a str,
    /// `client.id`.
    pub client_id: &'a str,
    /// `client.mode`.
    pub client_mode: &'a str,
    /// The role; `operator` where none was sent.
    pub role: &'a str,
    /// The scopes, in the order sent.
    pub scopes: &'a [String],
    /// Unix milliseconds.
    pub signed_at: u64,
    /// The first present of token, device token, bootstrap token; else empty. Never a password.
    pub token: &'a str,
    /// The nonce of the challenge.
    pub nonce: &'a str,
    /// `client.platform`.
    pub platform: &'a str,
    /// `client.deviceFamily`, or empty.
    pub device_family: &'a str,
}

/// Version 3: everything, platform and family included.
pub fn signed_text_v3(facts: &SignedFacts<'_>) -> String {
    let mut text = common("v3", facts);
    for field in [facts.platform, facts.device_family] {
        text.push('|');
        text.push_str(&field.trim().to_ascii_lowercase());
    }
    text
}

/// Version 2: without platform and family.
pub fn signed_text_v2(facts: &SignedFacts<'_>) -> String {
    common("v2", facts)
}

fn common(version: &str, facts: &SignedFacts<'_>) -> String {
    let SignedFacts {
        device,
        client_id,
        client_mode,
        role,
        scopes,
        signed_at,
        token,
        nonce,
        platform: _,
        device_family: _,
    } = facts;
    let scopes = scopes.join(",");
    let mut text = String::new();
    write!(
        text,
        "{version}|{device}|{client_id}|{client_mode}|{role}|{scopes}|{signed_at}|{token}|{nonce}"
    )
    .expect("writing to a String cannot fail");
    text
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_signed_texts_are_those_of_the_real_programs() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/captured/vectors.json")).expect("JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for case in vectors["cases"].as_array().expect("cases") {
            let client = &case["client"];
            let scopes: Vec<String> = case["scopes"].as_array().expect("a list").iter().map(text).collect();
            let (id, mode, role) = (text(&client["id"]), text(&client["mode"]), text(&case["role"]));
            let (platform, family) = (text(&client["platform"]), text(&client["deviceFamily"]));
            let (device, token, nonce) = (
                text(&vectors["deviceId"]),
                text(&case["token"]),
                text(&vectors["nonce"]),
            );
            let facts = SignedFacts {
                device: &device,
                client_id: &id,
                client_mode: &mode,
                role: &role,
                scopes: &scopes,
                signed_at: vectors["signedAt"].as_u64().expect("a time"),
                token: &token,
                nonce: &nonce,
                platform: &platform,
                device_family: &family,
            };
            assert_eq!(signed_text_v3(&facts), text(&case["v3"]));
            assert_eq!(signed_text_v2(&facts), text(&case["v2"]));
        }
    }
}
