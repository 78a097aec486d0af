//! The HTTP face of every listener: liveness pages, and the upgrade to WebSocket on any path. Owns the checks that come before any
//! authentication (`Origin`, `Host`, forwarding headers). Never judges credentials.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_pairing::invitation::is_join_code;
use atoll_pairing::link::ws;
use atoll_pairing::proven::Origin;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

mod forwarded;
pub(crate) mod media;
mod range;
mod ui;

/// The body of an answer: read as it is taken.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The whole request head must be there by then.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Headers of one request, bytes; more is answered with 431.
const HEAD_BYTES: usize = 16 * 1024;

/// Any of these means that somebody stands between the peer and us.
const FORWARDING_HEADERS: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
];

/// Who is at the other end of a socket, as the listener saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    /// TCP, from this address.
    Tcp(SocketAddr),
    /// The Unix socket, from a process of this user.
    Unix {
        /// The kernel says so (`SO_PEERCRED`).
        uid: u32,
    },
}

/// What may be asked before authentication.
#[derive(Debug, Clone, Default)]
pub(crate) struct HttpPolicy {
    /// The port this gateway is reached at, for its own origins.
    pub(crate) port: u16,
    /// `gateway.controlUi.allowedOrigins`, e.g. `https://ring.example`.
    pub(crate) allowed_origins: Vec<String>,
    /// `gateway.trustedProxies`.
    pub(crate) trusted_proxies: Vec<Network>,
    /// `gateway.auth.trustedProxy.userHeader`, lower case; none unless that mode is on.
    pub(crate) proxy_user_header: Option<String>,
    /// Headers that must be there for the user header to count, lower case.
    pub(crate) proxy_required_headers: Vec<String>,
    /// Whether a proxy on this machine may name users.
    pub(crate) proxy_on_loopback: bool,
    /// `gateway.allowRealIpFallback`.
    pub(crate) real_ip: bool,
    /// This machine's host name.
    pub(crate) host_name: String,
}

/// An address, or all addresses that begin like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.9` or `10.0.0.0/8`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (base, bits) = text
            .split_once('/')
            .map_or((text, None), |(base, bits)| (base, Some(bits)));
        let base: IpAddr = base.parse().ok()?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(longest), |bits| bits.parse().ok())?;
        (bits <= longest).then_some(Self { base, bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        let differs = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => u128::from(base.to_bits() ^ address.to_bits()) << 96,
            (IpAddr::V6(base), IpAddr::V6(address)) => base.to_bits() ^ address.to_bits(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        differs.leading_zeros() >= u32::from(self.bits)
    }
}

/// How it stands with the gateway.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// What keeps it from being ready; empty when it is.
    pub(crate) failing: Vec<&'static str>,
    /// What somebody should look after.
    pub(crate) warnings: Vec<&'static str>,
    /// Milliseconds since the start.
    pub(crate) uptime_ms: u64,
}

/// What the pages say; implemented by the gateway, answered without waiting.
pub(crate) trait Pages: Send + Sync {
    /// The checks in force now.
    fn policy(&self) -> Arc<HttpPolicy>;
    /// How it stands with the gateway.
    fn readiness(&self) -> Readiness;
    /// What a program must know before it connects.
    fn well_known(&self) -> serde_json::Value;
    /// Answers below `/media`, which waits.
    fn media(self: Arc<Self>, request: Request<Incoming>, origin: Origin) -> BoxFuture<'static, Response<Body>>;
}

/// Where join links lead.
pub(crate) trait Joins: Send + Sync {
    /// What the link that ends in this code answers, once; none if it answers nothing any more.
    fn join(&self, code: &str) -> impl Future<Output = Option<String>> + Send;
}

/// A WebSocket that was just upgraded, and where it came from.
pub(crate) struct Upgrade {
    /// The raw stream after the `101`.
    pub(crate) io: TokioIo<hyper::upgrade::Upgraded>,
    /// What the listener and the headers say of the peer.
    pub(crate) origin: Origin,
    /// The peer offered the native language.
    pub(crate) native: bool,
}

/// Serves one socket until it closes or becomes a WebSocket, which goes to `upgraded` on this same task.
pub(crate) async fn serve<I, P, F, Fut>(io: I, peer: Peer, pages: Arc<P>, upgraded: F)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    P: Pages + Joins + 'static,
    F: FnOnce(Upgrade) -> Fut + Send,
    Fut: Future<Output = ()> + Send,
{
    let pending = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let code = join_code(&request);
        let (pages, pending) = (pages.clone(), pending.clone());
        async move {
            let response = answer(request, peer, pages.clone(), &pending).await;
            let is_let_in = response.status() == StatusCode::NOT_FOUND;
            Ok::<_, Infallible>(match code.filter(|_| is_let_in) {
                Some(code) => joined(pages.join(&code).await),
                None => response,
            })
        }
    });
    // Boxed: what HTTP takes is free again when the socket has become a WebSocket.
    let served = Box::pin(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades(),
    )
    .await;
    if let Err(error) = served {
        tracing::debug!(?peer, %error, "connection ended early");
        return;
    }
    let Some(pending) = pending.lock().ok().and_then(|mut slot| slot.take()) else {
        return;
    };
    match pending.io.await {
        Ok(io) => {
            upgraded(Upgrade {
                io: TokioIo::new(io),
                origin: pending.origin,
                native: pending.native,
            })
            .await
        }
        Err(error) => tracing::debug!(?peer, %error, "upgrade failed"),
    }
}

