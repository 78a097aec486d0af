//! Why a model gave no message, and the one rule about what to do then.

use std::time::Duration;

/// Why a model gave no message. The texts are for the chat: short, and without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Too many requests.
    #[error("it is limiting requests ({detail})")]
    RateLimited {
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
        /// Its words.
        detail: String,
    },
    /// Busy.
    #[error("it is overloaded ({detail})")]
    Overloaded {
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
        /// Its words.
        detail: String,
    },
    /// A fault on its side.
    #[error("its server failed with status {status} ({detail})")]
    Server {
        /// HTTP.
        status: u16,
        /// Its words.
        detail: String,
    },
    /// Not reachable, or gone in the middle.
    #[error("the connection failed ({detail})")]
    Connection {
        /// What the network said.
        detail: String,
    },
    /// Nothing came in time.
    #[error("it said nothing for {} s", after.as_secs_f32())]
    Silent {
        /// How long was waited.
        after: Duration,
    },
    /// A message without anything in it.
    #[error("it gave an empty answer")]
    Empty,
    /// Not the API that was expected.
    #[error("its answer could not be read ({detail})")]
    Protocol {
        /// What was wrong.
        detail: String,
    },
    /// The key is wrong, or missing, or may not use this model.
    #[error("it refused the API key ({detail})")]
    Auth {
        /// Its words.
        detail: String,
    },
    /// No money left.
    #[error("its account has no credit left ({detail})")]
    Billing {
        /// Its words.
        detail: String,
    },
    /// No such model.
    #[error("it does not know this model ({detail})")]
    UnknownModel {
        /// Its words.
        detail: String,
    },
    /// The conversation does not fit.
    #[error("the conversation is too long for it ({detail})")]
    ContextOverflow {
        /// Its words.
        detail: String,
    },
    /// It refused the request as it is.
    #[error("it refused the request ({detail})")]
    BadRequest {
        /// Its words.
        detail: String,
    },
    /// A fault of our own.
    #[error("the request broke inside atoll ({detail})")]
    Internal {
        /// What happened.
        detail: String,
    },
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Ask the same model again after this time, and some jitter.
    After(Duration),
    /// Ask the next model of the chain.
    NextModel,
    /// No other model would help.
    GiveUp,
}

/// Repeats on one model after a busy or faulty server.
const REPEATS: u32 = 4;
/// Repeats on one model that said nothing: each costs the whole deadline.
const REPEATS_SILENT: u32 = 1;
/// The longest wait that a server can ask for before the next model is asked instead.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest wait of our own choice.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

impl ModelError {
    /// The one retry rule; `attempt` counts from 0.
    pub fn retry(&self, attempt: u32) -> Retry {
        match self {
            Self::RateLimited { retry_after, .. } => again(attempt, REPEATS, Duration::from_secs(1), *retry_after),
            Self::Overloaded { retry_after, .. } => again(attempt, REPEATS, Duration::from_millis(500), *retry_after),
            Self::Server { .. } | Self::Connection { .. } => again(attempt, REPEATS, Duration::from_millis(500), None),
            Self::Silent { .. } | Self::Empty | Self::Protocol { .. } => {
                again(attempt, REPEATS_SILENT, Duration::from_millis(100), None)
            }
            Self::Auth { .. }
            | Self::Billing { .. }
            | Self::UnknownModel { .. }
            | Self::BadRequest { .. }
            | Self::Internal { .. } => Retry::NextModel,
            // The next model would be shown the same conversation.
            Self::ContextOverflow { .. } => Retry::GiveUp,
        }
    }

    /// Its own words, to be cleaned before anyone sees them.
    pub(super) fn detail_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::RateLimited { detail, .. }
            | Self::Overloaded { detail, .. }
            | Self::Server { detail, .. }
            | Self::Connection { detail }
            | Self::Protocol { detail }
            | Self::Auth { detail }
            | Self::Billing { detail }
            | Self::UnknownModel { detail }
            | Self::ContextOverflow { detail }
            | Self::BadRequest { detail }
            | Self::Internal { detail } => Some(detail),
            Self::Silent { .. } | Self::Empty => None,
        }
    }

    /// One thing that the owner can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } | Self::Overloaded { .. } | Self::Server { .. } | Self::Silent { .. } => {
                "Ask again in a minute, or add another model under agents.defaults.model.fallbacks."
            }
            Self::Empty => "Ask again in other words.",
            Self::Connection { .. } => "Check the network of the gateway and models.providers.<provider>.baseUrl.",
            Self::Protocol { .. } => "Check models.providers.<provider>.api and .baseUrl.",
            Self::Auth { .. } => "Check models.providers.<provider>.apiKey.",
            Self::Billing { .. } => "Top up the account of the provider, or choose another model.",
            Self::UnknownModel { .. } => "Check agents.defaults.model.primary.",
            Self::ContextOverflow { .. } => "Start afresh with /new.",
            Self::BadRequest { .. } | Self::Internal { .. } => {
                "Start afresh with /new; if it stays, see the gateway's log."
            }
        }
    }
}

