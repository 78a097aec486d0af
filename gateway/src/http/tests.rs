//! Requests as they come, and what the listener makes of them.

use super::*;

fn policy() -> HttpPolicy {
    HttpPolicy {
        port: 18789,
        allowed_origins: vec!["https://ring.example".to_owned()],
        trusted_proxies: vec![Network::parse("10.0.0.9").expect("an address")],
        proxy_user_header: Some("x-user".to_owned()),
        proxy_required_headers: vec!["x-proxy-proof".to_owned()],
        proxy_on_loopback: false,
        real_ip: false,
        host_name: "vps".to_owned(),
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn from(address: &str, pairs: &[(&'static str, &'static str)]) -> Result<Origin, Refusal> {
    let peer = Peer::Tcp(SocketAddr::new(address.parse().expect("an address"), 4000));
    check(&headers(pairs), peer, &policy())
}

const WS: (&str, &str) = ("upgrade", "websocket");

#[test]
fn a_forwarding_header_means_remote_and_only_a_listed_proxy_may_send_one() {
    assert_eq!(
        from("127.0.0.1", &[WS, ("x-forwarded-for", "1.2.3.4")]),
        Err(Refusal::Forwarded)
    );
    let proxied = from("10.0.0.9", &[WS, ("x-forwarded-for", "1.2.3.4")]).expect("listed");
    assert!(!proxied.is_direct_loopback);
    assert_eq!((proxied.proxy_user, proxied.address.as_str()), (None, "1.2.3.4"));
}

#[test]
fn a_proxy_on_this_machine_names_users_only_where_it_may() {
    let request = headers(&[WS, ("x-user", "ann"), ("x-proxy-proof", "1"), ("host", "ring.example")]);
    let peer = Peer::Tcp(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 4000));
    for proxy_on_loopback in [false, true] {
        let listed = HttpPolicy {
            trusted_proxies: vec![Network::parse("127.0.0.1").expect("an address")],
            proxy_on_loopback,
            ..policy()
        };
        let origin = check(&request, peer, &listed).expect("listed");
        assert_eq!(origin.proxy_user.is_some(), proxy_on_loopback);
    }
}

#[test]
fn a_network_holds_the_addresses_that_begin_like_it() {
    let table = [
        ("10.0.0.0/8", "10.255.1.2", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("10.0.0.9", "10.0.0.9", true),
        ("10.0.0.9", "10.0.0.8", false),
        ("0.0.0.0/0", "1.2.3.4", true),
        ("0.0.0.0/0", "::1", false),
        ("fd00::/8", "fd12::1", true),
        ("fd00::/8", "fe00::1", false),
    ];
    for (network, address, expected) in table {
        let network = Network::parse(network).expect("a network");
        assert_eq!(
            network.contains(address.parse().expect("an address")),
            expected,
            "{network:?} {address}"
        );
    }
    assert!(Network::parse("10.0.0.0/33").is_none() && Network::parse("ten").is_none());
}

#[test]
fn a_proxy_user_needs_the_listed_proxy_and_every_required_header() {
    let all = [WS, ("x-user", "ann"), ("x-proxy-proof", "1")];
    assert_eq!(
        from("10.0.0.9", &all).expect("listed").proxy_user.as_deref(),
        Some("ann")
    );
    assert_eq!(from("10.0.0.9", &all[..2]).expect("listed").proxy_user, None);
    assert_eq!(from("10.0.0.8", &all).expect("plain").proxy_user, None);
}

#[test]
fn a_page_of_another_origin_is_refused_even_on_loopback() {
    for origin in [
        "http://evil.example",
        "null",
        "http://localhost:18790",
        "http://localhost",
    ] {
        let refused = from("127.0.0.1", &[WS, ("origin", origin), ("host", "localhost:18789")]);
        assert_eq!(refused, Err(Refusal::Origin), "{origin}");
    }
    let own = from(
        "127.0.0.1",
        &[WS, ("origin", "http://localhost:18789"), ("host", "localhost:18789")],
    );
    assert!(!own.expect("own page").is_direct_loopback);
    assert!(
        from(
            "1.2.3.4",
            &[WS, ("origin", "https://ring.example"), ("host", "ring.example")]
        )
        .is_ok()
    );
}

#[test]
fn the_gateways_own_page_may_speak_to_it_under_every_name_that_is_its_own() {
    let page = |origin, host| from("192.168.0.7", &[WS, ("origin", origin), ("host", host)]);
    for (origin, host) in [
        ("https://192.168.0.2:18789", "192.168.0.2:18789"),
        ("https://vps.local:18789", "vps.local:18789"),
        ("https://[fd00::2]:18789", "[fd00::2]:18789"),
    ] {
        assert!(page(origin, host).is_ok(), "{origin}");
    }
    assert_eq!(
        page("https://192.168.0.3:18789", "192.168.0.2:18789"),
        Err(Refusal::Origin)
    );
    assert_eq!(page("https://192.168.0.2", "192.168.0.2:18789"), Err(Refusal::Origin));
    let pointed = page("http://evil.example:18789", "evil.example:18789");
    assert_eq!(pointed, Err(Refusal::Host), "its name leads here, and is not ours");
}

#[test]
fn a_name_that_was_pointed_at_this_machine_is_refused() {
    assert_eq!(from("127.0.0.1", &[("host", "evil.example:18789")]), Err(Refusal::Host));
    for host in [
        "localhost:18789",
        "127.0.0.1",
        "[::1]:18789",
        "VPS",
        "vps.local:18789",
        "ring.example",
    ] {
        assert!(from("127.0.0.1", &[("host", host)]).is_ok(), "{host}");
    }
}

#[test]
fn a_proxy_on_this_machine_is_not_direct_even_if_it_does_not_say_what_it_is() {
    let plain = from("127.0.0.1", &[WS, ("host", "ring.example")]).expect("a program may say so");
    assert!(!plain.is_direct_loopback);
    let listed = HttpPolicy {
        trusted_proxies: vec![Network::parse("127.0.0.1").expect("an address")],
        ..policy()
    };
    let peer = Peer::Tcp(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 4000));
    let origin = check(&headers(&[WS, ("host", "127.0.0.1:18789")]), peer, &listed).expect("listed");
    assert!(!origin.is_direct_loopback);
}

#[test]
fn a_secret_in_an_address_is_refused_wherever_it_stands() {
    for (query, expected) in [
        (None, false),
        (Some("session=main"), false),
        (Some("token=x"), true),
        (Some("a=1&Password=x"), true),
        (Some("mytoken=x"), false),
    ] {
        assert_eq!(has_secret(query), expected, "{query:?}");
    }
}

#[test]
fn a_program_on_loopback_is_direct() {
    assert!(
        from("127.0.0.1", &[WS, ("host", "localhost:18789")])
            .expect("a program")
            .is_direct_loopback
    );
    assert!(from("::ffff:127.0.0.1", &[WS]).expect("a program").is_direct_loopback);
    assert!(!from("192.168.1.2", &[WS]).expect("a program").is_direct_loopback);
}
