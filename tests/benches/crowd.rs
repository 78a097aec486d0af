//! Many nodes in one process: the node daemon itself for each of them, with its own key, state folder, link, heartbeat, figures and
//! pauses between tries. All that they do not have is a process of their own.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_node::ask::Ways;
use atoll_node::config::{Config, Dialect, QUIC_PAUSE};
use atoll_node::daemon::{self, Notice};
use atoll_pairing::dial::Target;
use atoll_tests::program::Program;
use atoll_tests::wait::within_time;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::echo::{begin_with, said, say};

/// Each has a socket, and a file that keeps its folder.
const MOST: usize = 2_500;

/// glibc: each QUIC socket has three megabytes of room for what comes, of which a node uses hardly any. Taken from the system one by one,
/// they cost only what is used; else ten thousand nodes take all the memory that there is.
const LAZY: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "262144");

/// How long all nodes of a process may take to be linked.
const LONG: Duration = Duration::from_secs(300);

/// A new round begins: every node has to link anew.
const ANEW: u8 = b'n';
/// The round that has begun is waited for.
const AGAIN: u8 = b'w';
/// The answers.
const BEGUN: u8 = b'b';
const ALL: u8 = b'a';

/// The folder of one node of a crowd.
pub(crate) fn folder(crowd: &Path, number: usize) -> PathBuf {
    crowd.join(number.to_string())
}

/// Nodes in as many processes as it takes. They end with it.
pub(crate) struct Crowd(Vec<Part>);

struct Part {
    _program: Program,
    port: u16,
}

impl Crowd {
    /// Nodes with these numbers, whose keys are in their folders, dial this address.
    pub(crate) async fn start(address: &str, folder: &Path, numbers: Range<usize>) -> Self {
        let mut parts = Vec::new();
        for first in numbers.clone().step_by(MOST) {
            let last = numbers.end.min(first + MOST);
            let (folder, first, last) = (folder.display().to_string(), first.to_string(), last.to_string());
            let program = begin_with(&["nodes", address, &folder, &first, &last], &[LAZY]);
            let port = said(&program, "listening on ").await;
            parts.push(Part {
                _program: program,
                port,
            });
        }
        Self(parts)
    }

    /// Returns when every node has been linked once at least.
    pub(crate) async fn linked(&self) {
        let mut waits = Vec::new();
        for part in &self.0 {
            waits.push(part.say(AGAIN).await);
        }
        hear_all(waits).await;
    }

    /// From the return of this on, every node has to link anew; the future's end is when all of them are linked.
    pub(crate) async fn linked_anew(&self) -> impl Future<Output = ()> + use<> {
        let mut waits = Vec::new();
        for part in &self.0 {
            waits.push(part.say(ANEW).await);
        }
        hear_all(waits)
    }
}

impl Part {
    async fn say(&self, word: u8) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("a living part");
        stream.write_u8(word).await.expect("a living part");
        assert_eq!(stream.read_u8().await.expect("a living part"), BEGUN);
        stream
    }
}

async fn hear_all(waits: Vec<TcpStream>) {
    for mut wait in waits {
        let heard = within_time("all nodes to be linked", LONG, wait.read_u8()).await;
        assert_eq!(heard.expect("a living part"), ALL);
    }
}

/// Who has been linked in this round.
struct Round {
    number: u64,
    /// The round in which each node was linked last.
    linked: Vec<u64>,
    missing: usize,
}

impl Round {
    fn begin(&mut self) {
        self.number += 1;
        self.missing = self.linked.len();
    }
}

/// Holds the nodes of a part for ever.
pub(crate) async fn hold(address: &str, crowd: &Path, numbers: Range<usize>) {
    take_descriptors();
    let count = numbers.len();
    let round = Arc::new(Mutex::new(Round {
        number: 1,
        linked: vec![0; count],
        missing: count,
    }));
    let missing = Arc::new(watch::Sender::new(count));
    let gateway: Target = address.parse().expect("an address");
    for (index, number) in numbers.enumerate() {
        let (round, missing) = (round.clone(), missing.clone());
        let notify = move |notice: Notice| {
            if let Notice::Connected { .. } = notice {
                let mut round = round.lock().unwrap_or_else(PoisonError::into_inner);
                if round.linked[index] < round.number {
                    round.linked[index] = round.number;
                    round.missing -= 1;
                    missing.send_replace(round.missing);
                }
            }
        };
        tokio::spawn(node(config(gateway.clone(), folder(crowd, number)), notify));
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    say("listening on", listener.local_addr().expect("a bound address").port());
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, round.clone(), missing.clone()));
    }
}

async fn node(config: Config, notify: impl FnMut(Notice) + Send + 'static) {
    let name = config.name.clone();
    let ended = daemon::run(config, CancellationToken::new(), notify).await;
    eprintln!("node {name} ended: {ended:?}");
    std::process::exit(1);
}

fn config(gateway: Target, state_dir: PathBuf) -> Config {
    Config {
        gateway,
        found: None,
        dialect: Dialect::Native,
        token: None,
        name: state_dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        state_dir,
        tls_fingerprint: None,
        quic_pause: QUIC_PAUSE,
        ways: Ways::default(),
    }
}

async fn answer(mut stream: TcpStream, round: Arc<Mutex<Round>>, missing: Arc<watch::Sender<usize>>) {
    let word = stream.read_u8().await.expect("a word");
    if word == ANEW {
        let mut round = round.lock().unwrap_or_else(PoisonError::into_inner);
        round.begin();
        missing.send_replace(round.missing);
    }
    stream.write_u8(BEGUN).await.expect("a living bench");
    let mut all = missing.subscribe();
    all.wait_for(|missing| *missing == 0).await.expect("a sender held here");
    stream.write_u8(ALL).await.expect("a living bench");
}

/// As many as this process may have.
fn take_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).expect("no more than may be had");
}
