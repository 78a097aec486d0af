//! Every credential with every peer: who is let in, who waits, and in which words the others are sent away.

use std::sync::Arc;

use atoll_protocol::error::ErrorCode;
use atoll_protocol::id::PairingId;
use secrecy::ExposeSecret as _;

use super::*;
use crate::access::{ApprovePairing, PairingView, Policy, decide};
use crate::book::FreshToken;
use crate::book::tests::{holding, key, node_claims, scopes};
use crate::proven::Claims;

const SECRET: &str = "a shared secret of some length";

fn secret(text: &str) -> Option<SecretString> {
    Some(text.to_owned().into())
}

fn token_mode() -> AuthPolicy {
    AuthPolicy::Token(SecretHash::of(&SECRET.to_owned().into()))
}

fn loopback() -> Origin {
    Origin {
        address: "127.0.0.1".into(),
        is_direct_loopback: true,
        local_user: None,
        browser: None,
        proxy_user: None,
    }
}

fn remote() -> Origin {
    Origin {
        address: "203.0.113.9".into(),
        is_direct_loopback: false,
        ..loopback()
    }
}

fn operator(client: &str, asked: &[Scope]) -> Claims {
    let mut claims = node_claims(&[]);
    claims.role = Role::Operator;
    claims.scopes = scopes(asked);
    claims.client.id = client.into();
    claims
}

fn proven(device: Option<u8>, claims: Claims, offered: Offered, language: Language) -> Proven {
    Proven {
        device: device.map(key),
        claims,
        offered,
        language,
        digits: None,
    }
}

fn with_token(token: &str) -> Offered {
    Offered {
        token: secret(token),
        ..Offered::default()
    }
}

struct Door {
    book: Book,
    auth: AuthPolicy,
    origin: Origin,
    n: u8,
}

impl Door {
    fn new(auth: AuthPolicy, origin: Origin) -> Self {
        Self {
            book: Book::default(),
            auth,
            origin,
            n: 0,
        }
    }

    fn knock(&mut self, proven: &Proven) -> Verdict {
        self.n += 1;
        let fresh = Fresh {
            request: PairingId::new(format!("r{}", self.n)).expect("an id"),
            token: FreshToken([self.n; 32]),
            address: None,
            is_first: true,
            from: String::new(),
        };
        let commands = CommandPolicy::default();
        admit(proven, &self.origin, &self.auth, &commands, &mut self.book, fresh, 1000)
    }

    fn enter(&mut self, proven: &Proven) -> Admitted {
        match self.knock(proven) {
            Verdict::Admitted(admitted) => *admitted,
            other @ (Verdict::Waiting(_) | Verdict::Refused(_)) => panic!("{other:?}"),
        }
    }

    fn wait(&mut self, proven: &Proven) -> Waiting {
        match self.knock(proven) {
            Verdict::Waiting(waiting) => *waiting,
            other @ (Verdict::Admitted(_) | Verdict::Refused(_)) => panic!("{other:?}"),
        }
    }

    fn refuse(&mut self, proven: &Proven) -> Refusal {
        match self.knock(proven) {
            Verdict::Refused(refusal) => refusal,
            other @ (Verdict::Admitted(_) | Verdict::Waiting(_)) => panic!("{other:?}"),
        }
    }

    fn pair(&mut self, proven: &Proven) {
        let request = self.wait(proven).pairing.request;
        let action = ApprovePairing {
            request,
            view: PairingView::Device,
            code: None,
        };
        let granted = decide(&holding(&[Scope::Admin]), action, &Policy::default(), 0).expect("an administrator");
        self.book.approve(&granted, 1000).expect("approved");
    }
}

fn dialect_node(offered: Offered) -> Proven {
    proven(Some(1), node_claims(&["system.which"]), offered, Language::Dialect)
}

fn native_node(offered: Offered) -> Proven {
    proven(Some(1), node_claims(&["system.which"]), offered, Language::Native)
}

fn code(refusal: &Refusal) -> String {
    refusal.error().detail_code().expect("a code")
}

