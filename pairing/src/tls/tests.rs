//! Both ends of TLS over a memory stream.

use std::fs;

use super::*;

async fn meet(server: &Server, host: &str, trust: Trust) -> (io::Result<Facts>, io::Result<Facts>) {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let accepted = async {
        server
            .accept(far)
            .await
            .map(|(io, facts)| (Box::new(io) as Box<dyn Io>, facts))
    };
    let connected = async {
        connect(near, host, trust)
            .await
            .map(|(io, facts)| (Box::new(io) as Box<dyn Io>, facts))
    };
    let (accepted, connected) = tokio::join!(accepted, connected);
    (accepted.map(|(_, facts)| facts), connected.map(|(_, facts)| facts))
}

fn server(seed: u8) -> (Server, Identity, Fingerprint) {
    let identity = Identity::from_seed(&[seed; 32]);
    let web = WebCertificate::ephemeral(&["localhost".into(), "127.0.0.1".into()]).unwrap();
    (Server::new(&identity, &web).unwrap(), identity, web.fingerprint())
}

#[tokio::test]
async fn a_native_client_sees_the_device_key_and_both_ends_export_the_same() {
    let (server, identity, _) = server(1);
    for trust in [Trust::AnyDevice, Trust::Device(identity.public_key())] {
        let (near, far) = meet(&server, "127.0.0.1", trust).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        assert_eq!(far.certificate_key, Some(identity.public_key()));
        assert!(near.exporter.is_some() && near.exporter == far.exporter);
        assert_eq!(near.language, Some(Language::Native));
    }
}

#[tokio::test]
async fn two_connections_never_export_the_same() {
    let (server, _, _) = server(1);
    let (first, _) = meet(&server, "127.0.0.1", Trust::AnyDevice).await;
    let (second, _) = meet(&server, "127.0.0.1", Trust::AnyDevice).await;
    assert_ne!(first.unwrap().exporter, second.unwrap().exporter);
}

#[tokio::test]
async fn another_device_key_is_refused() {
    let (server, _, _) = server(1);
    let other = Identity::from_seed(&[2; 32]).public_key();
    let (near, far) = meet(&server, "127.0.0.1", Trust::Device(other)).await;
    assert!(near.is_err() && far.is_err());
}

#[tokio::test]
async fn everybody_else_sees_the_ordinary_certificate_and_pins_it() {
    let (server, _, fingerprint) = server(1);
    let (near, far) = meet(&server, "localhost", Trust::Certificate(fingerprint)).await;
    assert_eq!(near.unwrap().language, None);
    assert_eq!(far.unwrap().certificate_key, None);
    let (near, far) = meet(&server, "localhost", Trust::Certificate(Fingerprint([0; 32]))).await;
    assert!(near.is_err() && far.is_err());
}

#[test]
fn fingerprints_are_read_in_every_usual_spelling() {
    let plain = "ab".repeat(32);
    let colons = vec!["AB"; 32].join(":");
    let expected = Fingerprint([0xab; 32]);
    for text in [
        &plain,
        &colons,
        &format!("sha256:{plain}"),
        &format!("SHA256:{colons}"),
        &format!(" {plain}\n"),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for text in ["", "ab", "sha1:abab", &plain[1..], &"zz".repeat(32)] {
        assert_eq!(text.parse::<Fingerprint>(), Err(BadFingerprint), "{text}");
    }
    assert_eq!(expected.to_string().parse(), Ok(expected));
}

#[test]
fn the_ordinary_certificate_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway-cert.pem");
    let made = WebCertificate::load_or_create(&path, &["localhost".into()]).unwrap();
    let found = WebCertificate::load_or_create(&path, &["other".into()]).unwrap();
    assert_eq!(made.fingerprint(), found.fingerprint());
}

#[test]
fn a_broken_certificate_file_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway-cert.pem");
    fs::write(&path, "nothing").unwrap();
    let error = WebCertificate::load_or_create(&path, &[]).unwrap_err();
    assert!(error.to_string().contains("gateway-cert.pem"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"nothing");
}