/// An upgrade that was answered and is about to happen.
struct Pending {
    io: hyper::upgrade::OnUpgrade,
    origin: Origin,
    native: bool,
}

type Slot = Mutex<Option<Pending>>;

async fn answer<P: Pages>(request: Request<Incoming>, peer: Peer, pages: Arc<P>, slot: &Slot) -> Response<Body> {
    if has_secret(request.uri().query()) {
        return error(
            StatusCode::BAD_REQUEST,
            "secret_in_address",
            "addresses are written into logs and histories; send the token in the connect request",
        );
    }
    let policy = pages.policy();
    let origin = match check(request.headers(), peer, &policy) {
        Ok(origin) => origin,
        Err(refusal) => return refusal.response(),
    };
    if is_upgrade(request.headers()) {
        return upgrade(request, origin, slot);
    }
    if is_below(request.uri().path(), "/media") {
        return pages.media(request, origin).await;
    }
    page(&request, &*pages)
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The code of a join link, of whatever use it is.
fn join_code(request: &Request<Incoming>) -> Option<String> {
    let code = request.uri().path().strip_prefix("/j/")?;
    let is_code = request.method() == Method::GET && is_join_code(code);
    is_code.then(|| code.to_owned())
}

fn joined(found: Option<String>) -> Response<Body> {
    match found.and_then(|text| serde_json::from_str(&text).ok()) {
        Some(value) => body(StatusCode::OK, &value),
        None => body(StatusCode::NOT_FOUND, &json!({"error": "not_found"})),
    }
}

fn page(request: &Request<Incoming>, pages: &dyn Pages) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return error(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "only GET and HEAD are answered here",
        );
    }
    match request.uri().path() {
        "/healthz" | "/health" => body(StatusCode::OK, &json!({"ok": true, "status": "live"})),
        "/startupz" => readiness(pages, "started"),
        "/readyz" | "/ready" => readiness(pages, "ready"),
        "/.well-known/atoll" => body(StatusCode::OK, &pages.well_known()),
        path if ui::is_here(path) => ui::answer(path, request.headers()),
        _ => error(
            StatusCode::NOT_FOUND,
            "not_found",
            "no such page; the gateway speaks WebSocket here",
        ),
    }
}

fn readiness(pages: &dyn Pages, word: &str) -> Response<Body> {
    let Readiness {
        failing,
        warnings,
        uptime_ms,
    } = pages.readiness();
    let status = if failing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    body(
        status,
        &json!({word: failing.is_empty(), "failing": failing, "warnings": warnings, "uptimeMs": uptime_ms}),
    )
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn upgrade(mut request: Request<Incoming>, origin: Origin, slot: &Slot) -> Response<Body> {
    let headers = request.headers();
    let version_is_13 = headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| version_is_13) else {
        return error(
            StatusCode::BAD_REQUEST,
            "bad_upgrade",
            "a WebSocket upgrade needs its version (13) and its key",
        );
    };
    let accept = ws::accept_key(key.to_str().unwrap_or_default());
    let native = offers_native(headers);
    if let Ok(mut slot) = slot.lock() {
        *slot = Some(Pending {
            io: hyper::upgrade::on(&mut request),
            origin,
            native,
        });
    }
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if native {
        out.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(ws::SUBPROTOCOL),
        );
    }
    response
}

fn offers_native(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offer| offer.trim() == ws::SUBPROTOCOL)
}

fn has_secret(query: Option<&str>) -> bool {
    let names = query.unwrap_or_default().split('&');
    names.filter_map(|pair| pair.split('=').next()).any(|name| {
        ["token", "password"]
            .iter()
            .any(|secret| name.eq_ignore_ascii_case(secret))
    })
}

/// Why a request goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Forwarded,
    Origin,
    Host,
}

impl Refusal {
    fn response(self) -> Response<Body> {
        let (kind, message) = match self {
            Self::Forwarded => (
                "proxy_attribution_required",
                "this request came through a proxy that is not listed in gateway.trustedProxies; list its address there, or connect without it",
            ),
            Self::Origin => (
                "origin_not_allowed",
                "origin not allowed; add it to gateway.controlUi.allowedOrigins if this page is yours",
            ),
            Self::Host => (
                "host_not_allowed",
                "this host name is not one of the gateway's; use its address, or list the page's origin in gateway.controlUi.allowedOrigins",
            ),
        };
        error(StatusCode::FORBIDDEN, kind, message)
    }
}