fn again(attempt: u32, repeats: u32, first: Duration, told: Option<Duration>) -> Retry {
    if attempt >= repeats {
        return Retry::NextModel;
    }
    match told {
        Some(wait) if wait > LONGEST_WAIT => Retry::NextModel,
        Some(wait) => Retry::After(wait),
        None => Retry::After(first.saturating_mul(1 << attempt.min(16)).min(LONGEST_BACKOFF)),
    }
}

/// What a service said about its refusal, whatever its API.
pub(super) struct Refusal<'a> {
    /// HTTP, or 200 when the refusal came inside a stream.
    pub status: u16,
    /// Its word for the kind: `rate_limit_error`, `context_length_exceeded`, …
    pub kind: &'a str,
    /// Its words, bounded, without secrets.
    pub detail: String,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

impl From<Refusal<'_>> for ModelError {
    fn from(refusal: Refusal<'_>) -> Self {
        let Refusal {
            status,
            kind,
            detail,
            retry_after,
        } = refusal;
        let lower = detail.to_ascii_lowercase();
        let overflow = [
            "context_length",
            "context length",
            "prompt is too long",
            "maximum context",
            "too many tokens",
        ];
        if kind == "context_length_exceeded" || status == 413 || overflow.iter().any(|words| lower.contains(words)) {
            return Self::ContextOverflow { detail };
        }
        match (status, kind) {
            (402, _) | (_, "billing_error" | "insufficient_quota") => Self::Billing { detail },
            (401 | 403, _) | (_, "authentication_error" | "permission_error" | "invalid_api_key") => {
                Self::Auth { detail }
            }
            (429, _) | (_, "rate_limit_error" | "rate_limit_exceeded") => Self::RateLimited { retry_after, detail },
            (503 | 529, _) | (_, "overloaded_error") => Self::Overloaded { retry_after, detail },
            (404, _) | (_, "not_found_error" | "model_not_found") => Self::UnknownModel { detail },
            (500.., _) | (_, "api_error" | "server_error" | "timeout_error") => Self::Server { status, detail },
            (408 | 409 | 425, _) => Self::Server { status, detail },
            (_, _) => Self::BadRequest { detail },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, kind: &str, detail: &str) -> ModelError {
        Refusal {
            status,
            kind,
            detail: detail.to_owned(),
            retry_after: None,
        }
        .into()
    }

    #[test]
    fn a_refusal_is_sorted_by_status_kind_and_words() {
        for (status, kind, words, expected) in [
            (
                401,
                "authentication_error",
                "invalid x-api-key",
                "it refused the API key (invalid x-api-key)",
            ),
            (429, "rate_limit_error", "slow", "it is limiting requests (slow)"),
            (429, "insufficient_quota", "pay", "its account has no credit left (pay)"),
            (529, "overloaded_error", "busy", "it is overloaded (busy)"),
            (200, "overloaded_error", "busy", "it is overloaded (busy)"),
            (500, "api_error", "oops", "its server failed with status 500 (oops)"),
            (404, "not_found_error", "m", "it does not know this model (m)"),
            (
                400,
                "invalid_request_error",
                "prompt is too long: 9 > 8",
                "the conversation is too long for it (prompt is too long: 9 > 8)",
            ),
            (
                400,
                "context_length_exceeded",
                "x",
                "the conversation is too long for it (x)",
            ),
            (400, "invalid_request_error", "bad", "it refused the request (bad)"),
        ] {
            assert_eq!(refused(status, kind, words).to_string(), expected);
        }
    }

    #[test]
    fn only_what_can_pass_is_tried_again_and_never_for_ever() {
        let limited = |secs| ModelError::RateLimited {
            retry_after: Some(Duration::from_secs(secs)),
            detail: String::new(),
        };
        assert_eq!(limited(7).retry(0), Retry::After(Duration::from_secs(7)));
        assert_eq!(limited(61).retry(0), Retry::NextModel);
        assert_eq!(limited(7).retry(REPEATS), Retry::NextModel);
        assert_eq!(refused(401, "", "").retry(0), Retry::NextModel);
        assert_eq!(refused(400, "", "").retry(0), Retry::NextModel);
        assert_eq!(refused(413, "", "").retry(0), Retry::GiveUp);
        let server = refused(502, "", "");
        assert_eq!(server.retry(0), Retry::After(Duration::from_millis(500)));
        assert_eq!(server.retry(3), Retry::After(Duration::from_secs(4)));
        assert_eq!(server.retry(4), Retry::NextModel);
    }
}
