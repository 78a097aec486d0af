//! Telegram's reading of `parse_mode: HTML`, with its words for what it refuses. Pure.

const TAGS: [&str; 16] = [
    "b",
    "strong",
    "i",
    "em",
    "u",
    "ins",
    "s",
    "strike",
    "del",
    "span",
    "tg-spoiler",
    "a",
    "code",
    "pre",
    "blockquote",
    "tg-emoji",
];

/// What a reader sees of a text, or why Telegram refuses it (the part after `can't parse entities: `).
///
/// # Errors
/// Unknown, unclosed or crossed tags.
pub fn visible(html: &str) -> Result<String, String> {
    let mut shown = String::new();
    let mut open: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(c) = html[at..].chars().next() {
        match c {
            '<' if html[at + 1..].starts_with('/') => at = end_tag(html, at, &mut open)?,
            '<' => at = start_tag(html, at, &mut open)?,
            '&' => at = entity(html, at, &mut shown),
            other => {
                shown.push(other);
                at += other.len_utf8();
            }
        }
    }
    match open.pop() {
        Some(tag) => Err(format!("Can't find end tag corresponding to start tag \"{tag}\"")),
        None => Ok(shown),
    }
}

fn start_tag(html: &str, at: usize, open: &mut Vec<String>) -> Result<usize, String> {
    let body = &html[at + 1..];
    let end = body
        .find('>')
        .ok_or(format!("Unclosed start tag at byte offset {at}"))?;
    let (name, attributes) = body[..end].split_once(' ').unwrap_or((&body[..end], ""));
    let name = name.to_lowercase();
    if !TAGS.contains(&name.as_str()) {
        return Err(format!("Unsupported start tag \"{name}\" at byte offset {at}"));
    }
    if !well_formed(attributes) {
        return Err(format!(
            "Expected equal sign in declaration of an attribute of the tag \"{name}\" at byte offset {at}"
        ));
    }
    if name == "span" && !attributes.contains("class=\"tg-spoiler\"") {
        return Err(format!(
            "Tag \"span\" must have class \"tg-spoiler\" at byte offset {at}"
        ));
    }
    open.push(name);
    Ok(at + 1 + end + 1)
}

fn end_tag(html: &str, at: usize, open: &mut Vec<String>) -> Result<usize, String> {
    let expected = open.pop().ok_or(format!("Unexpected end tag at byte offset {at}"))?;
    let body = &html[at + 2..];
    let end = body.find('>').ok_or(format!("Unclosed end tag at byte offset {at}"))?;
    let name = body[..end].trim().to_lowercase();
    if !name.is_empty() && name != expected {
        return Err(format!(
            "Unmatched end tag at byte offset {at}, expected \"</{expected}>\", found \"</{name}>\""
        ));
    }
    Ok(at + 2 + end + 1)
}

/// `name="value"` pairs.
fn well_formed(attributes: &str) -> bool {
    let mut rest = attributes.trim();
    while !rest.is_empty() {
        let Some((name, value)) = rest.split_once("=\"") else {
            return rest == "expandable";
        };
        let Some((_, more)) = value.split_once('"') else {
            return false;
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return false;
        }
        rest = more.trim_start();
    }
    true
}

/// The four named entities and numbers; anything else is shown as it is.
fn entity(html: &str, at: usize, shown: &mut String) -> usize {
    let body = &html[at + 1..];
    let known = body.find(';').and_then(|end| Some((decoded(&body[..end])?, end)));
    match known {
        Some((c, end)) => {
            shown.push(c);
            at + 1 + end + 1
        }
        None => {
            shown.push('&');
            at + 1
        }
    }
}

fn decoded(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        number => {
            let number = number.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_read_and_refused_as_telegram_does() {
        let check = |html: &str, expected: Result<&str, &str>| {
            assert_eq!(visible(html).as_deref().map_err(String::as_str), expected, "{html}");
        };
        check("a <b>b</b> &lt;&amp;&#33; &nbsp;", Ok("a b <&! &nbsp;"));
        check("<a href=\"https://x\">t</a>", Ok("t"));
        check("<pre><code class=\"language-sh\">ls</code></pre>", Ok("ls"));
        check("1 < 2", Err("Unclosed start tag at byte offset 2"));
        check("<div>x</div>", Err("Unsupported start tag \"div\" at byte offset 0"));
        check("<b>x", Err("Can't find end tag corresponding to start tag \"b\""));
        check("x</b>", Err("Unexpected end tag at byte offset 1"));
        check(
            "<b><i>x</b></i>",
            Err("Unmatched end tag at byte offset 7, expected \"</i>\", found \"</b>\""),
        );
    }
}
