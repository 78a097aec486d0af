//! May this proven peer come in? Credentials are compared here, once, and the book is asked here, once.
//!
//! Everything compared is a secret or a proven key; what a peer says of itself only ever takes away. Never counts failures
//! (that is [`crate::lockout`]) and never speaks.

use atoll_protocol::dialect::refusal::{CredentialFault, PairingReason, PairingRefusal, Refusal};
use atoll_protocol::hex;
use atoll_protocol::id::{PairingId, SetupId};
use atoll_protocol::scope::{Role, Scope, Scopes};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use crate::access::Principal;
use crate::access::commands::CommandPolicy;
use crate::book::{
    Admission, Applicant, Book, Change, CodeFault, Fresh, Grant, LinkDigits, Reason, SecretHash, TokenUse,
};
use crate::proven::{DeviceKey, Language, Offered, Origin, Proven};

/// How peers show that they belong: `gateway.auth`. Holds hashes only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthPolicy {
    /// Nobody has to, on this machine; nobody can, from elsewhere.
    None,
    /// The shared token, with the password accepted in its place where there is one.
    Token(SecretHash),
    /// The shared password.
    Password(SecretHash),
    /// A proxy in front vouches for users.
    TrustedProxy(ProxyRules),
}

impl AuthPolicy {
    /// The word of `gateway.auth.mode`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token(_) => "token",
            Self::Password(_) => "password",
            Self::TrustedProxy(_) => "trusted-proxy",
        }
    }

    /// Tells one policy from another for as long as the gateway's state lives; nothing of a secret can be read from it.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        match self {
            Self::None => hash.update(b"none"),
            Self::Token(secret) => hash.update([b"token\0", &secret.as_bytes()[..]].concat()),
            Self::Password(secret) => hash.update([b"password\0", &secret.as_bytes()[..]].concat()),
            Self::TrustedProxy(rules) => hash.update(format!("proxy\0{rules:?}")),
        }
        hex::encode(&hash.finalize()[..16])
    }
}

/// What a trusted proxy's users may do. That the proxy is trusted was found by the listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyRules {
    /// These users; empty: every user that the proxy names.
    pub allow_users: Vec<String>,
    /// The most that such a user holds without a device.
    pub scopes: Scopes,
    /// What a new browser of such a user gets at most without anybody being asked; none: somebody is asked.
    pub browsers: Option<Scopes>,
}

/// What a peer was let in by; `auth.method` of the hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Nothing: mode `none` on this machine.
    None,
    /// The shared token.
    Token,
    /// The shared password.
    Password,
    /// A token of its own.
    DeviceToken,
    /// A setup code.
    SetupCode,
    /// A trusted proxy's word.
    TrustedProxy,
    /// Its key alone, on a native link.
    DeviceKey,
    /// The operating system's word, over the Unix socket.
    LocalUser,
}

impl Method {
    /// The word on the wire. Real clients know no word for the last two, which never reach them over TCP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None | Self::LocalUser => "none",
            Self::Token => "token",
            Self::Password => "password",
            Self::DeviceToken | Self::DeviceKey => "device-token",
            Self::SetupCode => "bootstrap-token",
            Self::TrustedProxy => "trusted-proxy",
        }
    }
}

/// The answer to a proven peer.
#[derive(Debug)]
pub enum Verdict {
    /// Let it in.
    Admitted(Box<Admitted>),
    /// A person must decide first. A native peer keeps its link and waits; a dialect peer is answered with
    /// [`Refusal::Pairing`].
    Waiting(Box<Waiting>),
    /// Send it away.
    Refused(Refusal),
}

impl Verdict {
    /// Whether a guess may have been behind it, so that the attempt stays charged.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Admitted(_) | Self::Waiting(_) => false,
            Self::Refused(Refusal::Credential { fault, .. }) => !matches!(
                fault,
                CredentialFault::TokenMissing
                    | CredentialFault::PasswordMissing
                    | CredentialFault::IdentityHeaderMissing
            ),
            Self::Refused(_) => false,
        }
    }
}

