//! A request with a file in it: `multipart/form-data` (RFC 7578), put together in memory.

use atoll_protocol::hex::Hex;

/// Characters of a file name.
const NAME: usize = 64;

/// A form that is being filled in.
#[derive(Debug)]
pub(super) struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    /// An empty one, with a boundary that no file has in it.
    pub(super) fn new() -> Self {
        let mut random = [0; 16];
        // Without randomness the boundary is only less rare.
        let _ = getrandom::fill(&mut random);
        let boundary = format!("atoll-{}", Hex(&random));
        Self {
            boundary,
            body: Vec::new(),
        }
    }

    pub(super) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.head(&format!("Content-Disposition: form-data; name=\"{name}\"\r\n"));
        self.body.extend_from_slice(value.as_bytes());
        self.body.extend_from_slice(b"\r\n");
    }

    /// The file.
    pub(super) fn file(&mut self, name: &str, file_name: &str, mime: &str, bytes: &[u8]) {
        let (file_name, mime) = (plain_name(file_name), plain_mime(mime));
        let disposition = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n");
        self.head(&format!("{disposition}Content-Type: {mime}\r\n"));
        self.body.extend_from_slice(bytes);
        self.body.extend_from_slice(b"\r\n");
    }

    /// The whole of it.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.body
            .extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        self.body
    }

    fn head(&mut self, head: &str) {
        self.body
            .extend_from_slice(format!("--{}\r\n{head}\r\n", self.boundary).as_bytes());
    }
}

/// Names are a device's words: none of them may end the line or the quotes.
fn plain_name(name: &str) -> String {
    let plain = |c: char| if c.is_control() || "\"\\/".contains(c) { '_' } else { c };
    let name: String = name.chars().take(NAME).map(plain).collect();
    if name.trim().is_empty() {
        "file".to_owned()
    } else {
        name
    }
}

fn plain_mime(mime: &str) -> &str {
    let is_plain = !mime.is_empty()
        && mime
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/+.-".contains(&byte));
    if is_plain { mime } else { "application/octet-stream" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_what_the_standard_says_and_names_cannot_break_it() {
        let mut form = Form::new();
        let boundary = form.boundary.clone();
        form.text("chat_id", "42");
        form.file("photo", "a\"\r\nX: y.jpg", "image/jpeg\r\nX: y", &[0xFF, 0xD8, 0]);
        assert_eq!(form.content_type(), format!("multipart/form-data; boundary={boundary}"));
        let expected = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n42\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a___X: y.jpg\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let mut bytes = expected.into_bytes();
        bytes.extend([0xFF, 0xD8, 0]);
        bytes.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
        assert_eq!(form.end(), bytes);
        assert_eq!(plain_name(" "), "file");
    }
}
