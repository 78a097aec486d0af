//! The code an unknown sender is given, and the words around it. Pure: randomness comes from the caller. Never decides
//! who gets one, and never accepts one: a code is typed by the owner on the gateway, not into a chat.

/// 32 symbols without `0 O 1 I`, so that a byte's low five bits choose one evenly.
pub const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Symbols of a code: 40 bits.
pub const LENGTH: usize = 8;
/// How long a code can be approved, milliseconds.
pub const TTL_MS: u64 = 60 * 60 * 1000;
/// Requests that may wait for one account; a further sender is ignored until one is answered or expires.
pub const MAX_PENDING: usize = 3;

/// The code for these random bytes, one symbol each. 256 is a multiple of 32, so no symbol is likelier.
pub fn code(random: [u8; LENGTH]) -> String {
    random
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]))
        .collect()
}

/// What a person typed, as the code it means; none when it cannot be one.
pub fn typed(text: &str) -> Option<String> {
    let code: String = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '-'))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let valid = code.len() == LENGTH && code.bytes().all(|byte| ALPHABET.contains(&byte));
    valid.then_some(code)
}

/// The one reply that an unknown sender gets.
pub fn reply(channel: &str, sender: &str, code: &str) -> String {
    format!(
        "I only talk to people my owner has approved, and I don't know you yet (your {channel} id: {sender}).\n\n\
         Pairing code: {code}\n\n\
         The owner can approve you on the gateway within an hour:\n\
         ```\natoll pairing approve {channel} {code}\n```"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_symbol_is_equally_likely_and_none_is_ambiguous() {
        let mut seen = BTreeMap::new();
        for byte in 0..=255u8 {
            *seen.entry(code([byte; LENGTH])).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 32);
        assert!(seen.values().all(|times| *times == 8));
        assert!(!ALPHABET.iter().any(|symbol| b"0O1I".contains(symbol)));
    }

    #[test]
    fn a_typed_code_is_read_generously_and_a_wrong_one_refused() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(typed(text).as_deref(), expected, "{text}");
        check("abcd-efgh", Some("ABCDEFGH"));
        check(" ABCD EFGH ", Some("ABCDEFGH"));
        check("ABCDEFG", None);
        check("ABCDEFGHJ", None);
        check("ABCDEFG0", None);
        check("ÄBCDEFGH", None);
        check("", None);
    }

    #[test]
    fn the_reply_says_the_code_the_id_and_what_the_owner_types() {
        let text = reply("telegram", "42", "ABCDEFGH");
        assert!(text.contains("42") && text.contains("atoll pairing approve telegram ABCDEFGH"));
    }
}
