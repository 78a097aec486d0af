//! Why a connect is refused, in the exact codes, details and sentences that real clients act upon.
//!
//! A wrong word here ends a client's process or stops it from trying again, so all of it is written down in one place.
//! Never decides: the reason comes from who checked.

use serde_json::{Value, json};

use super::connect::{CURRENT, LOWEST, close_reason};
use super::{Reject, text};
use crate::error::{ErrorCode, WireError};
use crate::id::{DeviceId, PairingId, RequestId};
use crate::scope::{Role, Scopes};

/// Why a connect request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The gateway is not ready yet (operators only).
    Starting,
    /// No protocol in common.
    Protocol {
        /// The client's lowest.
        lowest: u64,
        /// The client's highest.
        highest: u64,
    },
    /// A role that is none.
    Role,
    /// The role `worker`, which is not served and gets no answer.
    Worker,
    /// A page from elsewhere.
    Origin,
    /// A Control UI without a device.
    ControlUiDevice,
    /// Neither a device nor a credential.
    DeviceRequired,
    /// A credential is missing or wrong.
    Credential {
        /// Which and how.
        fault: CredentialFault,
        /// The device has a token of its own and may try that one.
        has_device_token: bool,
    },
    /// Too many failures from there.
    RateLimited {
        /// When to try again, milliseconds.
        retry_after_ms: u64,
    },
    /// The device's signature does not hold.
    Device(DeviceFault),
    /// The device must be approved by its owner.
    Pairing(Box<PairingRefusal>),
    /// Something broke in the gateway.
    Internal,
}

/// What is wrong with a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialFault {
    /// No token came.
    TokenMissing,
    /// Another token.
    TokenMismatch,
    /// The gateway has none to compare.
    TokenNotConfigured,
    /// No password came.
    PasswordMissing,
    /// Another password.
    PasswordMismatch,
    /// The gateway has none to compare.
    PasswordNotConfigured,
    /// Not the device token in force.
    DeviceTokenMismatch,
    /// A setup code that is spent, revoked, expired or made up.
    BootstrapTokenInvalid,
    /// The proxy in front did not say who it is.
    IdentityHeaderMissing,
    /// Anything else.
    Unauthorized,
}

/// What is wrong with a device's proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceFault {
    /// The id is not the digest of the key.
    IdMismatch,
    /// The key is none.
    PublicKey,
    /// The nonce is blank.
    NonceMissing,
    /// The nonce of another connection.
    NonceMismatch,
    /// Signed too long ago, or in the future.
    Stale,
    /// The signature does not hold.
    Signature,
}

/// What the owner must approve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingRefusal {
    /// Why.
    pub reason: PairingReason,
    /// The request to approve.
    pub request: PairingId,
    /// The device.
    pub device: DeviceId,
    /// The role it asks for.
    pub role: Role,
    /// The scopes it asks for.
    pub scopes: Scopes,
    /// Roles it has.
    pub approved_roles: Vec<Role>,
    /// Scopes it has.
    pub approved_scopes: Scopes,
}

/// Why a device must be approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairingReason {
    /// It is unknown.
    NotPaired,
    /// It asks for another role.
    RoleUpgrade,
    /// It asks for more scopes.
    ScopeUpgrade,
    /// It says that it is something else now.
    MetadataUpgrade,
}

impl PairingReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        self.words().0
    }

    /// The word, the end of the sentence, and what to do.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::NotPaired => (
                "not-paired",
                "device is not approved yet",
                "Approve this device from the pending pairing requests.",
            ),
            Self::RoleUpgrade => (
                "role-upgrade",
                "device is asking for a higher role than currently approved",
                "Approve the new role from the pending pairing requests.",
            ),
            Self::ScopeUpgrade => (
                "scope-upgrade",
                "device is asking for more scopes than currently approved",
                "Approve the new scopes from the pending pairing requests.",
            ),
            Self::MetadataUpgrade => (
                "metadata-upgrade",
                "device identity changed and must be re-approved",
                "Approve this device again from the pending pairing requests.",
            ),
        }
    }
}