/// A peer that is in.
#[derive(Debug)]
pub struct Admitted {
    /// Who it is from now on.
    pub principal: Principal,
    /// What its device was granted; none without a device.
    pub grant: Option<Grant>,
    /// What it was let in by.
    pub method: Method,
    /// The setup code that it was let in by.
    pub setup: Option<SetupId>,
    /// What follows, to be made durable first.
    pub changes: Vec<Change>,
}

/// A device that waits for a person.
#[derive(Debug)]
pub struct Waiting {
    /// What to approve and why, ready for the dialect; its `request` and `reason` are the native answer.
    pub pairing: PairingRefusal,
    /// The request is new, so tell people.
    pub new: bool,
    /// What follows.
    pub changes: Vec<Change>,
}

/// Decides about a proven peer.
pub fn admit(
    proven: &Proven,
    origin: &Origin,
    auth: &AuthPolicy,
    commands: &CommandPolicy,
    book: &mut Book,
    fresh: Fresh,
    now_ms: u64,
) -> Verdict {
    let decision = match proven.device {
        Some(key) => credential_of_device(proven, key, origin, auth, book, now_ms)
            .map(|method| admit_device(proven, key, (method, browsers(auth)), commands, book, fresh, now_ms)),
        None => admit_without_device(proven, origin, auth),
    };
    decision.unwrap_or_else(Verdict::Refused)
}

/// What a device shows besides its key. On a native link the key of an approved device is enough, and an unknown one may
/// ask to be approved; a wrong secret from an unknown one is a guess.
fn credential_of_device(
    proven: &Proven,
    key: DeviceKey,
    origin: &Origin,
    auth: &AuthPolicy,
    book: &Book,
    now_ms: u64,
) -> Result<Method, Refusal> {
    let record = book.record(key.id);
    let role = proven.claims.role;
    if let Some(code) = &proven.offered.bootstrap_token {
        // A code that came along is what it wants to come in by, whatever else it shows.
        return match book.check_code(code, key.id, role, now_ms) {
            Ok(_) => Ok(Method::SetupCode),
            Err(_) => Err(Refusal::Credential {
                fault: CredentialFault::BootstrapTokenInvalid,
                has_device_token: false,
            }),
        };
    }
    let native = proven.language == Language::Native;
    if native && record.is_some_and(|record| record.role(role).is_some()) {
        return Ok(Method::DeviceKey);
    }
    let offered = &proven.offered;
    let holds = |token: &Option<SecretString>| {
        token
            .as_ref()
            .is_some_and(|token| record.is_some_and(|record| record.accepts(role, token)))
    };
    if holds(&offered.device_token) || holds(&offered.token) {
        return Ok(Method::DeviceToken);
    }
    match shared_credential(offered, origin, auth) {
        Err(_) if native && offered.is_empty() => Ok(Method::DeviceKey),
        Err(fault) => {
            let has_device_token = record
                .and_then(|record| record.role(role))
                .is_some_and(|grant| !grant.tokens.is_empty());
            Err(Refusal::Credential {
                fault: fault_of_device(fault, offered),
                has_device_token,
            })
        }
        Ok(method) => Ok(method),
    }
}

/// The most helpful name of the fault: a device token that fails is to be forgotten by its owner.
fn fault_of_device(fault: CredentialFault, offered: &Offered) -> CredentialFault {
    if offered.device_token.is_some() && offered.token.is_none() && offered.password.is_none() {
        CredentialFault::DeviceTokenMismatch
    } else {
        fault
    }
}