#[test]
fn a_real_node_comes_with_the_token_is_approved_and_comes_back_with_its_own() {
    let mut door = Door::new(token_mode(), remote());
    let first = dialect_node(with_token(SECRET));
    let waiting = door.wait(&first);
    assert_eq!(waiting.pairing.reason, PairingReason::NotPaired);
    let error = Refusal::Pairing(Box::new(waiting.pairing)).error();
    assert_eq!(error.code, ErrorCode::NotPaired);
    door.pair(&first);

    let admitted = door.enter(&first);
    assert_eq!(admitted.method, Method::Token);
    let token = admitted.grant.expect("a device").token.expect("handed out").text;
    for offered in [
        Offered {
            device_token: Some(token.clone()),
            ..Offered::default()
        },
        Offered {
            token: Some(token.clone()),
            ..Offered::default()
        },
    ] {
        let admitted = door.enter(&dialect_node(offered));
        assert_eq!(admitted.method, Method::DeviceToken);
        let echoed = admitted.grant.expect("a device").token.expect("echoed").text;
        assert_eq!(echoed.expose_secret(), token.expose_secret());
    }
}

#[test]
fn a_device_token_is_worth_nothing_in_other_hands() {
    let mut door = Door::new(token_mode(), remote());
    let first = dialect_node(with_token(SECRET));
    door.pair(&first);
    let token = door.enter(&first).grant.expect("a device").token.expect("issued").text;
    let thief = proven(
        Some(2),
        node_claims(&["system.which"]),
        Offered {
            device_token: Some(token),
            ..Offered::default()
        },
        Language::Dialect,
    );
    assert_eq!(code(&door.refuse(&thief)), "AUTH_DEVICE_TOKEN_MISMATCH");
}

#[test]
fn a_wrong_token_says_which_next_step_helps() {
    let mut door = Door::new(token_mode(), remote());
    let unknown = door.refuse(&dialect_node(with_token("wrong")));
    assert_eq!(code(&unknown), "AUTH_TOKEN_MISMATCH");
    assert_eq!(
        unknown.error().details.expect("details").tree()["canRetryWithDeviceToken"],
        false
    );
    assert_eq!(
        code(&door.refuse(&dialect_node(Offered::default()))),
        "AUTH_TOKEN_MISSING"
    );

    let known = dialect_node(with_token(SECRET));
    door.pair(&known);
    door.enter(&known);
    let verdict = door.refuse(&dialect_node(with_token("wrong")));
    assert_eq!(
        verdict.error().details.expect("details").tree()["canRetryWithDeviceToken"],
        true
    );
}

#[test]
fn the_shared_secret_counts_in_either_field() {
    let password = Offered {
        password: secret(SECRET),
        ..Offered::default()
    };
    for auth in [
        token_mode(),
        AuthPolicy::Password(SecretHash::of(&SECRET.to_owned().into())),
    ] {
        for offered in [
            with_token(SECRET),
            Offered {
                password: password.password.clone(),
                ..Offered::default()
            },
        ] {
            let cli = proven(None, operator("cli", &[Scope::Read]), offered, Language::Dialect);
            let admitted = Door::new(auth.clone(), loopback()).enter(&cli);
            assert_eq!(admitted.principal.scopes(), &scopes(&[Scope::Read]));
        }
    }
}

#[test]
fn only_the_command_line_keeps_scopes_without_a_device_and_only_on_this_machine() {
    let knock = |client: &str, origin: Origin| {
        let claims = operator(client, &[Scope::Admin]);
        let peer = proven(None, claims, with_token(SECRET), Language::Dialect);
        Door::new(token_mode(), origin).knock(&peer)
    };
    let held = |verdict| match verdict {
        Verdict::Admitted(admitted) => admitted.principal.scopes().clone(),
        other @ (Verdict::Waiting(_) | Verdict::Refused(_)) => panic!("{other:?}"),
    };
    assert_eq!(held(knock("cli", loopback())), scopes(&[Scope::Admin]));
    assert_eq!(held(knock("gateway-client", loopback())), scopes(&[Scope::Admin]));
    assert_eq!(held(knock("openclaw-control-ui", loopback())), Scopes::none());
    assert!(matches!(
        knock("cli", remote()),
        Verdict::Refused(Refusal::DeviceRequired)
    ));
}

