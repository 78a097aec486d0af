//! Both ends of TLS over a memory stream.

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

#[tokio::test]
async fn another_certificate_is_shown_to_whoever_connects_from_then_on() {
    let (server, identity, first) = server(1);
    let other = WebCertificate::ephemeral(&["localhost".into()]).unwrap();
    server.show(&other);
    let (near, far) = meet(&server, "localhost", Trust::Certificate(other.fingerprint())).await;
    assert!(near.is_ok() && far.is_ok());
    let (near, far) = meet(&server, "localhost", Trust::Certificate(first)).await;
    assert!(near.is_err() && far.is_err());
    let (near, _) = meet(&server, "localhost", Trust::Device(identity.public_key())).await;
    assert!(near.is_ok(), "the device key stays");
}

#[test]
fn a_lasting_certificate_is_made_once_in_two_files_that_fit() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let now = 1_795_000_000_000;
    WebCertificate::make_lasting(&["localhost".into()], now, &chain, &key).unwrap();
    let made = WebCertificate::from_pem_files(&chain, &key).unwrap();
    assert!(made.not_after_ms().unwrap() > now + 3_000 * 24 * 60 * 60 * 1000);
    assert!(
        WebCertificate::make_lasting(&[], now, &chain, &key).is_err(),
        "nothing is replaced"
    );
    assert_eq!(
        WebCertificate::from_pem_files(&chain, &key).unwrap().fingerprint(),
        made.fingerprint()
    );
}
