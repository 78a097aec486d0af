//! What a call asks for, checked. Pure.

use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::params::{invalid, read};

/// The longest address, bytes; browsers take no longer ones.
const URL: usize = 2_000_000;

/// The longest page that comes with the call, bytes: as an address it is a third longer.
const HTML: usize = 1_000_000;

/// The longest script, bytes.
const CODE: usize = 1_000_000;

/// How an address begins that may be shown.
const SCHEMES: [&str; 3] = ["http://", "https://", "data:text/html"];

/// A page without anything.
const BLANK: &str = "about:blank";

/// A page to be shown.
#[derive(Debug, PartialEq)]
pub(super) struct Page {
    /// None: what is shown already.
    pub(super) url: Option<String>,
    pub(super) placement: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct WrittenPage {
    url: Option<String>,
    html: Option<String>,
    placement: Option<Placement>,
}

#[derive(Debug, Deserialize)]
struct Placement {
    x: Option<f64>,
    y: Option<f64>,
    width: Option<f64>,
    height: Option<f64>,
}

impl Page {
    /// `needs_page`: there must be one.
    pub(super) fn read(params: Option<&Json>, needs_page: bool) -> Result<Self, CallError> {
        let written: WrittenPage = read(params)?;
        let url = match (written.url, written.html) {
            (Some(_), Some(_)) => return Err(invalid("url and html name two pages; give one")),
            (Some(url), None) => Some(shown(url.trim())?),
            (None, Some(html)) if html.len() > HTML => {
                return Err(invalid(format!(
                    "html is larger than {HTML} bytes; serve it and give its url"
                )));
            }
            (None, Some(html)) => Some(format!("data:text/html;charset=utf-8;base64,{}", STANDARD.encode(html))),
            (None, None) if needs_page => return Err(invalid("url is missing")),
            (None, None) => None,
        };
        let placement = written.placement.map(|placement| placement.bounds()).transpose()?;
        Ok(Self { url, placement })
    }
}

impl Placement {
    /// In DevTools' words.
    fn bounds(&self) -> Result<Value, CallError> {
        let mut bounds = json!({"windowState": "normal"});
        for (name, told, given, least) in [
            ("left", "x", self.x, -32_768.0),
            ("top", "y", self.y, -32_768.0),
            ("width", "width", self.width, 1.0),
            ("height", "height", self.height, 1.0),
        ] {
            match given {
                Some(number) if (least..=32_767.0).contains(&number) => bounds[name] = json!(number.round() as i32),
                Some(number) => {
                    return Err(invalid(format!(
                        "placement.{told} is {number}, which is no place on a screen"
                    )));
                }
                None => {}
            }
        }
        Ok(bounds)
    }
}

/// An address that may be shown: nothing of this device's own, no script.
fn shown(url: &str) -> Result<String, CallError> {
    if url.len() > URL {
        return Err(invalid(format!("url is longer than {URL} bytes")));
    }
    let begins = |scheme: &str| {
        url.get(..scheme.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    };
    // Browsers leave these characters out, wherever they are.
    let is_plain = !url.contains(['\t', '\n', '\r', '\0']);
    if is_plain && (SCHEMES.into_iter().any(begins) || url.eq_ignore_ascii_case(BLANK)) {
        return Ok(url.to_owned());
    }
    Err(CallError::new(
        "CANVAS_FOREIGN",
        "only http://, https:// and data:text/html addresses are shown, and no file of this device; give the page itself as html",
    ))
}

/// A script to be run in the page.
#[derive(Debug)]
pub(super) struct Code(pub(super) String);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenCode {
    java_script: Option<String>,
    code: Option<String>,
}

impl Code {
    pub(super) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let written: WrittenCode = read(params)?;
        let code = written
            .java_script
            .or(written.code)
            .ok_or_else(|| invalid("javaScript is missing"))?;
        if code.len() > CODE {
            return Err(invalid(format!("javaScript is longer than {CODE} bytes")));
        }
        Ok(Self(code))
    }
}

/// How a picture is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
}

