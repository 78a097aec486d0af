//! The pages for browsers: `/node`, which makes a phone a node. The files come out of `gateway/ui` and are part of the program. Owns
//! what a browser may do with them; knows nothing of what they do.

use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::{Body, whole};

/// What was built, by its path below `/`; empty where nobody built it.
static FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/ui.rs"));

/// The page itself.
const PAGE: &str = "node/index.html";

/// Where agents put what the page presents: an origin of its own, and no way to the network.
const CANVAS: &str = "node/canvas.html";

/// The part of the page that runs while it is closed; it answers for `/node`, which lies above it.
const WORKER: &str = "node/sw.js";

/// In the place of a page that nobody built.
const UNBUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
    <title>atoll: the page is missing</title><h1>This gateway was built without its pages</h1>\
    <p>They need Node.js 22 or newer. In the source folder of the gateway:</p>\
    <pre>cd gateway/ui\nnpm ci\nnpm run build\ncd ../..\ncargo build --release</pre>\
    <p>Then start the gateway again. <code>scripts/up</code> does all of that.</p>";

/// Only what is named here: no other origin, no script in the page, nothing around it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    media-src 'self' blob:; manifest-src 'self'; worker-src 'self'; frame-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; connect-src 'self'";

/// What an agent presents runs, and reaches nothing: not the page, not the gateway, not the network.
const CANVAS_POLICY: &str = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; \
    style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:; font-src data:; webrtc 'block'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// Nothing beyond what the page is for, and none of it in what it presents.
const PERMISSIONS: &str = "camera=(self), microphone=(self), geolocation=(self), screen-wake-lock=(self)";

/// Whether a path belongs to these pages.
pub(super) fn is_here(path: &str) -> bool {
    super::is_below(path, "/node")
}

/// Answers one of their paths.
pub(super) fn answer(path: &str, headers: &HeaderMap) -> Response<Body> {
    serve(FILES, path, headers)
}

fn serve(files: &'static [(&str, &[u8])], path: &str, headers: &HeaderMap) -> Response<Body> {
    let name = match path.trim_start_matches('/') {
        "node" | "node/" => PAGE,
        name => name,
    };
    match files.iter().find(|(known, _)| *known == name) {
        Some((name, bytes)) => file(name, bytes, headers),
        None if name == PAGE => {
            let mut response = with_type("text/html; charset=utf-8", UNBUILT.as_bytes());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            set(&mut response, header::CACHE_CONTROL, "no-store");
            set(
                &mut response,
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; frame-ancestors 'none'",
            );
            response
        }
        None => super::error(StatusCode::NOT_FOUND, "not_found", "no such page"),
    }
}

fn file(name: &str, bytes: &'static [u8], headers: &HeaderMap) -> Response<Body> {
    let mut response = with_type(media_type(name), bytes);
    // The name of an asset says what is in it.
    let is_asset = name.starts_with("node/assets/");
    let caching = if is_asset {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    set(&mut response, header::CACHE_CONTROL, caching);
    match name {
        PAGE => {
            set(&mut response, header::CONTENT_SECURITY_POLICY, &page_policy(headers));
            set(
                &mut response,
                HeaderName::from_static("permissions-policy"),
                PERMISSIONS,
            );
            set(
                &mut response,
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            );
        }
        CANVAS => set(&mut response, header::CONTENT_SECURITY_POLICY, CANVAS_POLICY),
        WORKER => set(
            &mut response,
            HeaderName::from_static("service-worker-allowed"),
            "/node",
        ),
        _ => set(&mut response, header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    }
    response
}

/// Some browsers do not take `'self'` for the WebSocket of the same host, and none for WebTransport from a page over plain HTTP, so they are
/// named.
fn page_policy(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_plain = |host: &&str| {
        host.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte))
    };
    match host.filter(is_plain) {
        Some(host) => format!("{PAGE_POLICY} ws://{host} wss://{host} https://{host}"),
        None => PAGE_POLICY.to_owned(),
    }
}

fn with_type(media_type: &'static str, bytes: &'static [u8]) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::from_static(bytes)));
    set(&mut response, header::CONTENT_TYPE, media_type);
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, header::REFERRER_POLICY, "no-referrer");
    response
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    // Every value above is fit for a header.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BUILT: &[(&str, &[u8])] = &[
        (PAGE, b"page"),
        (CANVAS, b"canvas"),
        (WORKER, b"worker"),
        ("node/assets/index-1.js", b"code"),
    ];

    fn get(files: &'static [(&str, &[u8])], path: &str, host: &'static str) -> Response<Body> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        serve(files, path, &headers)
    }

    fn header_of<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
        response
            .headers()
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    #[test]
    fn a_gateway_that_was_built_without_pages_says_how_to_build_them() {
        let response = get(&[], "/node", "h");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(UNBUILT.contains("npm run build"));
        assert_eq!(get(&[], "/node/sw.js", "h").status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_page_may_speak_to_the_gateway_that_it_came_from_and_to_nobody_else() {
        let response = get(BUILT, "/node", "192.168.0.2:18789");
        let policy = header_of(&response, "content-security-policy");
        assert!(
            policy.ends_with(
                "connect-src 'self' ws://192.168.0.2:18789 wss://192.168.0.2:18789 https://192.168.0.2:18789"
            ),
            "{policy}"
        );
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{policy}"
        );
        let smuggled = get(BUILT, "/node", "h; script-src *");
        assert!(!header_of(&smuggled, "content-security-policy").contains('*'));
        for path in ["/node/", "/node/index.html"] {
            assert_eq!(get(BUILT, path, "h").status(), StatusCode::OK, "{path}");
        }
    }

    #[test]
    fn what_is_presented_has_an_origin_of_its_own_and_no_network() {
        let response = get(BUILT, "/node/canvas.html", "h");
        let policy = header_of(&response, "content-security-policy");
        assert!(policy.starts_with("sandbox allow-scripts; default-src 'none';") && !policy.contains("same-origin"));
    }

    #[test]
    fn only_names_that_say_what_is_in_them_are_kept_for_ever() {
        for (path, expected) in [
            ("/node", "no-cache"),
            ("/node/sw.js", "no-cache"),
            ("/node/assets/index-1.js", "public, max-age=31536000, immutable"),
        ] {
            assert_eq!(header_of(&get(BUILT, path, "h"), "cache-control"), expected, "{path}");
        }
        assert_eq!(
            header_of(&get(BUILT, "/node/sw.js", "h"), "service-worker-allowed"),
            "/node"
        );
    }

    #[test]
    fn a_path_that_only_begins_like_them_is_another() {
        assert!(is_here("/node") && is_here("/node/x") && !is_here("/nodes"));
        for path in ["/node/../atoll.json", "/node/x", "/node/assets/"] {
            assert_eq!(get(BUILT, path, "h").status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
