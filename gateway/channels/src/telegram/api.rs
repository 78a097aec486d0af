//! One request to the Bot API and the meaning of its answer. Owns the rule for what is certain after a failure; never
//! retries, never logs, and keeps the token out of every text: errors of the HTTP client are stripped of their address.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use teloxide::Bot;
use teloxide::requests::Payload;

use super::form::Form;
use super::{TelegramError, is_token};

/// The wait when Telegram asks for one and does not say how long.
const FLOOD_DEFAULT: Duration = Duration::from_secs(5);
/// Telegram closes connections that rest; one that closes while we write leaves a send uncertain, so ours rest less.
const IDLE_CONNECTION: Duration = Duration::from_secs(10);

/// Why a request gave no result. The variants say what is certain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// No connection was made (name, TCP or TLS), so nothing was asked.
    #[error("Telegram cannot be reached: {0}")]
    Unreachable(String),
    /// Asked, perhaps; no answer, an unreadable one, or a 5xx. Telegram promises nothing about a request that ends so.
    #[error("no answer from Telegram: {0}")]
    NoAnswer(String),
    /// Asked too often; not done.
    #[error("Telegram asks to wait {} s", .0.as_secs())]
    FloodWait(Duration),
    /// The token, or the address, is wrong; not done.
    #[error("Telegram rejects the bot token ({0})")]
    Unauthorized(String),
    /// Another program polls with this token; not done.
    #[error("another program is receiving with this bot's token ({0})")]
    Conflict(String),
    /// The group has a new id; not done.
    #[error("the group has moved to {0}")]
    Moved(i64),
    /// Refused for good.
    #[error("{0}")]
    Refused(String),
}

/// A client with connections of its own.
pub(super) fn bot(token: &SecretString, api_root: Option<&str>) -> Result<Bot, TelegramError> {
    if !is_token(token) {
        return Err(TelegramError::TokenShape);
    }
    let client = teloxide::net::default_reqwest_settings()
        .pool_idle_timeout(IDLE_CONNECTION)
        .build()
        .map_err(|error| TelegramError::Client(words(&error)))?;
    let bot = Bot::with_client(token.expose_secret(), client);
    let Some(root) = api_root else { return Ok(bot) };
    let refused = || TelegramError::ApiRoot(root.to_owned());
    if !root.starts_with("http://") && !root.starts_with("https://") {
        return Err(refused());
    }
    Ok(bot.set_api_url(root.parse().map_err(|_| refused())?))
}

/// Sends one request and reads its answer as `T`, within the deadline.
pub(super) async fn call<P, T>(bot: &Bot, payload: &P, deadline: Duration) -> Result<T, Failure>
where
    P: Payload + Serialize + Sync,
    T: DeserializeOwned,
{
    let body = serde_json::to_vec(payload).map_err(|error| Failure::Refused(error.to_string()))?;
    post(bot, P::NAME, "application/json", body, deadline).await
}

/// Sends one request that has a file in it.
pub(super) async fn upload<T: DeserializeOwned>(
    bot: &Bot,
    method: &str,
    form: Form,
    deadline: Duration,
) -> Result<T, Failure> {
    let kind = form.content_type();
    post(bot, method, &kind, form.end(), deadline).await
}

async fn post<T: DeserializeOwned>(
    bot: &Bot,
    method: &str,
    kind: &str,
    body: Vec<u8>,
    deadline: Duration,
) -> Result<T, Failure> {
    let mut url = bot.api_url();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(&format!("bot{}", bot.token())).push(method);
    }
    let request = bot.client().post(url).header("content-type", kind);
    let response = request.timeout(deadline).body(body).send().await.map_err(|error| {
        let unreachable = error.is_connect() || error.is_builder();
        let reason = words(&error.without_url());
        if unreachable {
            Failure::Unreachable(reason)
        } else {
            Failure::NoAnswer(reason)
        }
    })?;
    let status = response.status().as_u16();
    let bytes = response
        .bytes()
        .await
        .map_err(|error| Failure::NoAnswer(words(&error.without_url())))?;
    read(status, &bytes)
}

