//! `/media`: blobs over HTTP, for operators only. `GET` and `HEAD /media/<handle>` with ranges, `PUT` or `POST /media` for a new one. Whoever
//! asks shows a ticket of its link, or the shared secret, or comes over the Unix socket. A stream that breaks off says why in a trailer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use atoll_pairing::access::{self, Granted, Method as Action, Principal};
use atoll_pairing::admission::Verdict;
use atoll_pairing::blob::{Arrival, read_at};
use atoll_pairing::proven::{Origin, Proven};
use atoll_protocol::scope::Scope;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use secrecy::SecretString;
use serde_json::json;

use super::range::{Asked, Range};
use super::{Body, body, error};
use crate::clock;
use crate::house::House;
use crate::media::live::Broken;
use crate::media::{Draft, Facts, Handle, MediaError, Reading};

/// What is read from the disk at once, bytes.
const PIECE: u64 = 128 * 1024;

/// An upload that brings nothing for this long is given up.
const IDLE: Duration = Duration::from_secs(30);

/// The trailer that says why a stream broke off, for those who ask with `TE: trailers`. Others see a body that is not whole.
pub(crate) const BROKEN: &str = "atoll-broken";

/// What programs send that know no `Authorization: Bearer`.
const TOKEN: HeaderName = HeaderName::from_static("x-gateway-token");

type Answer = Result<Response<Body>, Box<Response<Body>>>;

/// Answers a request below `/media`.
pub(crate) async fn answer(house: Arc<House>, request: Request<Incoming>, origin: Origin) -> Response<Body> {
    let answered = match authorise(&house, request.headers(), origin).await {
        Ok(principal) => route(&house, &principal, request).await,
        Err(refusal) => Err(refusal),
    };
    answered.unwrap_or_else(|refusal| *refusal)
}

async fn route(house: &House, principal: &Arc<Principal>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let method = request.method();
    if path == "/media" || path == "/media/" {
        if method != Method::PUT && method != Method::POST {
            return Err(not_allowed("PUT, POST"));
        }
        return upload(house, decide(house, principal, "media.put", Scope::Write)?, request).await;
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(not_allowed("GET, HEAD"));
    }
    let granted = decide(house, principal, "media.get", Scope::Read)?;
    let is_head = method == Method::HEAD;
    let name = path.strip_prefix("/media/").ok_or_else(not_found)?;
    match name.parse() {
        Ok(handle) => download(house, granted, handle, request.headers(), is_head).await,
        Err(_) => watch(house, granted, name, request.headers(), is_head),
    }
}

fn decide(
    house: &House,
    principal: &Arc<Principal>,
    name: &'static str,
    scope: Scope,
) -> Result<Granted<Action>, Box<Response<Body>>> {
    access::decide(
        principal,
        Action::operator(name, scope),
        &house.policy(),
        clock::now_ms(),
    )
    .map_err(|_| {
        refuse(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this needs a scope that you do not hold",
        )
    })
}

async fn authorise(house: &House, headers: &HeaderMap, origin: Origin) -> Result<Arc<Principal>, Box<Response<Body>>> {
    let shown = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| std::str::from_utf8(value.as_bytes()).unwrap_or_default())
    };
    let secret = match (shown(header::AUTHORIZATION), shown(TOKEN)) {
        (Some(value), _) => Some(value.strip_prefix("Bearer ").ok_or_else(unauthorised)?.trim()),
        (None, token) => token.map(str::trim),
    };
    if let Some(principal) = secret.and_then(|ticket| house.tickets.check(ticket, clock::instant())) {
        return Ok(principal);
    }
    let is_vouched_for = origin.local_user.is_some() || origin.proxy_user.is_some();
    if secret.is_none() && !is_vouched_for {
        return Err(unauthorised());
    }
    let scopes = Scope::ALL.iter().copied().collect();
    let program = Proven::program(scopes, secret.map(SecretString::from));
    match house.admit(Arc::new(program), origin, true).await {
        Verdict::Admitted(admitted) => Ok(Arc::new(admitted.principal)),
        Verdict::Waiting(_) | Verdict::Refused(_) => Err(unauthorised()),
    }
}

