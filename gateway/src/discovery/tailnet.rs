//! The name of this machine in its tailnet, as the Tailscale daemon on it says; for announcements alone.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// Where the daemon listens on Linux.
pub(super) const SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// It has answered by then, or there is no name.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest answer that is read, bytes; without the other machines of the tailnet it is short.
const ANSWER: usize = 256 * 1024;

/// None without a tailnet, or where the daemon does not answer.
pub(super) async fn name(socket: &Path) -> Option<String> {
    let asked = tokio::time::timeout(PATIENCE, ask(socket)).await;
    asked.ok()?.and_then(|status| named(&status))
}

async fn ask(socket: &Path) -> Option<Value> {
    let io = TokioIo::new(UnixStream::connect(socket).await.ok()?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    // The daemon answers to this host alone, so that no web page can ask it.
    let request = Request::get("/localapi/v0/status?peers=false")
        .header("host", "local-tailscaled.sock")
        .body(Empty::<Bytes>::new());
    // Owns the sender, so that the connection ends with it.
    let answering = async move {
        let answer = sender.send_request(request.ok()?).await.ok()?;
        Limited::new(answer.into_body(), ANSWER).collect().await.ok()
    };
    // The connection may end with the answer, which is still to be read then.
    let (_, body) = tokio::join!(connection, answering);
    let body = body?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

fn named(status: &Value) -> Option<String> {
    let name = status["Self"]["DNSName"].as_str()?.trim_end_matches('.');
    (status["BackendState"] == "Running" && !name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// What it says to a daemon that answers so.
    async fn told(status: &'static str, body: &'static str) -> Option<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("daemon.sock");
        let daemon = UnixListener::bind(&socket).expect("a socket");
        let answering = async {
            let (mut stream, _) = daemon.accept().await.expect("somebody asks");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.expect("a request"));
            }
            let asked = String::from_utf8_lossy(&asked).to_lowercase();
            assert!(
                asked.starts_with("get /localapi/v0/status?peers=false http/1.1\r\n"),
                "{asked}"
            );
            assert!(asked.contains("host: local-tailscaled.sock"), "{asked}");
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.expect("it listens");
        };
        tokio::join!(name(&socket), answering).0
    }

    #[tokio::test]
    async fn the_daemon_says_the_name_where_there_is_a_tailnet() {
        let up = r#"{"BackendState": "Running", "Self": {"DNSName": "vps.tail1234.ts.net."}}"#;
        assert_eq!(told("200 OK", up).await.as_deref(), Some("vps.tail1234.ts.net"));
        for (status, body) in [
            (
                "200 OK",
                r#"{"BackendState": "Stopped", "Self": {"DNSName": "vps.tail1234.ts.net."}}"#,
            ),
            ("200 OK", r#"{"BackendState": "Running", "Self": {"DNSName": ""}}"#),
            ("403 Forbidden", "no"),
        ] {
            assert_eq!(told(status, body).await, None, "{body}");
        }
        assert_eq!(name(Path::new("/nowhere/daemon.sock")).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("daemon.sock");
        let _daemon = UnixListener::bind(&socket).expect("a socket");
        assert_eq!(name(&socket).await, None);
    }
}