#[derive(serde::Deserialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error_code: Option<u16>,
    description: Option<String>,
    parameters: Option<Parameters>,
}

#[derive(serde::Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

/// What an HTTP answer means.
fn read<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, Failure> {
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(body) else {
        return Err(refusal(status, format!("HTTP {status}"), None));
    };
    if !answer.ok {
        let code = answer.error_code.unwrap_or(status);
        let description = answer.description.unwrap_or_else(|| format!("error {code}"));
        return Err(refusal(code, description, answer.parameters.as_ref()));
    }
    let result = answer.result.map_or("null", RawValue::get);
    serde_json::from_str(result).map_err(|error| Failure::NoAnswer(format!("unreadable: {error}")))
}

fn refusal(code: u16, description: String, parameters: Option<&Parameters>) -> Failure {
    if let Some(seconds) = parameters.and_then(|p| p.retry_after) {
        return Failure::FloodWait(Duration::from_secs(seconds));
    }
    if let Some(chat) = parameters.and_then(|p| p.migrate_to_chat_id) {
        return Failure::Moved(chat);
    }
    match code {
        // An unknown path is answered with 404, and the token is part of the path.
        401 | 404 => Failure::Unauthorized(description),
        409 => Failure::Conflict(description),
        429 => Failure::FloodWait(FLOOD_DEFAULT),
        400..=499 => Failure::Refused(description),
        _ => Failure::NoAnswer(description),
    }
}

/// An error and its causes in one line.
fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_is_certain() {
        let check = |status: u16, body: &str, expected: Result<i64, Failure>| {
            assert_eq!(read::<i64>(status, body.as_bytes()), expected, "{status} {body}");
        };
        check(200, r#"{"ok":true,"result":5}"#, Ok(5));
        check(
            403,
            r#"{"ok":false,"error_code":403,"description":"Forbidden: x"}"#,
            Err(Failure::Refused("Forbidden: x".into())),
        );
        check(
            401,
            r#"{"ok":false,"error_code":401,"description":"Unauthorized"}"#,
            Err(Failure::Unauthorized("Unauthorized".into())),
        );
        check(
            429,
            r#"{"ok":false,"error_code":429,"description":"d","parameters":{"retry_after":7}}"#,
            Err(Failure::FloodWait(Duration::from_secs(7))),
        );
        check(
            400,
            r#"{"ok":false,"error_code":400,"description":"d","parameters":{"migrate_to_chat_id":-100}}"#,
            Err(Failure::Moved(-100)),
        );
        check(
            500,
            r#"{"ok":false,"error_code":500,"description":"Internal"}"#,
            Err(Failure::NoAnswer("Internal".into())),
        );
        check(
            502,
            "<html>Bad Gateway</html>",
            Err(Failure::NoAnswer("HTTP 502".into())),
        );
        check(200, "not json", Err(Failure::NoAnswer("HTTP 200".into())));
        check(404, "nginx", Err(Failure::Unauthorized("HTTP 404".into())));
    }

    #[test]
    fn a_token_or_address_that_cannot_be_right_is_refused_at_once() {
        let error = |token: &str, root: Option<&str>| bot(&token.to_owned().into(), root).err();
        assert_eq!(error("123:AbC-d_e", Some("http://127.0.0.1:1/tg/")), None);
        assert_eq!(error("123:AbC", None), None);
        for token in ["", "abc", "123:", ":abc", "12a:abc", "123:a/b", "123:a b"] {
            assert_eq!(error(token, None), Some(TelegramError::TokenShape), "{token:?}");
        }
        assert!(matches!(error("1:a", Some("ftp://x")), Some(TelegramError::ApiRoot(_))));
        assert!(matches!(error("1:a", Some("http://")), Some(TelegramError::ApiRoot(_))));
    }
}