/// The gateway's own secret, or what stands in for it. The secret counts in either field, as real clients send it in both.
fn shared_credential(offered: &Offered, origin: &Origin, auth: &AuthPolicy) -> Result<Method, CredentialFault> {
    let matches = |hash: &SecretHash| {
        // Both are compared, so that the time says nothing about which one was right.
        let token = offered.token.as_ref().is_some_and(|secret| hash.matches(secret));
        let password = offered.password.as_ref().is_some_and(|secret| hash.matches(secret));
        token | password
    };
    let offers_none = offered.token.is_none() && offered.password.is_none();
    if origin.local_user.is_some() {
        return Ok(Method::LocalUser);
    }
    match auth {
        AuthPolicy::None if origin.is_direct_loopback => Ok(Method::None),
        AuthPolicy::None => Err(CredentialFault::Unauthorized),
        AuthPolicy::Token(hash) if matches(hash) => Ok(Method::Token),
        AuthPolicy::Token(_) if offers_none => Err(CredentialFault::TokenMissing),
        AuthPolicy::Token(_) => Err(CredentialFault::TokenMismatch),
        AuthPolicy::Password(hash) if matches(hash) => Ok(Method::Password),
        AuthPolicy::Password(_) if offers_none => Err(CredentialFault::PasswordMissing),
        AuthPolicy::Password(_) => Err(CredentialFault::PasswordMismatch),
        AuthPolicy::TrustedProxy(rules) => match &origin.proxy_user {
            None => Err(CredentialFault::IdentityHeaderMissing),
            Some(user) if rules.allows(user) => Ok(Method::TrustedProxy),
            Some(_) => Err(CredentialFault::Unauthorized),
        },
    }
}

impl ProxyRules {
    fn allows(&self, user: &str) -> bool {
        !user.is_empty() && (self.allow_users.is_empty() || self.allow_users.iter().any(|allowed| allowed == user))
    }
}

/// What a new browser gets at most by the word of the proxy.
fn browsers(auth: &AuthPolicy) -> Option<&Scopes> {
    match auth {
        AuthPolicy::TrustedProxy(rules) => rules.browsers.as_ref(),
        AuthPolicy::None | AuthPolicy::Token(_) | AuthPolicy::Password(_) => None,
    }
}

fn admit_device(
    proven: &Proven,
    key: DeviceKey,
    (method, browsers): (Method, Option<&Scopes>),
    commands: &CommandPolicy,
    book: &mut Book,
    fresh: Fresh,
    now_ms: u64,
) -> Verdict {
    let claims = &proven.claims;
    let used = [&proven.offered.device_token, &proven.offered.token]
        .into_iter()
        .flatten()
        .find(|token| {
            book.record(key.id)
                .is_some_and(|record| record.accepts(claims.role, token))
        });
    let token = match (proven.language, method, used) {
        (Language::Native, ..) => TokenUse::None,
        (Language::Dialect, Method::DeviceToken, Some(token)) => TokenUse::Echo(token),
        (Language::Dialect, ..) => TokenUse::Issue(fresh.token),
    };
    let applicant = Applicant {
        key,
        claims,
        vouched: method != Method::DeviceKey,
        token,
        digits: link_digits(proven, fresh.is_first),
        from: fresh.from,
        request: fresh.request,
        address: fresh.address,
    };
    let setup = setup_of(proven, key, method, book, now_ms);
    let (admission, changes) = match (&setup, browsers) {
        (Some(setup), _) => book.admit_by_code(setup, applicant, commands, now_ms),
        (None, Some(allowed)) if method == Method::TrustedProxy => {
            book.admit_by_proxy(allowed, applicant, commands, now_ms)
        }
        (None, _) => book.admit(applicant, commands, now_ms),
    };
    match admission {
        Admission::In(grant) => {
            let principal = Principal::device(key.id, grant.role, grant.scopes.clone(), grant.generation);
            Verdict::Admitted(Box::new(Admitted {
                principal,
                grant: Some(*grant),
                method,
                setup,
                changes,
            }))
        }
        Admission::Pending { request, new, reason } => Verdict::Waiting(Box::new(Waiting {
            pairing: what_to_approve(proven, key, book, request, reason),
            new,
            changes,
        })),
    }
}

fn what_to_approve(proven: &Proven, key: DeviceKey, book: &Book, request: PairingId, reason: Reason) -> PairingRefusal {
    let claims = &proven.claims;
    let record = book.record(key.id);
    let grants = || record.into_iter().flat_map(|record| record.roles.iter());
    PairingRefusal {
        reason: pairing_reason(reason),
        request,
        device: key.id,
        role: claims.role,
        scopes: claims.scopes.clone(),
        approved_roles: grants().map(|(role, _)| *role).collect(),
        approved_scopes: grants().flat_map(|(_, grant)| grant.scopes.iter()).collect(),
    }
}

