//! A bad network on one machine: a proxy on the loopback address, for TCP and UDP on one port number, that delays, drops, doubles,
//! reorders, halves and cuts what goes through it. The kernel's own means for that are not everywhere, and need root.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::chance::Chance;

/// Chunks of a stream, or datagrams, that are on their way at once in one direction. More wait (streams) or are lost (datagrams).
const UNDER_WAY: usize = 1024;

/// The largest datagram.
const DATAGRAM: usize = 64 * 1024;

/// What the network does. The default is a fine day.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Weather {
    /// How long everything takes.
    pub delay: Duration,
    /// How much longer it may take; datagrams overtake one another by it.
    pub jitter: Duration,
    /// Datagrams lost, of a thousand.
    pub loss: u64,
    /// Datagrams that come twice, of a thousand.
    pub doubled: u64,
    /// Nothing gets through to the gateway: streams wait, datagrams are lost.
    pub is_up_blocked: bool,
    /// Nothing gets through from the gateway.
    pub is_down_blocked: bool,
    /// No datagram gets through, as in many a hotel.
    pub is_udp_blocked: bool,
}

impl Weather {
    /// Nothing gets through either way.
    pub fn partition() -> Self {
        Self {
            is_up_blocked: true,
            is_down_blocked: true,
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// The proxy; it ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    /// Counts cuts: a stream that began before the last one ends.
    cuts: watch::Sender<u64>,
    /// Counts moves: datagrams leave from another address after each.
    moves: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Sky {
    gateway: SocketAddr,
    weather: watch::Receiver<Weather>,
    cuts: watch::Receiver<u64>,
    moves: watch::Receiver<u64>,
    chance: Arc<std::sync::Mutex<Chance>>,
}

impl Proxy {
    /// Listens on a free port and passes on to this port of the loopback address.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(gateway: u16, chance: Chance) -> Self {
        let (listener, socket) = both_on_one_port().await;
        let port = listener.local_addr().expect("a bound listener").port();
        let (weather, cuts, moves) = (
            watch::Sender::default(),
            watch::Sender::default(),
            watch::Sender::default(),
        );
        let sky = Sky {
            gateway: (Ipv4Addr::LOCALHOST, gateway).into(),
            weather: weather.subscribe(),
            cuts: cuts.subscribe(),
            moves: moves.subscribe(),
            chance: Arc::new(std::sync::Mutex::new(chance)),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(streams(listener, sky.clone()));
        tasks.spawn(datagrams(Arc::new(socket), sky));
        Self {
            port,
            weather,
            cuts,
            moves,
            _tasks: tasks,
        }
    }

    /// The port to dial in place of the gateway's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the weather, for what is under way too.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Ends every stream without a word, and forgets every path of datagrams.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
        self.move_away();
    }

    /// From now on datagrams reach the gateway from other addresses, as when a phone leaves the house.
    pub fn move_away(&self) {
        self.moves.send_modify(|moves| *moves += 1);
    }
}

async fn both_on_one_port() -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        if let Ok(socket) = UdpSocket::bind(address).await {
            return (listener, socket);
        }
    }
    panic!("no port is free for TCP and UDP both");
}

impl Sky {
    fn now(&self) -> Weather {
        *self.weather.borrow()
    }

    fn draw(&self) -> u64 {
        self.chance.lock().expect("nothing panics with it").draw()
    }

    fn happens(&self, of_a_thousand: u64) -> bool {
        of_a_thousand > 0 && self.draw() % 1000 < of_a_thousand
    }

    /// When something that sets out now arrives.
    fn arrival(&self) -> Instant {
        let weather = self.now();
        let jitter = u64::try_from(weather.jitter.as_micros()).unwrap_or(u64::MAX);
        let extra = if jitter == 0 { 0 } else { self.draw() % jitter };
        Instant::now() + weather.delay + Duration::from_micros(extra)
    }

    fn is_blocked(&self, way: Way) -> bool {
        is_blocked(&self.now(), way)
    }