#[test]
fn without_device_and_secret_nobody_comes_in() {
    let peer = || {
        proven(
            None,
            operator("cli", &[Scope::Read]),
            Offered::default(),
            Language::Dialect,
        )
    };
    let refusal = Door::new(token_mode(), loopback()).refuse(&peer());
    assert_eq!(code(&refusal), "DEVICE_IDENTITY_REQUIRED");
    let wrong = proven(None, operator("cli", &[]), with_token("wrong"), Language::Dialect);
    let verdict = Door::new(token_mode(), loopback()).knock(&wrong);
    assert!(verdict.is_failure(), "a guess stays charged");
    let node = proven(None, node_claims(&[]), with_token(SECRET), Language::Dialect);
    let refusal = Door::new(token_mode(), loopback()).refuse(&node);
    assert_eq!(refusal, Refusal::DeviceRequired, "a node always has a device");
}

#[test]
fn a_native_device_needs_no_bearer_and_a_person_all_the_same() {
    let mut door = Door::new(token_mode(), remote());
    let waiting = door.wait(&native_node(Offered::default()));
    assert!(waiting.new);
    assert!(!door.wait(&native_node(Offered::default())).new);
    door.pair(&native_node(Offered::default()));
    let admitted = door.enter(&native_node(Offered::default()));
    assert_eq!(admitted.method, Method::DeviceKey);
    assert!(admitted.grant.expect("a device").token.is_none());
    let rotated_secret = native_node(with_token("the gateway's token of last year"));
    assert_eq!(door.enter(&rotated_secret).method, Method::DeviceKey);
}

#[test]
fn a_stranger_who_guesses_the_secret_natively_is_a_guesser() {
    let verdict = Door::new(token_mode(), remote()).knock(&native_node(with_token("wrong")));
    assert!(verdict.is_failure(), "{verdict:?}");
    assert_eq!(
        Door::new(token_mode(), remote())
            .wait(&native_node(with_token(SECRET)))
            .pairing
            .reason,
        PairingReason::NotPaired
    );
}

#[test]
fn mode_none_trusts_this_machine_and_no_other() {
    let peer = || {
        proven(
            None,
            operator("cli", &[Scope::Read]),
            Offered::default(),
            Language::Dialect,
        )
    };
    assert_eq!(
        Door::new(AuthPolicy::None, loopback()).enter(&peer()).method,
        Method::None
    );
    assert!(matches!(
        Door::new(AuthPolicy::None, remote()).knock(&peer()),
        Verdict::Refused(_)
    ));
    let mut in_browser = loopback();
    in_browser.is_direct_loopback = false;
    in_browser.browser = Some("http://localhost:1".into());
    assert!(matches!(
        Door::new(AuthPolicy::None, in_browser).knock(&peer()),
        Verdict::Refused(_)
    ));
    assert!(matches!(
        Door::new(AuthPolicy::None, remote()).knock(&dialect_node(Offered::default())),
        Verdict::Refused(_)
    ));
}

#[test]
fn the_owner_at_the_machine_needs_no_token_and_may_ask_for_less() {
    let mut origin = loopback();
    origin.address = "unix".into();
    origin.is_direct_loopback = false;
    origin.local_user = Some(1000);
    for (asked, held) in [(&[][..], &[Scope::Admin][..]), (&[Scope::Read], &[Scope::Read])] {
        let peer = proven(None, operator("cli", asked), Offered::default(), Language::Dialect);
        let admitted = Door::new(token_mode(), origin.clone()).enter(&peer);
        assert_eq!(admitted.principal.scopes(), &scopes(held));
        assert_eq!(admitted.method, Method::LocalUser);
    }
    let node = proven(None, node_claims(&[]), Offered::default(), Language::Dialect);
    assert!(matches!(
        Door::new(token_mode(), origin).knock(&node),
        Verdict::Refused(_)
    ));
}

#[test]
fn a_proxys_user_holds_at_most_what_the_rules_say() {
    let rules = ProxyRules {
        allow_users: vec!["ada".into()],
        scopes: scopes(&[Scope::Write]),
        browsers: None,
    };
    let knock = |user: Option<&str>| {
        let mut origin = remote();
        origin.proxy_user = user.map(str::to_owned);
        let claims = operator("openclaw-control-ui", &[Scope::Read, Scope::Admin]);
        let peer = proven(None, claims, with_token(SECRET), Language::Dialect);
        Door::new(AuthPolicy::TrustedProxy(rules.clone()), origin).knock(&peer)
    };
    let Verdict::Admitted(admitted) = knock(Some("ada")) else {
        panic!("on the list")
    };
    assert_eq!(admitted.principal.scopes(), &scopes(&[Scope::Read]));
    assert!(matches!(knock(Some("eve")), Verdict::Refused(_)));
    let Verdict::Refused(refusal) = knock(None) else {
        panic!("nobody vouched")
    };
    assert_eq!(code(&refusal), "AUTH_IDENTITY_HEADER_REQUIRED");
}

