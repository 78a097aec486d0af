//! Each refusal in the form that real clients act upon.

use super::*;
use crate::scope::Scope;

fn credential_fault(fault: CredentialFault, has_device_token: bool) -> Refusal {
    Refusal::Credential {
        fault,
        has_device_token,
    }
}

#[test]
fn each_refusal_has_the_code_and_the_close_that_clients_act_upon() {
    use CredentialFault as Fault;
    let protocol = Refusal::Protocol { lowest: 5, highest: 6 };
    let limited = Refusal::RateLimited { retry_after_ms: 7 };
    let cases = [
        (Refusal::Starting, "UNAVAILABLE", None, 1013),
        (protocol, "INVALID_REQUEST", Some("PROTOCOL_MISMATCH"), 1002),
        (Refusal::Role, "INVALID_REQUEST", None, 1008),
        (
            Refusal::Origin,
            "INVALID_REQUEST",
            Some("CONTROL_UI_ORIGIN_NOT_ALLOWED"),
            1008,
        ),
        (
            Refusal::ControlUiDevice,
            "INVALID_REQUEST",
            Some("CONTROL_UI_DEVICE_IDENTITY_REQUIRED"),
            1008,
        ),
        (
            Refusal::DeviceRequired,
            "NOT_PAIRED",
            Some("DEVICE_IDENTITY_REQUIRED"),
            1008,
        ),
        (limited, "INVALID_REQUEST", Some("AUTH_RATE_LIMITED"), 1008),
        (
            credential_fault(Fault::TokenMissing, false),
            "INVALID_REQUEST",
            Some("AUTH_TOKEN_MISSING"),
            1008,
        ),
        (
            credential_fault(Fault::DeviceTokenMismatch, false),
            "INVALID_REQUEST",
            Some("AUTH_DEVICE_TOKEN_MISMATCH"),
            1008,
        ),
        (
            Refusal::Device(DeviceFault::Stale),
            "INVALID_REQUEST",
            Some("DEVICE_AUTH_SIGNATURE_EXPIRED"),
            1008,
        ),
        (Refusal::Internal, "UNAVAILABLE", None, 1011),
    ];
    for (refusal, code, detail, close) in cases {
        let error = refusal.error();
        assert_eq!(error.code.as_str(), code, "{refusal:?}");
        assert_eq!(error.detail_code().as_deref(), detail, "{refusal:?}");
        let (number, reason) = refusal.close();
        assert_eq!(number, close, "{refusal:?}");
        assert!(reason.len() <= 120 && error.message.starts_with(&reason), "{reason}");
    }
}

#[test]
fn a_wrong_token_says_whether_the_device_has_one_of_its_own() {
    for (has, next) in [(true, "retry_with_device_token"), (false, "update_auth_credentials")] {
        let error = credential_fault(CredentialFault::TokenMismatch, has).error();
        let details = error.details.expect("details").tree();
        assert_eq!(details["code"], "AUTH_TOKEN_MISMATCH");
        assert_eq!(details["authReason"], "token_mismatch");
        assert_eq!(details["canRetryWithDeviceToken"], has);
        assert_eq!(details["recommendedNextStep"], next);
    }
    let other = credential_fault(CredentialFault::PasswordMismatch, true).error();
    assert_eq!(other.details.expect("details").tree()["canRetryWithDeviceToken"], false);
}

#[test]
fn a_protocol_mismatch_names_the_one_to_speak() {
    let error = Refusal::Protocol { lowest: 5, highest: 6 }.error();
    assert_eq!(
        error.details.expect("details").tree(),
        json!({
            "code": "PROTOCOL_MISMATCH",
            "clientMinProtocol": 5,
            "clientMaxProtocol": 6,
            "expectedProtocol": 4,
            "minimumProbeProtocol": 3,
        })
    );
}

#[test]
fn a_starting_gateway_says_when_to_come_back() {
    let error = Refusal::Starting.error();
    assert_eq!((error.retryable, error.retry_after_ms), (Some(true), Some(500)));
    assert_eq!(
        error.details.expect("details").tree(),
        json!({ "reason": "startup-sidecars" })
    );
}

#[test]
fn an_upgrade_says_what_was_approved_and_an_operator_what_it_asked_for() {
    let refusal = Refusal::Pairing(Box::new(PairingRefusal {
        reason: PairingReason::ScopeUpgrade,
        request: PairingId::new("r1").expect("an id"),
        device: DeviceId::from_digest([1; 32]),
        role: Role::Operator,
        scopes: [Scope::Admin].into_iter().collect(),
        approved_roles: vec![Role::Operator],
        approved_scopes: [Scope::Read].into_iter().collect(),
    }));
    let error = refusal.error();
    assert_eq!(error.code, ErrorCode::NotPaired);
    assert_eq!(
        error.message,
        "pairing required: device is asking for more scopes than currently approved"
    );
    let details = error.details.expect("details").tree();
    assert_eq!(details["reason"], "scope-upgrade");
    assert_eq!(details["requestedScopes"], json!(["operator.admin"]));
    assert_eq!(details["approvedRoles"], json!(["operator"]));
    assert_eq!(details["approvedScopes"], json!(["operator.read"]));
    assert_eq!(details["pauseReconnect"], false, "a real node would wait for good");
    let (_, reason) = refusal.close();
    assert!(reason.ends_with("(requestId: r1)"), "{reason}");
}

#[test]
fn a_worker_gets_no_answer() {
    let reject = Refusal::Worker.reject(&RequestId::new("1").expect("an id"));
    assert_eq!(reject.answer, None);
    assert_eq!(reject.close, Some((1008, "invalid-handshake".to_owned())));
}