impl CredentialFault {
    /// Detail code, reason, sentence.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::TokenMissing => (
                "AUTH_TOKEN_MISSING",
                "token_missing",
                "unauthorized: gateway token missing (give the client the gateway's token)",
            ),
            Self::TokenMismatch => (
                "AUTH_TOKEN_MISMATCH",
                "token_mismatch",
                "unauthorized: gateway token mismatch (give the client the gateway's token)",
            ),
            Self::TokenNotConfigured => (
                "AUTH_TOKEN_NOT_CONFIGURED",
                "token_missing_config",
                "unauthorized: gateway token not configured on gateway (set gateway.auth.token)",
            ),
            Self::PasswordMissing => (
                "AUTH_PASSWORD_MISSING",
                "password_missing",
                "unauthorized: gateway password missing (give the client the gateway's password)",
            ),
            Self::PasswordMismatch => (
                "AUTH_PASSWORD_MISMATCH",
                "password_mismatch",
                "unauthorized: gateway password mismatch (give the client the gateway's password)",
            ),
            Self::PasswordNotConfigured => (
                "AUTH_PASSWORD_NOT_CONFIGURED",
                "password_missing_config",
                "unauthorized: gateway password not configured on gateway (set gateway.auth.password)",
            ),
            Self::DeviceTokenMismatch => (
                "AUTH_DEVICE_TOKEN_MISMATCH",
                "device_token_mismatch",
                "unauthorized: device token mismatch (rotate/reissue device token)",
            ),
            Self::BootstrapTokenInvalid => (
                "AUTH_BOOTSTRAP_TOKEN_INVALID",
                "bootstrap_token_invalid",
                "unauthorized: setup code invalid, expired, revoked, or already used (make a new one)",
            ),
            Self::IdentityHeaderMissing => (
                "AUTH_IDENTITY_HEADER_REQUIRED",
                "trusted_proxy_user_missing",
                "unauthorized: the proxy in front named no user",
            ),
            Self::Unauthorized => ("AUTH_UNAUTHORIZED", "unauthorized", "unauthorized"),
        }
    }

    /// The step that helps.
    fn next_step(self) -> &'static str {
        match self {
            Self::TokenMissing | Self::TokenNotConfigured | Self::PasswordMissing | Self::PasswordNotConfigured => {
                "update_auth_configuration"
            }
            Self::TokenMismatch | Self::PasswordMismatch | Self::DeviceTokenMismatch => "update_auth_credentials",
            Self::BootstrapTokenInvalid | Self::IdentityHeaderMissing | Self::Unauthorized => {
                "review_auth_configuration"
            }
        }
    }
}

impl DeviceFault {
    /// Detail code, reason, sentence.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::IdMismatch => (
                "DEVICE_AUTH_DEVICE_ID_MISMATCH",
                "device-id-mismatch",
                "device identity mismatch",
            ),
            Self::PublicKey => (
                "DEVICE_AUTH_PUBLIC_KEY_INVALID",
                "device-public-key",
                "device public key invalid",
            ),
            Self::NonceMissing => (
                "DEVICE_AUTH_NONCE_REQUIRED",
                "device-nonce-missing",
                "device nonce required",
            ),
            Self::NonceMismatch => (
                "DEVICE_AUTH_NONCE_MISMATCH",
                "device-nonce-mismatch",
                "device nonce mismatch",
            ),
            Self::Stale => (
                "DEVICE_AUTH_SIGNATURE_EXPIRED",
                "device-signature-stale",
                "device signature expired",
            ),
            Self::Signature => (
                "DEVICE_AUTH_SIGNATURE_INVALID",
                "device-signature",
                "device signature invalid",
            ),
        }
    }
}

impl Refusal {
    /// The error of the answer.
    pub fn error(&self) -> WireError {
        match self {
            Self::Starting => WireError::unavailable("gateway starting; retry shortly")
                .with_details(&json!({ "reason": "startup-sidecars" }))
                .with_retry(true, Some(500)),
            Self::Protocol { lowest, highest } => protocol_mismatch(*lowest, *highest),
            Self::Role | Self::Worker => WireError::invalid("invalid role"),
            Self::Origin => detailed(
                "origin not allowed (open the page from the gateway itself, or allow it in gateway.controlUi.allowedOrigins)",
                "CONTROL_UI_ORIGIN_NOT_ALLOWED",
            ),
            Self::ControlUiDevice => detailed(
                "control ui requires device identity (use HTTPS or localhost secure context)",
                "CONTROL_UI_DEVICE_IDENTITY_REQUIRED",
            ),
            Self::DeviceRequired => WireError::new(ErrorCode::NotPaired, "device identity required")
                .with_details(&json!({ "code": "DEVICE_IDENTITY_REQUIRED" })),
            Self::Credential {
                fault,
                has_device_token,
            } => credential(*fault, *has_device_token),
            Self::RateLimited { retry_after_ms } => rate_limited(*retry_after_ms),
            Self::Device(fault) => {
                let (code, reason, sentence) = fault.words();
                WireError::invalid(sentence).with_details(&json!({ "code": code, "reason": reason }))
            }
            Self::Pairing(pairing) => pairing.error(),
            Self::Internal => WireError::unavailable("internal error"),
        }
    }