    /// Waits until this way is open.
    async fn open(&mut self, way: Way) {
        // Fails only when the proxy has gone, and this task with it.
        let _ = self.weather.wait_for(|weather| !is_blocked(weather, way)).await;
    }
}

fn is_blocked(weather: &Weather, way: Way) -> bool {
    match way {
        Way::Up => weather.is_up_blocked,
        Way::Down => weather.is_down_blocked,
    }
}

async fn streams(listener: TcpListener, sky: Sky) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok((inside, _)) = listener.accept().await else {
            return;
        };
        open.spawn(stream(inside, sky.clone()));
    }
}

/// One connection, until either end or a cut ends it. A connection that was made in a partition is made when that is over.
async fn stream(inside: TcpStream, mut sky: Sky) {
    sky.cuts.mark_unchanged();
    let mut cuts = sky.cuts.clone();
    let carried = async {
        sky.open(Way::Up).await;
        let Ok(outside) = TcpStream::connect(sky.gateway).await else {
            return;
        };
        for socket in [&inside, &outside] {
            let _ = socket.set_nodelay(true);
        }
        let ((from_node, to_node), (from_gateway, to_gateway)) = (inside.into_split(), outside.into_split());
        tokio::select! {
            () = carry(from_node, to_gateway, Way::Up, sky.clone()) => {}
            () = carry(from_gateway, to_node, Way::Down, sky.clone()) => {}
        }
    };
    tokio::select! {
        () = carried => {}
        _ = cuts.changed() => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, mut sky: Sky) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let reading = {
        let sky = sky.clone();
        async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                if sender.send((sky.arrival(), buffer[..count].to_vec())).await.is_err() {
                    return;
                }
            }
        }
    };
    let writing = async {
        while let Some((due, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            sky.open(way).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// Where datagrams of one node leave from.
struct Path {
    outside: Arc<UdpSocket>,
    _back: JoinSet<()>,
}

async fn datagrams(inside: Arc<UdpSocket>, mut sky: Sky) {
    let paths: Mutex<HashMap<SocketAddr, Path>> = Mutex::default();
    let mut buffer = vec![0; DATAGRAM];
    let mut flights = JoinSet::new();
    loop {
        while flights.try_join_next().is_some() {}
        let (count, node) = tokio::select! {
            _ = sky.moves.changed() => {
                paths.lock().await.clear();
                continue;
            }
            Ok(received) = inside.recv_from(&mut buffer) => received,
        };
        let mut paths = paths.lock().await;
        if let std::collections::hash_map::Entry::Vacant(vacant) = paths.entry(node) {
            let Some(path) = path(inside.clone(), node, &sky).await else {
                continue;
            };
            vacant.insert(path);
        }
        let outside = paths[&node].outside.clone();
        let gateway = sky.gateway;
        fly(&mut flights, &sky, Way::Up, buffer[..count].to_vec(), outside, gateway);
    }
}

async fn path(inside: Arc<UdpSocket>, node: SocketAddr, sky: &Sky) -> Option<Path> {
    let outside = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?);
    let mut back = JoinSet::new();
    let (from, sky) = (outside.clone(), sky.clone());
    back.spawn(async move {
        let mut buffer = vec![0; DATAGRAM];
        let mut flights = JoinSet::new();
        loop {
            while flights.try_join_next().is_some() {}
            // An error is the gateway's closed port; it may open again.
            if let Ok((count, _)) = from.recv_from(&mut buffer).await {
                let inside = inside.clone();
                fly(&mut flights, &sky, Way::Down, buffer[..count].to_vec(), inside, node);
            }
        }
    });
    Some(Path { outside, _back: back })
}

/// Sends a datagram on its way: not at all, once or twice, each in its own time.
fn fly(flights: &mut JoinSet<()>, sky: &Sky, way: Way, bytes: Vec<u8>, socket: Arc<UdpSocket>, to: SocketAddr) {
    let weather = sky.now();
    if weather.is_udp_blocked || sky.is_blocked(way) || flights.len() >= UNDER_WAY {
        return;
    }
    let copies = 1 + usize::from(sky.happens(weather.doubled));
    for _ in 0..copies {
        if sky.happens(weather.loss) {
            continue;
        }
        let (due, bytes, socket, sky) = (sky.arrival(), bytes.clone(), socket.clone(), sky.clone());
        flights.spawn(async move {
            tokio::time::sleep_until(due).await;
            if !sky.is_blocked(way) {
                // A network does not say that nobody listens.
                let _ = socket.send_to(&bytes, to).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{until, within};

    async fn udp_echo() -> u16 {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = socket.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
                // The answer names the address that it was asked from.
                let answer = [&buffer[..count], from.port().to_string().as_bytes()].concat();
                let _ = socket.send_to(&answer, from).await;
            }
        });
        port
    }

    async fn tcp_echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        port
    }

    async fn client(proxy: &Proxy) -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        socket
            .connect((Ipv4Addr::LOCALHOST, proxy.port()))
            .await
            .expect("a proxy");
        socket
    }

    async fn ask(socket: &UdpSocket) -> Option<Vec<u8>> {
        let mut buffer = [0; 1500];
        socket.send(b"x").await.expect("sent");
        let answer = tokio::time::timeout(Duration::from_millis(300), socket.recv(&mut buffer)).await;
        answer.ok().map(|count| buffer[..count.expect("received")].to_vec())
    }

    #[tokio::test]
    async fn a_partition_stops_both_kinds_and_its_end_lets_streams_go_on() {
        let proxy = Proxy::start(tcp_echo().await, Chance::new(1, 1)).await;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()))
            .await
            .expect("a proxy");
        let mut byte = [0];
        stream.write_all(b"a").await.expect("sent");
        within("the echo", stream.read_exact(&mut byte)).await.expect("an echo");
        proxy.set(Weather::partition());
        stream.write_all(b"b").await.expect("taken by the kernel");
        let silence = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut byte)).await;
        assert!(silence.is_err(), "nothing comes through a partition");
        proxy.set(Weather::default());
        within("what waited", stream.read_exact(&mut byte))
            .await
            .expect("an echo");
        assert_eq!(byte, *b"b");
    }

    #[tokio::test]
    async fn a_cut_ends_streams() {
        let proxy = Proxy::start(tcp_echo().await, Chance::new(1, 2)).await;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()))
            .await
            .expect("a proxy");
        let mut byte = [0];
        stream.write_all(b"a").await.expect("sent");
        within("the echo", stream.read_exact(&mut byte)).await.expect("an echo");
        proxy.cut();
        let end = within("the end", stream.read(&mut byte)).await;
        assert!(end.is_err() || end.is_ok_and(|count| count == 0));
    }

    #[tokio::test]
    async fn datagrams_are_lost_as_often_as_asked_for() {
        let proxy = Proxy::start(udp_echo().await, Chance::new(1, 3)).await;
        let socket = client(&proxy).await;
        assert!(ask(&socket).await.is_some());
        proxy.set(Weather {
            loss: 1000,
            ..Weather::default()
        });
        assert!(ask(&socket).await.is_none());
        proxy.set(Weather {
            loss: 300,
            ..Weather::default()
        });
        until("an answer in spite of losses", async || ask(&socket).await).await;
    }

    #[tokio::test]
    async fn a_move_changes_the_address_that_the_gateway_sees() {
        let proxy = Proxy::start(udp_echo().await, Chance::new(1, 4)).await;
        let socket = client(&proxy).await;
        let before = ask(&socket).await.expect("an answer");
        assert_eq!(ask(&socket).await.as_ref(), Some(&before));
        proxy.move_away();
        let after = until("an answer from the new address", async || ask(&socket).await).await;
        assert_ne!(after, before);
    }
}