fn link_digits(proven: &Proven, is_first: bool) -> LinkDigits {
    match proven.digits {
        None => LinkDigits::None,
        Some(digits) if is_first => LinkDigits::New(digits),
        Some(digits) => LinkDigits::Again(digits),
    }
}

/// The code that it comes in by.
fn setup_of(proven: &Proven, key: DeviceKey, method: Method, book: &Book, now_ms: u64) -> Option<SetupId> {
    let code = proven
        .offered
        .bootstrap_token
        .as_ref()
        .filter(|_| method == Method::SetupCode)?;
    let found = book.check_code(code, key.id, proven.claims.role, now_ms);
    found.ok().map(|code| code.id.clone())
}

/// Why the setup code that came along gives nothing, and which one it is, for the audit. A stranger is not told.
pub fn code_fault(proven: &Proven, book: &Book, now_ms: u64) -> Option<(CodeFault, Option<SetupId>)> {
    let (code, key) = (proven.offered.bootstrap_token.as_ref()?, proven.device?);
    let (fault, found) = book.check_code(code, key.id, proven.claims.role, now_ms).err()?;
    Some((fault, found.map(|code| code.id.clone())))
}

fn pairing_reason(reason: Reason) -> PairingReason {
    match reason {
        // The book lets a device in whose surface alone waits, so this reason never keeps one out.
        Reason::NotPaired | Reason::Surface => PairingReason::NotPaired,
        Reason::RoleUpgrade => PairingReason::RoleUpgrade,
        Reason::ScopeUpgrade => PairingReason::ScopeUpgrade,
        Reason::MetadataUpgrade => PairingReason::MetadataUpgrade,
    }
}

/// Operators' programs that keep their scopes without a device, as OpenClaw's own command line comes without one. The
/// name gives nothing that the shared secret has not given; any other program is let in with no scope at all.
const DEVICELESS: &[&str] = &["cli", "gateway-client"];

fn admit_without_device(proven: &Proven, origin: &Origin, auth: &AuthPolicy) -> Result<Verdict, Refusal> {
    let claims = &proven.claims;
    let offered = &proven.offered;
    if let (Some(uid), Role::Operator) = (origin.local_user, claims.role) {
        let principal = Principal::local_owner(uid, owner_scopes(&claims.scopes));
        return Ok(admitted(principal, Method::LocalUser));
    }
    let method = match shared_credential(offered, origin, auth) {
        Ok(method) => method,
        Err(_) if offered.is_empty() => return Err(Refusal::DeviceRequired),
        Err(fault) => {
            return Err(Refusal::Credential {
                fault,
                has_device_token: false,
            });
        }
    };
    if claims.role == Role::Node {
        return Err(Refusal::DeviceRequired);
    }
    match (auth, &origin.proxy_user) {
        (AuthPolicy::TrustedProxy(rules), Some(user)) => {
            let scopes = claims.scopes.within(&rules.scopes);
            Ok(admitted(Principal::proxy(user.clone(), scopes), method))
        }
        (AuthPolicy::None | AuthPolicy::Token(_) | AuthPolicy::Password(_) | AuthPolicy::TrustedProxy(_), _) => {
            if !origin.is_direct_loopback {
                return Err(Refusal::DeviceRequired);
            }
            let keeps = DEVICELESS.contains(&claims.client.id.as_str());
            let scopes = if keeps { claims.scopes.clone() } else { Scopes::none() };
            Ok(admitted(Principal::shared_secret(scopes), method))
        }
    }
}

/// The owner may do everything; a program that names scopes gets those, so that it can ask for less.
fn owner_scopes(asked: &Scopes) -> Scopes {
    if asked.is_empty() {
        [Scope::Admin].into_iter().collect()
    } else {
        asked.clone()
    }
}

fn admitted(principal: Principal, method: Method) -> Verdict {
    Verdict::Admitted(Box::new(Admitted {
        principal,
        grant: None,
        method,
        setup: None,
        changes: Vec::new(),
    }))
}

#[cfg(test)]
mod tests;
