//! Each rule broken once, and not broken.

use std::path::Path;

use super::super::load_text;

fn keys(text: &str) -> Vec<String> {
    match load_text(Path::new("atoll.json"), Some(text.to_owned()), &|_| None) {
        Ok(_) => Vec::new(),
        Err(invalid) => invalid.errors.into_iter().map(|error| error.key).collect(),
    }
}

#[test]
fn nobody_gets_in_unproven_from_outside() {
    let long = "t".repeat(32);
    let short = "t".repeat(31);
    for (gateway, expected) in [
        ("bind: 'lan'".to_owned(), vec!["gateway.auth.token"]),
        ("bind: 'auto'".to_owned(), vec!["gateway.auth.token"]),
        ("bind: 'tailnet'".to_owned(), vec!["gateway.auth.token"]),
        (format!("bind: 'lan', auth: {{token: '{short}'}}"), vec!["gateway.auth.token"]),
        (format!("bind: 'lan', auth: {{token: '{long}'}}"), vec![]),
        (format!("auth: {{token: '{short}'}}"), vec![]),
        ("auth: {mode: 'none'}".to_owned(), vec![]),
        ("bind: 'lan', auth: {mode: 'none'}".to_owned(), vec!["gateway.auth.mode"]),
        ("bind: 'lan', auth: {mode: 'password'}".to_owned(), vec!["gateway.auth.password"]),
        ("bind: 'lan', auth: {password: 'p'}".to_owned(), vec![]),
        ("auth: {password: 'p', token: 't'}".to_owned(), vec!["gateway.auth.mode"]),
        ("bind: 'custom'".to_owned(), vec!["gateway.customBindHost", "gateway.auth.token"]),
        ("bind: 'custom', customBindHost: '127.0.0.1'".to_owned(), vec![]),
        ("bind: 'custom', customBindHost: '[::1]', auth: {mode: 'none'}".to_owned(), vec![]),
        ("bind: 'custom', customBindHost: '10.0.0.1'".to_owned(), vec!["gateway.auth.token"]),
        ("bind: 'custom', customBindHost: 'example.org'".to_owned(), vec!["gateway.customBindHost", "gateway.auth.token"]),
        (
            "auth: {mode: 'trusted-proxy'}".to_owned(),
            vec!["gateway.auth.trustedProxy.userHeader", "gateway.trustedProxies"],
        ),
        (
            "bind: 'lan', trustedProxies: ['10.0.0.0/8', '::1'], auth: {mode: 'trusted-proxy', trustedProxy: {userHeader: 'x'}}"
                .to_owned(),
            vec![],
        ),
        (
            "trustedProxies: ['10.0.0.0/33', 'proxy', '1.2.3.4/x']".to_owned(),
            vec!["gateway.trustedProxies[0]", "gateway.trustedProxies[1]", "gateway.trustedProxies[2]"],
        ),
        ("tls: {certPath: 'c'}".to_owned(), vec!["gateway.tls"]),
    ] {
        assert_eq!(keys(&format!("{{gateway: {{{gateway}}}}}")), expected, "{gateway}");
    }
}

#[test]
fn a_channel_listens_to_whom_it_says() {
    for (telegram, expected) in [
        ("botToken: 'x'", vec![]),
        ("enabled: true", vec!["channels.telegram.botToken"]),
        ("enabled: false, dmPolicy: 'open'", vec![]),
        ("botToken: 'x', dmPolicy: 'open'", vec!["channels.telegram.dmPolicy"]),
        ("botToken: 'x', dmPolicy: 'open', allowFrom: ['*']", vec![]),
        (
            "botToken: 'x', dmPolicy: 'allowlist'",
            vec!["channels.telegram.allowFrom"],
        ),
        ("botToken: 'x', dmPolicy: 'allowlist', allowFrom: [5]", vec![]),
        (
            "botToken: 'x', allowFrom: [-100], groupAllowFrom: ['tg:5']",
            vec!["channels.telegram.allowFrom"],
        ),
        (
            "botToken: 'x', groupAllowFrom: ['@ann']",
            vec!["channels.telegram.groupAllowFrom"],
        ),
        (
            "botToken: 'x', groups: {'-100': {}, '*': {}, 'my group': {}}",
            vec!["channels.telegram.groups"],
        ),
        (
            "accounts: {work: {dmPolicy: 'open', botToken: 'x'}}",
            vec!["channels.telegram.accounts.work.dmPolicy"],
        ),
        (
            "botToken: 'x', defaultAccount: 'gone'",
            vec!["channels.telegram.defaultAccount"],
        ),
    ] {
        assert_eq!(
            keys(&format!("{{channels: {{telegram: {{{telegram}}}}}}}")),
            expected,
            "{telegram}"
        );
    }
}

#[test]
fn agents_are_who_they_are_said_to_be() {
    for (text, expected) in [
        ("{agents: {list: ['a', 'A']}}", vec!["agents"]),
        (
            "{agents: {list: [{id: 'a', default: true}, {id: 'b', default: true}]}}",
            vec!["agents"],
        ),
        ("{bindings: [{agentId: 'ops'}]}", vec!["bindings[0].agentId"]),
        ("{bindings: [{agentId: 'main'}]}", vec![]),
        ("{models: {providers: {mine: {}}}}", vec!["models.providers.mine.api"]),
        ("{models: {providers: {anthropic: {apiKey: 'x'}}}}", vec![]),
    ] {
        assert_eq!(keys(text), expected, "{text}");
    }
}