    /// Close code and reason.
    pub fn close(&self) -> (u16, String) {
        let code = match self {
            Self::Starting => 1013,
            Self::Protocol { .. } => 1002,
            Self::Internal => 1011,
            Self::Role
            | Self::Worker
            | Self::Origin
            | Self::ControlUiDevice
            | Self::DeviceRequired
            | Self::Credential { .. }
            | Self::RateLimited { .. }
            | Self::Device(_)
            | Self::Pairing(_) => 1008,
        };
        let reason = match self {
            Self::Worker => "invalid-handshake".to_owned(),
            Self::Pairing(pairing) => format!("{} (requestId: {})", pairing.sentence(), pairing.request),
            Self::Starting
            | Self::Protocol { .. }
            | Self::Internal
            | Self::Role
            | Self::Origin
            | Self::ControlUiDevice
            | Self::DeviceRequired
            | Self::Credential { .. }
            | Self::RateLimited { .. }
            | Self::Device(_) => self.error().message,
        };
        (code, close_reason(&reason))
    }

    /// Answer and close for the connect request `id`.
    pub fn reject(&self, id: &RequestId) -> Reject {
        let answer = (*self != Self::Worker).then(|| text::response(id.as_str(), Err(&self.error())));
        Reject {
            answer,
            close: Some(self.close()),
        }
    }
}

impl PairingRefusal {
    fn sentence(&self) -> String {
        format!("pairing required: {}", self.reason.words().1)
    }

    /// A real client waits for good unless it is told to try again, so it is told.
    fn error(&self) -> WireError {
        let (reason, _, hint) = self.reason.words();
        let mut details = json!({
            "code": "PAIRING_REQUIRED",
            "reason": reason,
            "requestId": self.request,
            "remediationHint": hint,
            "deviceId": self.device,
            "requestedRole": self.role,
            "recommendedNextStep": "wait_then_retry",
            "retryable": true,
            "pauseReconnect": false,
        });
        if self.role == Role::Operator {
            details["requestedScopes"] = json!(self.scopes);
        }
        if self.reason != PairingReason::NotPaired {
            details["approvedRoles"] = json!(self.approved_roles);
            details["approvedScopes"] = json!(self.approved_scopes);
        }
        WireError::new(ErrorCode::NotPaired, self.sentence()).with_details(&details)
    }
}

fn detailed(sentence: &str, code: &str) -> WireError {
    WireError::invalid(sentence).with_details(&json!({ "code": code }))
}

fn protocol_mismatch(lowest: u64, highest: u64) -> WireError {
    WireError::invalid("protocol mismatch").with_details(&json!({
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": lowest,
        "clientMaxProtocol": highest,
        "expectedProtocol": CURRENT,
        "minimumProbeProtocol": LOWEST,
    }))
}

fn credential(fault: CredentialFault, has_device_token: bool) -> WireError {
    let (code, reason, sentence) = fault.words();
    let retry = has_device_token && fault == CredentialFault::TokenMismatch;
    WireError::invalid(sentence).with_details(&json!({
        "code": code,
        "authReason": reason,
        "canRetryWithDeviceToken": retry,
        "recommendedNextStep": if retry { "retry_with_device_token" } else { fault.next_step() },
    }))
}

fn rate_limited(retry_after_ms: u64) -> WireError {
    let details: Value = json!({
        "code": "AUTH_RATE_LIMITED",
        "authReason": "rate_limited",
        "canRetryWithDeviceToken": false,
        "recommendedNextStep": "wait_then_retry",
    });
    WireError::invalid("unauthorized: too many failed authentication attempts (retry later)")
        .with_details(&details)
        .with_retry(true, Some(retry_after_ms))
}

#[cfg(test)]
mod tests;
