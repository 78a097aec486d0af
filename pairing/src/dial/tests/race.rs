//! A gateway whose address leaves the pipe open: QUIC where it works, TLS WebSocket where it does not, one clear error where neither does.

use std::net::SocketAddr;

use super::*;
use crate::link::quic;

/// A gateway on one port that admits everybody, over the pipes that are open.
struct Open {
    target: Target,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn open(kinds: &[PipeKind]) -> Open {
    let web = WebCertificate::ephemeral(&["127.0.0.1".into()]).unwrap();
    let server = tls::Server::new(&identity(GATEWAY), &web).unwrap();
    let (tcp, udp) = ports(&server).await;
    let port = udp.address().unwrap().port();
    let mut tasks = Vec::new();
    if kinds.contains(&PipeKind::Wss) {
        tasks.push(tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                // A try that is given up is no reason to stop.
                if let Ok((stream, facts)) = server.accept(stream).await {
                    tokio::spawn(async move { serve(fixture::serve(stream, facts).await, Plan::Admit).await });
                }
            }
        }));
    }
    if kinds.contains(&PipeKind::Quic) {
        tasks.push(tokio::spawn(async move {
            while let Some(knock) = udp.accept().await {
                if let Ok(entry) = knock.open().await {
                    tokio::spawn(serve(entry.native().unwrap(), Plan::Admit));
                }
            }
        }));
    }
    let target = format!("atoll://127.0.0.1:{port}").parse().unwrap();
    Open { target, tasks }
}

/// A port number that is free on both.
async fn ports(server: &tls::Server) -> (TcpListener, quic::Listener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = tcp.local_addr().unwrap();
        if let Ok(udp) = quic::Listener::bind(address, server, &identity(GATEWAY)) {
            return (tcp, udp);
        }
    }
}

async fn carried_by(open: &Open, first: Option<PipeKind>) -> PipeKind {
    let dial = Dial {
        first,
        ..native(&open.target, Some(GATEWAY))
    };
    let mut dialled = super::dial(&dial, no_waiting).await.unwrap();
    ask_something(&mut dialled.link).await;
    dialled.pipe
}

#[tokio::test]
async fn quic_is_preferred_and_what_worked_last_is_kept() {
    let open = open(&[PipeKind::Quic, PipeKind::Wss]).await;
    assert_eq!(carried_by(&open, None).await, PipeKind::Quic);
    assert_eq!(carried_by(&open, Some(PipeKind::Quic)).await, PipeKind::Quic);
    assert_eq!(carried_by(&open, Some(PipeKind::Wss)).await, PipeKind::Wss);
}

/// Opens after so many milliseconds, or never.
async fn after(ms: Option<u64>) -> Result<(), DialError> {
    match ms {
        Some(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(())
        }
        None => std::future::pending().await,
    }
}

#[tokio::test(start_paused = true)]
async fn quic_may_come_300_ms_after_the_other_and_not_later() {
    const QUIC: PipeKind = PipeKind::Quic;
    const WSS: PipeKind = PipeKind::Wss;
    let place = "atoll://127.0.0.1:1".parse().unwrap();
    let dial = native(&place, None);
    for (first, quic, wss, kept, at) in [
        (None, Some(100), Some(50), QUIC, 100),
        (None, Some(50), Some(100), QUIC, 50),
        (None, Some(350), Some(60), QUIC, 350),
        (None, Some(370), Some(60), WSS, 360),
        // Datagrams are lost on the way.
        (None, None, Some(60), WSS, 360),
        (None, Some(60), None, QUIC, 60),
        // What worked last goes 300 ms ahead, and what is not QUIC waits for nobody.
        (Some(QUIC), Some(290), Some(0), QUIC, 290),
        (Some(QUIC), Some(590), Some(0), QUIC, 590),
        (Some(QUIC), None, Some(60), WSS, 660),
        (Some(WSS), Some(0), Some(290), WSS, 290),
        (Some(WSS), None, Some(60), WSS, 60),
        (Some(WSS), Some(50), Some(400), QUIC, 350),
    ] {
        let began = tokio::time::Instant::now();
        let outrun = || DialError::outrun(&dial);
        let raced = crate::dial::race::first_of(first, after(quic), after(wss), outrun).await;
        let case = format!("{first:?} {quic:?} {wss:?}");
        assert_eq!(raced.ok().map(|((), kind)| kind), Some(kept), "{case}");
        // The clock has ticks of a millisecond.
        let late = began.elapsed().as_millis() as u64;
        assert!((at..=at + 2).contains(&late), "{case}: {late}");
    }
}

#[tokio::test]
async fn where_one_pipe_is_closed_the_other_carries_the_link_in_a_moment() {
    for kind in [PipeKind::Quic, PipeKind::Wss] {
        let open = open(&[kind]).await;
        for first in [None, Some(PipeKind::Quic), Some(PipeKind::Wss)] {
            let began = Instant::now();
            assert_eq!(carried_by(&open, first).await, kind, "{first:?} first");
            assert!(began.elapsed() < open::STEP, "{:?}", began.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_neither_pipe_opens_the_error_names_both_attempts() {
    let open = open(&[]).await;
    let error = super::dial(&native(&open.target, None), no_waiting).await.unwrap_err();
    assert!(matches!(error, DialError::Neither { .. }), "{error}");
    let text = error.to_string();
    for words in ["over QUIC: ", "over TLS WebSocket: ", "took too long", "cannot reach"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(error.is_retryable() && !error.is_wrong_gateway());
}

#[tokio::test]
async fn another_gateway_than_the_pinned_one_is_noticed_on_both_pipes() {
    let open = open(&[PipeKind::Quic, PipeKind::Wss]).await;
    let error = super::dial(&native(&open.target, Some(9)), no_waiting)
        .await
        .unwrap_err();
    assert!(error.is_wrong_gateway(), "{error}");
}

#[tokio::test]
async fn a_pipe_that_is_named_is_the_only_one_that_is_tried() {
    let open = open(&[PipeKind::Quic, PipeKind::Wss]).await;
    let place = open.target.place();
    for (scheme, kind) in [("quic", PipeKind::Quic), ("wss", PipeKind::Wss)] {
        let target = format!("{scheme}://{place}").parse().unwrap();
        let dialled = super::dial(&native(&target, Some(GATEWAY)), no_waiting).await.unwrap();
        assert_eq!(dialled.pipe, kind);
    }
}

#[tokio::test]
async fn the_other_language_is_not_spoken_over_quic() {
    for address in ["atoll://127.0.0.1:1", "quic://127.0.0.1:1"] {
        let target = address.parse().unwrap();
        let error = super::dial(&dialect(&target, None), no_waiting).await.unwrap_err();
        assert!(
            matches!(error, DialError::NativeOnly { .. }) && error.is_fatal(),
            "{error}"
        );
    }
}
