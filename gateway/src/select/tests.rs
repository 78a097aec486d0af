//! What each way of naming a node means.

use super::*;

fn candidate(byte: u8, name: &str, connected: bool) -> Candidate {
    Candidate {
        node: DeviceId::from_digest([byte; 32]),
        name: name.to_owned(),
        connected,
        address: format!("192.168.0.{byte}"),
        platform: "linux".to_owned(),
        caps: vec!["system".to_owned()],
        commands: vec!["system.run".to_owned()],
        open_calls: 0,
    }
}

/// A ring of five: who each is, is written in the tables of the tests.
fn ring() -> [Candidate; 5] {
    let camera = || vec!["camera".to_owned(), "device".to_owned()];
    [
        Candidate {
            open_calls: 2,
            ..candidate(0xaa, "laptop", true)
        },
        Candidate {
            platform: "android 16".to_owned(),
            caps: camera(),
            commands: vec!["camera.snap".to_owned()],
            ..candidate(0xbb, "phone", false)
        },
        Candidate {
            platform: "iOS 19.1".to_owned(),
            caps: camera(),
            commands: vec!["camera.snap".to_owned()],
            ..candidate(0xbc, "Phone 2", true)
        },
        Candidate {
            platform: "darwin".to_owned(),
            address: "10.0.0.7:40112".to_owned(),
            ..candidate(0xcc, "mac, the old one", true)
        },
        Candidate {
            open_calls: 1,
            ..candidate(0xdd, "Builder", true)
        },
    ]
}

#[test]
fn each_way_of_naming_a_node_means_this_one() {
    let all = ring();
    let full = all[1].node.to_string();
    let table = [
        ("laptop", 0),
        (" LAPTOP ", 0),
        (&full, 1),
        ("bbbb", 1),
        ("phone", 1),
        ("phone 2", 2),
        ("192.168.0.187", 1),
        ("10.0.0.7", 3),
        ("10.0.0.7:40112", 3),
        ("mac, the old one", 3),
        ("os=macos", 3),
        ("os=darwin", 3),
        ("os=ios", 2),
        ("os=Android", 1),
        ("cap=camera", 2),
        ("cap=camera,os=android", 1),
        ("cmd=camera.snap, cap=device", 2),
        ("os=linux,cmd=system.run,laptop", 0),
        ("os=linux,aaaa", 0),
        ("any", 3),
        ("any,os=linux", 4),
        ("os=linux,any", 4),
        ("any,cap=camera", 2),
        ("any,os=android", 1),
    ];
    for (asked, expected) in table {
        assert_eq!(select(Some(asked), &all), Ok(all[expected].node), "{asked}");
    }
}

#[test]
fn what_fits_nobody_or_several_is_refused_with_those_who_could_be_meant() {
    let all = ring();
    let unknown = [
        "nobody",
        "aaa",
        "os=plan9",
        "cap=",
        "cap=camera,cmd=system.run",
        "laptop,phone",
        "os",
        "",
    ];
    for asked in &unknown[..7] {
        let error = select(Some(asked), &all).expect_err(asked);
        assert!(matches!(error, SelectError::Unknown { .. }), "{asked}: {error}");
        assert!(error.to_string().contains("Builder (dddddddddd, connected)"), "{error}");
    }
    let error = select(Some("os=linux"), &all).expect_err("two").to_string();
    assert!(error.contains("laptop (aaaaaaaaaa, connected), Builder"), "{error}");
    assert!(!error.contains("phone"), "{error}");
    assert!(matches!(select(Some(""), &all), Err(SelectError::Unnamed { .. })));
}

#[test]
fn of_two_with_one_name_the_connected_one_is_meant_and_two_connected_ones_are_doubt() {
    let twins = |second| [candidate(1, "pi", true), candidate(2, "pi", second)];
    assert_eq!(select(Some("pi"), &twins(false)), Ok(twins(false)[0].node));
    let error = select(Some("pi"), &twins(true)).expect_err("two").to_string();
    assert!(error.contains("0101010101") && error.contains("0202020202"), "{error}");
    assert!(matches!(select(None, &twins(true)), Err(SelectError::Unnamed { .. })));
    assert_eq!(select(Some("x"), &[]), Err(SelectError::NoNodes));
}

#[test]
fn what_must_not_hit_another_device_is_named_exactly_or_not_at_all() {
    let all = [
        candidate(0xaa, "laptop", false),
        candidate(0xab, "laptop-2", true),
        candidate(0xac, "phone", true),
    ];
    let full = all[1].node.to_string();
    for (asked, expected) in [
        ("laptop", 0),
        ("LAPTOP-2", 1),
        (&full, 1),
        ("acac", 2),
        ("192.168.0.170", 0),
    ] {
        assert_eq!(select_certain(asked, &all), Ok(all[expected].node), "{asked}");
    }
    for asked in ["any", "any,os=linux", "os=linux"] {
        let error = select_certain(asked, &all).expect_err(asked);
        assert!(matches!(error, SelectError::Ambiguous { .. }), "{asked}: {error}");
    }
    for asked in ["a", "l", "lap", "aaa", ""] {
        let error = select_certain(asked, &all).expect_err(asked);
        assert!(matches!(error, SelectError::Unknown { .. }), "{asked}: {error}");
    }
    let twins = [candidate(1, "pi", true), candidate(2, "pi", false)];
    assert!(
        select_certain("pi", &twins).is_err(),
        "the connected one is not preferred"
    );
}

#[test]
fn any_is_always_the_same_choice() {
    let busy = |byte, calls| Candidate {
        open_calls: calls,
        ..candidate(byte, "x", true)
    };
    let mut all = vec![busy(3, 1), busy(2, 0), busy(1, 0)];
    assert_eq!(select(Some("any"), &all), Ok(all[2].node));
    all.rotate_left(1);
    assert_eq!(select(Some("any"), &all), Ok(DeviceId::from_digest([1; 32])));
    let away = [candidate(5, "b", false), candidate(6, "a", false)];
    assert_eq!(
        select(Some("any"), &away),
        Ok(away[1].node),
        "so that a call to it can wait"
    );
}

#[test]
fn a_node_that_is_called_any_does_not_catch_every_call() {
    let all = [candidate(1, "any", false), candidate(2, "b", true)];
    assert_eq!(select(Some("any"), &all), Ok(all[1].node));
}

#[test]
fn without_a_name_the_only_connected_node_is_meant() {
    let all = [candidate(1, "a", false), candidate(2, "b", true)];
    assert_eq!(select(None, &all), Ok(all[1].node));
    assert_eq!(select(None, &all[..1]), Ok(all[0].node));
}