impl Format {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
        }
    }

    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
        }
    }
}

/// A picture that is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shot {
    pub(super) format: Format,
    /// Pixels.
    pub(super) max_width: f64,
    /// 0 to 100.
    pub(super) quality: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenShot {
    format: Option<String>,
    max_width: Option<f64>,
    quality: Option<f64>,
}

impl Shot {
    pub(super) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let written: WrittenShot = read(params)?;
        let format = match written.format.as_deref() {
            Some("png") => Format::Png,
            Some("jpeg" | "jpg") | None => Format::Jpeg,
            Some(other) => return Err(invalid(format!("format is {other:?}; it is png or jpeg"))),
        };
        let within = |name, given: Option<f64>, least: f64, most: f64, usual| match given {
            None => Ok(usual),
            Some(number) if (least..=most).contains(&number) => Ok(number),
            Some(number) => Err(invalid(format!("{name} is {number}; it is {least} to {most}"))),
        };
        Ok(Self {
            format,
            max_width: within("maxWidth", written.max_width, 16.0, 4096.0, 1600.0)?,
            quality: (within("quality", written.quality, 0.0, 1.0, 0.9)? * 100.0).round() as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(params: Value) -> Result<Page, CallError> {
        Page::read(Some(&params.into()), true)
    }

    #[test]
    fn only_pages_of_the_web_and_of_the_call_itself_are_shown() {
        for url in [
            "http://a.example/",
            " HTTPS://a.example",
            "data:text/html,<p>",
            "about:blank",
        ] {
            assert_eq!(page(json!({"url": url})).expect(url).url.as_deref(), Some(url.trim()));
        }
        for url in [
            "file:///etc/passwd",
            "FILE:///etc/passwd",
            "javascript:alert(1)",
            "java\nscript:alert(1)",
            "http://a.example/\nx",
            "view-source:http://a.example/",
            "chrome://settings",
            "devtools://devtools/bundled/inspector.html",
            "data:image/svg+xml,<svg/>",
            "blob:http://a.example/1",
            "filesystem:http://a.example/x",
            "about:settings",
            "//a.example/",
            "a.example",
            "/etc/passwd",
            "",
        ] {
            assert_eq!(
                page(json!({"url": url})).expect_err(url).code,
                "CANVAS_FOREIGN",
                "{url:?}"
            );
        }
    }

    #[test]
    fn each_fault_in_the_parameters_is_named() {
        for (params, word) in [
            (json!({}), "url is missing"),
            (json!({"url": "http://a", "html": "x"}), "two pages"),
            (json!({"html": "x".repeat(HTML + 1)}), "larger than"),
            (json!({"url": "http://a", "placement": {"width": 0}}), "placement.width"),
            (json!({"url": "http://a", "placement": {"x": 1e9}}), "placement.x"),
            (json!({"url": 5}), "expected a string"),
        ] {
            let error = page(params).expect_err(word);
            assert!(
                error.code == "INVALID_REQUEST" && error.message.contains(word),
                "{error:?}"
            );
        }
        let shot = |params: Value| Shot::read(Some(&params.into()));
        for (params, word) in [
            (json!({"format": "gif"}), "format"),
            (json!({"maxWidth": 5}), "maxWidth"),
            (json!({"quality": 2}), "quality"),
        ] {
            assert!(shot(params).expect_err(word).message.contains(word));
        }
        let usual = shot(json!({"quality": 0.5})).expect("fine");
        assert_eq!(
            (usual.format, usual.max_width, usual.quality),
            (Format::Jpeg, 1600.0, 50)
        );
        assert!(Code::read(None).is_err());
        let placed = page(json!({"html": "<p>", "placement": {"x": 5, "width": 300.4}})).expect("fine");
        assert_eq!(
            placed.placement,
            Some(json!({"windowState": "normal", "left": 5, "width": 300}))
        );
        assert_eq!(placed.url.as_deref(), Some("data:text/html;charset=utf-8;base64,PHA+"));
    }
}