/// What comes of a device that a proxy passes on for this user.
fn passed_on(door: &mut Door, user: &str, claims: Claims) -> Verdict {
    door.origin.proxy_user = Some(user.to_owned());
    door.knock(&proven(Some(1), claims, Offered::default(), Language::Dialect))
}

#[test]
fn a_proxys_user_brings_a_browser_in_for_what_was_configured_and_nothing_else() {
    let rules = ProxyRules {
        allow_users: vec!["ada".into()],
        scopes: scopes(&[Scope::Write]),
        browsers: Some(scopes(&[Scope::Read, Scope::Write])),
    };
    let door = || Door::new(AuthPolicy::TrustedProxy(rules.clone()), remote());
    let with_mode = |mode: &str, asked: &[Scope]| {
        let mut claims = operator("openclaw-control-ui", asked);
        claims.client.mode = mode.into();
        claims
    };
    let mut first = door();
    let asked = [Scope::Read, Scope::Admin, Scope::Approvals];
    let Verdict::Admitted(admitted) = passed_on(&mut first, "ada", with_mode("webchat", &asked)) else {
        panic!("a new browser of a user who is vouched for")
    };
    assert_eq!(admitted.principal.scopes(), &scopes(&[Scope::Read]));
    let wider = passed_on(&mut first, "ada", with_mode("webchat", &[Scope::Write]));
    assert!(matches!(&wider, Verdict::Admitted(admitted) if admitted.principal.scopes().give(Scope::Write)));
    let record = first.book.record(key(1).id).expect("is in");
    assert!(!record.role(Role::Operator).expect("is in").scopes.give(Scope::Admin));
    assert_eq!(record.approved_via, crate::book::ApprovedVia::TrustedProxy);

    let node = dialect_node(Offered::default());
    let is_asked = |verdict: &Verdict| matches!(verdict, Verdict::Waiting(_));
    assert!(
        is_asked(&passed_on(&mut door(), "ada", with_mode("cli", &asked))),
        "no browser"
    );
    assert!(is_asked(&passed_on(&mut door(), "ada", node.claims.clone())), "a node");
    assert!(
        is_asked(&passed_on(&mut first, "ada", node.claims.clone())),
        "a browser that becomes a node"
    );
    assert!(matches!(
        passed_on(&mut door(), "eve", with_mode("webchat", &asked)),
        Verdict::Refused(_)
    ));
    let closed = ProxyRules {
        browsers: None,
        ..rules.clone()
    };
    let mut closed = Door::new(AuthPolicy::TrustedProxy(closed), remote());
    assert!(is_asked(&passed_on(&mut closed, "ada", with_mode("webchat", &asked))));
}

#[test]
fn a_setup_code_that_does_not_exist_is_called_so() {
    let offered = Offered {
        bootstrap_token: secret("x"),
        ..Offered::default()
    };
    let refusal = Door::new(token_mode(), remote()).refuse(&dialect_node(offered));
    assert_eq!(code(&refusal), "AUTH_BOOTSTRAP_TOKEN_INVALID");
}

#[test]
fn the_principal_of_a_device_dies_with_its_grant() {
    let mut door = Door::new(token_mode(), remote());
    let peer = native_node(Offered::default());
    door.pair(&peer);
    let principal = door.enter(&peer).principal;
    assert!(door.book.is_current(&principal));
    let remove = crate::access::ChangeDevice { device: key(1).id };
    let admin: Arc<Principal> = holding(&[Scope::Admin]);
    let granted = decide(&admin, remove, &Policy::default(), 0).expect("an administrator");
    door.book.remove(&granted, None, 2000).expect("removed");
    assert!(!door.book.is_current(&principal));
}

#[test]
fn each_policy_is_named_as_in_the_configuration() {
    let secret = || SecretHash::of(&SECRET.to_owned().into());
    let policies = [
        AuthPolicy::None,
        AuthPolicy::Token(secret()),
        AuthPolicy::Password(secret()),
        AuthPolicy::TrustedProxy(ProxyRules::default()),
    ];
    let words = policies.each_ref().map(AuthPolicy::as_str);
    assert_eq!(words, ["none", "token", "password", "trusted-proxy"]);
}
