//! Bounds what a tool gave before it travels: long text is cut with a note, and what does not fit is named in its place.

use serde_json::{Map, Value, json};

/// Text of all blocks together, bytes.
const TEXT: usize = 256 * 1024;

/// All of a result where it travels as one native frame, bytes.
const NATIVE: usize = 900 * 1024;

/// All of a result in OpenClaw's language, bytes: the frames there hold more.
const DIALECT: usize = 16 * 1024 * 1024;

/// Blocks. More: left out, with a note.
const BLOCKS: usize = 256;

/// What a result may take.
pub(super) fn limit(is_native: bool) -> usize {
    if is_native { NATIVE } else { DIALECT }
}

/// `{content, structuredContent?, isError?}` of at most about `limit` bytes.
pub(super) fn bounded(result: Value, limit: usize) -> Value {
    let Value::Object(mut fields) = result else {
        return json!({"content": []});
    };
    let blocks = match fields.remove("content") {
        Some(Value::Array(blocks)) => blocks,
        Some(_) | None => Vec::new(),
    };
    let mut bounds = Bounds { text: TEXT, all: limit };
    let mut bounded = Map::new();
    // What programs read goes first: half of it would be of no use.
    let structured = fields.remove("structuredContent").filter(|value| !value.is_null());
    let mut note = None;
    if let Some(structured) = structured {
        let bytes = structured.to_string().len();
        if bytes <= TEXT && bytes <= bounds.all {
            bounds.all -= bytes;
            bounded.insert("structuredContent".to_owned(), structured);
        } else {
            note = Some(format!(
                "[structured content of {bytes} bytes left out: it is too large]"
            ));
        }
    }
    let left_out = blocks.len().saturating_sub(BLOCKS);
    let mut content: Vec<Value> = blocks
        .into_iter()
        .take(BLOCKS)
        .map(|block| bounds.block(block))
        .collect();
    content.extend(note.map(text));
    if left_out > 0 {
        content.push(text(format!("[{left_out} more blocks left out]")));
    }
    bounded.insert("content".to_owned(), content.into());
    if fields.get("isError") == Some(&Value::Bool(true)) {
        bounded.insert("isError".to_owned(), true.into());
    }
    bounded.into()
}

struct Bounds {
    text: usize,
    all: usize,
}

impl Bounds {
    fn block(&mut self, mut block: Value) -> Value {
        if let Some(Value::String(said)) = block.get_mut("text") {
            self.cut(said);
        }
        let bytes = block.to_string().len();
        if bytes <= self.all {
            self.all -= bytes;
            return block;
        }
        let kind = block["type"].as_str().unwrap_or("block");
        text(format!(
            "[{kind} of {bytes} bytes left out: it is too large for one result]"
        ))
    }

    fn cut(&mut self, said: &mut String) {
        if said.len() <= self.text {
            self.text -= said.len();
            return;
        }
        let left_out = said.len() - self.text;
        said.truncate(said.floor_char_boundary(self.text));
        self.text = 0;
        said.push_str(&format!("\n[… {left_out} bytes left out: the result is too large …]"));
    }
}

fn text(words: String) -> Value {
    json!({"type": "text", "text": words})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_as_it_is() {
        for result in [
            json!({"content": [{"type": "text", "text": "é"}], "isError": true}),
            json!({"structuredContent": {"a": 1}, "content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}),
        ] {
            assert_eq!(bounded(result.clone(), NATIVE), result);
        }
        assert_eq!(
            bounded(json!({"isError": false, "_meta": {}}), NATIVE),
            json!({"content": []})
        );
    }

    #[test]
    fn what_is_too_large_is_cut_or_named() {
        let long = "é".repeat(TEXT);
        let result = json!({
            "content": [{"type": "text", "text": "first"}, {"type": "text", "text": long}, {"type": "text", "text": "last"},
                {"type": "image", "data": "A".repeat(NATIVE), "mimeType": "image/png"}],
            "structuredContent": {"all": long},
        });
        let bounded = bounded(result, NATIVE);
        assert!(bounded.to_string().len() < NATIVE + 1000);
        assert_eq!(bounded["content"][0]["text"], "first");
        let texts: Vec<_> = [1, 2, 3, 4]
            .map(|index| bounded["content"][index]["text"].as_str().expect("text"))
            .into();
        assert!(texts[0].contains("bytes left out") && texts[1].contains("bytes left out"));
        assert!(texts[2].starts_with("[image of") && texts[3].starts_with("[structured content of"));
        let many = json!({"content": vec![json!({"type": "text", "text": ""}); 1000]});
        assert_eq!(
            super::bounded(many, NATIVE)["content"].as_array().map(Vec::len),
            Some(BLOCKS + 1)
        );
    }
}
