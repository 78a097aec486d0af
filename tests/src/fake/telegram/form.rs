//! `multipart/form-data` as the Bot API takes it (RFC 7578), read strictly: every line where it belongs, one file at most, no field twice.

use serde_json::{Map, Value};

/// A file of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upload {
    /// The field: `photo`, `video`, `document`.
    pub(super) field: String,
    /// Its file name.
    pub(super) name: String,
    /// Its media type.
    pub(super) mime: String,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

/// The texts and the file of a form; what is wrong with it otherwise.
pub(super) fn read(content_type: &str, body: &[u8]) -> Result<(Value, Option<Upload>), String> {
    let boundary = content_type
        .strip_prefix("multipart/form-data; boundary=")
        .ok_or("no boundary")?;
    if boundary.is_empty() || boundary.len() > 70 {
        return Err("a boundary has 1 to 70 characters".to_owned());
    }
    let first = format!("--{boundary}\r\n");
    let mut rest = body
        .strip_prefix(first.as_bytes())
        .ok_or("it does not begin with the boundary")?;
    let end = format!("\r\n--{boundary}");
    let (mut texts, mut file) = (Map::new(), None);
    loop {
        let at = find(rest, end.as_bytes()).ok_or("a part has no end")?;
        part(&rest[..at], &mut texts, &mut file)?;
        rest = &rest[at + end.len()..];
        match rest {
            b"--\r\n" | b"--" => return Ok((Value::Object(texts), file)),
            [b'\r', b'\n', more @ ..] => rest = more,
            _ => return Err("something stands after a boundary".to_owned()),
        }
    }
}

fn part(part: &[u8], texts: &mut Map<String, Value>, file: &mut Option<Upload>) -> Result<(), String> {
    let at = find(part, b"\r\n\r\n").ok_or("a part has no head")?;
    let head = std::str::from_utf8(&part[..at]).map_err(|_| "a head is no text")?;
    let body = &part[at + 4..];
    let mut lines = head.split("\r\n");
    let disposition = lines
        .next()
        .and_then(|line| line.strip_prefix("Content-Disposition: form-data; "));
    let disposition = disposition.ok_or("a part has no disposition")?;
    let name = attribute(disposition, "name").ok_or("a part has no name")?;
    if texts.contains_key(&name) || file.as_ref().is_some_and(|file| file.field == name) {
        return Err(format!("{name} is there twice"));
    }
    match attribute(disposition, "filename") {
        None => {
            let text = String::from_utf8(body.to_vec()).map_err(|_| format!("{name} is no text"))?;
            texts.insert(name, text.into());
        }
        Some(file_name) => {
            let mime = lines
                .next()
                .and_then(|line| line.strip_prefix("Content-Type: "))
                .ok_or("a file has no type")?;
            if file.is_some() {
                return Err("one file only".to_owned());
            }
            *file = Some(Upload {
                field: name,
                name: file_name,
                mime: mime.to_owned(),
                bytes: body.to_vec(),
            });
        }
    }
    match lines.next() {
        Some(line) => Err(format!("a head with {line:?} in it")),
        None => Ok(()),
    }
}

fn attribute(disposition: &str, name: &str) -> Option<String> {
    let parts = disposition.split("; ");
    let value = parts
        .filter_map(|part| part.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
        .next()?;
    (!value.is_empty() && !value.contains('"')).then(|| value.to_owned())
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_and_a_broken_one_is_not() {
        let kind = "multipart/form-data; boundary=x";
        let text = "--x\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n42\r\n";
        let file = "--x\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a.jpg\"\r\n\
                    Content-Type: image/jpeg\r\n\r\nbytes\r\n\r\n";
        let (texts, upload) = read(kind, format!("{text}{file}--x--\r\n").as_bytes()).expect("a form");
        assert_eq!(texts["chat_id"], "42");
        assert_eq!(upload.expect("a file").bytes, b"bytes\r\n");
        for broken in [
            String::new(),
            text.to_owned(),
            format!("{text}{text}--x--\r\n"),
            format!("{file}{file}--x--\r\n"),
            format!("{text}--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"),
            format!("{text}--xyz"),
        ] {
            assert!(read(kind, broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