async fn download(
    house: &House,
    _granted: Granted<Action>,
    handle: Handle,
    headers: &HeaderMap,
    is_head: bool,
) -> Answer {
    let media = house.media.clone();
    let opened = tokio::task::spawn_blocking(move || media.read(handle)).await;
    let reading = opened
        .map_err(io::Error::other)
        .flatten()
        .map_err(broken)?
        .ok_or_else(not_found)?;
    let tag = format!("\"{handle}\"");
    let is_known = |value: &HeaderValue| value.to_str().is_ok_and(|tags| tags == "*" || tags.contains(&tag));
    if headers.get(header::IF_NONE_MATCH).is_some_and(is_known) {
        let mut response = described(&reading.facts, &tag);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let size = reading.facts.size;
    let is_same = headers.get(header::IF_RANGE).is_none_or(is_known);
    let asked = headers.get(header::RANGE).filter(|_| is_same);
    let mut response = described(&reading.facts, &tag);
    let range = match Asked::read(asked.and_then(|value| value.to_str().ok()), size) {
        Asked::All => Range { from: 0, until: size },
        Asked::Part(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let shown = format!("bytes {}-{}/{size}", range.from, range.until - 1);
            set(&mut response, header::CONTENT_RANGE, &shown);
            range
        }
        Asked::Nowhere => {
            let mut refusal = error(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "range",
                "there is no such range of it",
            );
            set(&mut refusal, header::CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(refusal);
        }
    };
    set(
        &mut response,
        header::CONTENT_LENGTH,
        &(range.until - range.from).to_string(),
    );
    if !is_head {
        *response.body_mut() = pieces(reading, range);
    }
    Ok(response)
}

/// A stream goes on until it ends or the client has had enough.
fn watch(house: &House, _granted: Granted<Action>, name: &str, headers: &HeaderMap, is_head: bool) -> Answer {
    let watching = house.ring.live.watch(name).ok_or_else(not_found)?;
    let mut response = Response::new(super::empty());
    guard(&mut response);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    set(&mut response, header::CONTENT_TYPE, media_type(&watching.mime));
    let takes_trailers = headers.get(header::TE).is_some_and(|value| value == "trailers");
    if takes_trailers {
        set(&mut response, header::TRAILER, BROKEN);
    }
    if !is_head {
        let parts = stream::unfold(Some(watching), move |watching| async move {
            let mut watching = watching?;
            match watching.next().await {
                Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(watching))),
                Ok(None) => None,
                Err(broken) if takes_trailers => Some((Ok(Frame::trailers(told(&broken))), None)),
                Err(broken) => Some((Err(io::Error::other(broken)), None)),
            }
        });
        *response.body_mut() = StreamBody::new(parts).boxed_unsync();
    }
    Ok(response)
}

/// In a line, as a header has it.
fn told(broken: &Broken) -> HeaderMap {
    let line: String = broken
        .to_string()
        .chars()
        .filter(|char| !char.is_control())
        .take(1_000)
        .collect();
    let value = HeaderValue::from_bytes(line.as_bytes());
    value
        .into_iter()
        .map(|value| (HeaderName::from_static(BROKEN), value))
        .collect()
}

/// A body that reads one piece after the other, as fast as they are taken.
fn pieces(reading: Reading, range: Range) -> Body {
    let parts = stream::try_unfold((reading, range.from), move |(reading, at)| async move {
        if at >= range.until {
            return Ok(None);
        }
        let want = (range.until - at).min(PIECE);
        let file = reading.file.clone();
        let len = usize::try_from(want).map_err(io::Error::other)?;
        let read = tokio::task::spawn_blocking(move || read_at(&file, at, len)).await;
        let bytes = read.map_err(io::Error::other).flatten()?;
        Ok::<_, io::Error>(Some((Frame::data(Bytes::from(bytes)), (reading, at + want))))
    });
    StreamBody::new(parts).boxed_unsync()
}

/// A browser runs nothing of it: it was made by somebody else.
fn guard(response: &mut Response<Body>) {
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(response, header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
}

fn described(facts: &Facts, tag: &str) -> Response<Body> {
    let mut response = Response::new(super::empty());
    set(&mut response, header::ETAG, tag);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::CACHE_CONTROL, "private, max-age=3600");
    guard(&mut response);
    set(&mut response, header::CONTENT_TYPE, media_type(&facts.mime));
    set(&mut response, header::CONTENT_DISPOSITION, &attachment(&facts.name));
    response
}

/// The type if it looks like one.
fn media_type(mime: &str) -> &str {
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let is_type = mime.len() <= 100
        && mime
            .split_once('/')
            .is_some_and(|(kind, sub)| is_token(kind) && is_token(sub));
    if is_type { mime } else { "application/octet-stream" }
}