fn check(headers: &HeaderMap, peer: Peer, policy: &HttpPolicy) -> Result<Origin, Refusal> {
    let address = match peer {
        Peer::Unix { uid } => return Ok(local(uid)),
        Peer::Tcp(address) => address.ip().to_canonical(),
    };
    let forwarded = FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name));
    let is_trusted = |address| policy.trusted_proxies.iter().any(|network| network.contains(address));
    let trusted = is_trusted(address);
    if forwarded && !trusted {
        return Err(Refusal::Forwarded);
    }
    let browser = headers
        .get(header::ORIGIN)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if browser
        .as_ref()
        .is_some_and(|origin| !origin_is_allowed(origin, policy) && !is_own_page(origin, headers))
    {
        return Err(Refusal::Origin);
    }
    // A page can point a name of its own at this machine; then the browser sends that name here. A program that is
    // no browser sends no `Origin` on an upgrade and may call this machine what it likes.
    if (browser.is_some() || !is_upgrade(headers)) && !host_is_ours(headers, policy) {
        return Err(Refusal::Host);
    }
    let client = trusted
        .then(|| forwarded::client(headers, is_trusted, policy.real_ip))
        .flatten();
    let may_name_users = trusted && (policy.proxy_on_loopback || !address.is_loopback());
    Ok(Origin {
        address: client.unwrap_or(address).to_string(),
        // A proxy on this machine need not say that it is one; but it is listed, or passes on the name that it was called by.
        is_direct_loopback: address.is_loopback()
            && !forwarded
            && !trusted
            && browser.is_none()
            && is_called_local(headers),
        local_user: None,
        browser,
        proxy_user: may_name_users.then(|| proxy_user(headers, policy)).flatten(),
    })
}

/// A request for a WebTransport session, checked as that for a WebSocket is; else the status that it is answered with.
pub(crate) fn visit(
    headers: &HeaderMap,
    query: Option<&str>,
    address: SocketAddr,
    policy: &HttpPolicy,
) -> Result<Origin, StatusCode> {
    if has_secret(query) {
        return Err(StatusCode::BAD_REQUEST);
    }
    check(headers, Peer::Tcp(address), policy).map_err(|refusal| refusal.response().status())
}

/// A peer that speaks no HTTP: its address is all there is to know.
pub(crate) fn direct(address: SocketAddr, policy: &HttpPolicy) -> Origin {
    let address = address.ip().to_canonical();
    let trusted = policy.trusted_proxies.iter().any(|network| network.contains(address));
    Origin {
        address: address.to_string(),
        is_direct_loopback: address.is_loopback() && !trusted,
        local_user: None,
        browser: None,
        proxy_user: None,
    }
}

fn local(uid: u32) -> Origin {
    Origin {
        address: "unix".to_owned(),
        is_direct_loopback: false,
        local_user: Some(uid),
        browser: None,
        proxy_user: None,
    }
}

fn proxy_user(headers: &HeaderMap, policy: &HttpPolicy) -> Option<String> {
    let name = HeaderName::try_from(policy.proxy_user_header.as_deref()?).ok()?;
    let complete = policy
        .proxy_required_headers
        .iter()
        .all(|required| headers.contains_key(required.as_str()));
    let user = headers.get(name)?.to_str().ok()?.trim();
    (complete && !user.is_empty()).then(|| user.to_owned())
}

fn origin_is_allowed(origin: &str, policy: &HttpPolicy) -> bool {
    let own = ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
        ["http", "https"]
            .iter()
            .any(|scheme| origin == format!("{scheme}://{host}:{}", policy.port))
    });
    own || policy
        .allowed_origins
        .iter()
        .any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

/// A page that came from where it asks now, under a host that is found to be ours: its name was not pointed here by somebody else.
fn is_own_page(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let from = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    matches!((from, host), (Some(from), Some(host)) if from.eq_ignore_ascii_case(host))
}

fn host_is_ours(headers: &HeaderMap, policy: &HttpPolicy) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let name = host_name(host);
    let own = policy.host_name.to_ascii_lowercase();
    name == "localhost"
        || name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok()
        || (!own.is_empty() && (name == own || name == format!("{own}.local")))
        || policy
            .allowed_origins
            .iter()
            .any(|origin| origin.split("//").nth(1).map(host_name).as_ref() == Some(&name))
}

/// Whether the peer calls this machine what only this machine calls itself.
fn is_called_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        return true;
    };
    let name = host.to_str().map(host_name).unwrap_or_default();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// The host without its port, lower case.
fn host_name(host: &str) -> String {
    let host = host.trim_end_matches('/');
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    name.to_ascii_lowercase()
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> Body {
    whole(Bytes::new())
}

fn body(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn error(status: StatusCode, kind: &str, message: &str) -> Response<Body> {
    body(status, &json!({"error": {"message": message, "type": kind}}))
}

#[cfg(test)]
mod tests;
