//! Marks text that came from a device, so that a model can tell data from the owner's words.

/// Wraps text between markers that it cannot forge: their id is random.
pub(crate) fn wrapped(source: &str, text: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    marked(&id[..16], source, text)
}

/// The same with an id that is known: for what must be the same text in each turn.
pub(super) fn marked(id: &str, source: &str, text: &str) -> String {
    // Tokens of chat templates, and our own marker, have no meaning inside.
    let text = text
        .replace("<|", "<\u{200b}|")
        .replace("EXTERNAL_UNTRUSTED_CONTENT", "EXTERNAL-UNTRUSTED-CONTENT");
    format!(
        "<<<EXTERNAL_UNTRUSTED_CONTENT id=\"{id}\" source=\"{source}\">>>\n{text}\n<<<END_EXTERNAL_UNTRUSTED_CONTENT id=\"{id}\">>>"
    )
}

/// Whether a text holds something that a node gave.
pub(crate) fn is_of_a_node(text: &str) -> bool {
    text.contains("<<<EXTERNAL_UNTRUSTED_CONTENT id=\"") && text.contains("\" source=\"node\">>>")
}