/// RFC 6266 with the name in the form of RFC 8187.
fn attachment(name: &str) -> String {
    if name.is_empty() {
        return "attachment".to_owned();
    }
    let mut encoded = String::new();
    for byte in name.bytes().take(255) {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename*=UTF-8''{encoded}")
}

async fn upload(house: &House, _granted: Granted<Action>, request: Request<Incoming>) -> Answer {
    let size = request.body().size_hint().exact().ok_or_else(|| {
        refuse(
            StatusCode::LENGTH_REQUIRED,
            "length_required",
            "say with Content-Length how many bytes come",
        )
    })?;
    let mime = request.headers().get(header::CONTENT_TYPE);
    let mime = mime.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mime = media_type(mime).to_owned();
    let name = name_in(request.uri().query().unwrap_or_default());
    let (media, bounds) = (house.media.clone(), house.config().media.bounds());
    let begun = tokio::task::spawn_blocking(move || {
        let draft = media.begin(size, bounds)?;
        let file = draft.file()?;
        Ok((draft, file))
    });
    let (draft, file) = stored(begun.await)?;
    let hash = take(request.into_body(), Arrival::new(file, size).durable(), &draft).await?;
    let label = name.clone();
    let kept = tokio::task::spawn_blocking(move || Draft::keep(draft, hash, &label, &mime));
    let handle = stored(kept.await)?.to_string();
    Ok(body(
        StatusCode::CREATED,
        &json!({"ok": true, "id": handle, "size": size, "name": name, "url": format!("/media/{handle}")}),
    ))
}

async fn take(mut body: Incoming, mut arrival: Arrival, draft: &Draft) -> Result<[u8; 32], Box<Response<Body>>> {
    let bad = |why: &str| refuse(StatusCode::BAD_REQUEST, "bad_upload", why);
    loop {
        let Ok(frame) = tokio::time::timeout(IDLE, body.frame()).await else {
            return Err(refuse(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "nothing came for too long",
            ));
        };
        match frame {
            None => break,
            Some(Err(error)) => return Err(bad(&error.to_string())),
            Some(Ok(frame)) => {
                let bytes = frame.into_data().unwrap_or_default();
                arrival.push(&bytes).await.map_err(|error| bad(&error.to_string()))?;
                draft
                    .arrived(arrival.offset())
                    .map_err(|error| refuse(StatusCode::INSUFFICIENT_STORAGE, "no_room", &error.to_string()))?;
            }
        }
    }
    arrival.finish().await.map_err(|error| bad(&error.to_string()))
}

/// `name=` of the query, percent-decoded; a name is no path.
fn name_in(query: &str) -> String {
    let raw = query.split('&').find_map(|pair| pair.strip_prefix("name="));
    let mut bytes = Vec::new();
    let mut rest = raw.unwrap_or_default().bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().unwrap_or_default(), rest.next().unwrap_or_default()];
        let digits = std::str::from_utf8(&digits).unwrap_or_default();
        bytes.extend(u8::from_str_radix(digits, 16));
    }
    let name = String::from_utf8_lossy(&bytes);
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name.chars().filter(|char| !char.is_control()).take(200).collect()
}

fn stored<T>(done: Result<Result<T, MediaError>, tokio::task::JoinError>) -> Result<T, Box<Response<Body>>> {
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ MediaError::TooLarge { .. })) => {
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &error.to_string()))
        }
        Ok(Err(error @ MediaError::Full { .. })) => {
            Err(refuse(StatusCode::INSUFFICIENT_STORAGE, "full", &error.to_string()))
        }
        Ok(Err(MediaError::Io(error))) => Err(broken(error)),
        Err(error) => Err(broken(io::Error::other(error))),
    }
}

fn set(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    // What is not fit for a header was made fit above; a rest is left out.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn refuse(status: StatusCode, kind: &str, message: &str) -> Box<Response<Body>> {
    Box::new(error(status, kind, message))
}

fn unauthorised() -> Box<Response<Body>> {
    let mut refusal = refuse(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "show a ticket (method media.ticket) or the gateway's token as Authorization: Bearer",
    );
    set(&mut refusal, header::WWW_AUTHENTICATE, "Bearer");
    refusal
}

fn not_found() -> Box<Response<Body>> {
    refuse(StatusCode::NOT_FOUND, "not_found", "there is no such blob (any more)")
}

fn not_allowed(allowed: &str) -> Box<Response<Body>> {
    let mut refusal = refuse(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "that cannot be done here",
    );
    set(&mut refusal, header::ALLOW, allowed);
    refusal
}

#[expect(clippy::needless_pass_by_value, reason = "the last to hold it")]
fn broken(error: io::Error) -> Box<Response<Body>> {
    tracing::error!(%error, "the media store failed");
    refuse(
        StatusCode::INTERNAL_SERVER_ERROR,
        "media",
        "the media store failed; see `atoll logs`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_query_is_no_path() {
        for (query, expected) in [
            ("", ""),
            ("name=a.txt", "a.txt"),
            ("x=1&name=a%20b%2Fc.txt", "c.txt"),
            ("name=..%2F..%2Fetc%2Fpasswd", "passwd"),
            ("name=%C3%A9%0A", "é"),
            ("name=%zz%", ""),
        ] {
            assert_eq!(name_in(query), expected, "{query}");
        }
    }

    #[test]
    fn only_what_looks_like_a_type_is_one() {
        assert_eq!(media_type("image/svg+xml"), "image/svg+xml");
        for bad in ["", "text", "text/html; charset=x", "a/b\r\nX: y", "/", "a//b"] {
            assert_eq!(media_type(bad), "application/octet-stream", "{bad}");
        }
    }

    #[test]
    fn a_name_in_a_header_cannot_end_it() {
        assert_eq!(
            attachment("a\"\r\nb é"),
            "attachment; filename*=UTF-8''a%22%0D%0Ab%20%C3%A9"
        );
        assert_eq!(attachment(""), "attachment");
    }
}
