//! The command line's way to `/media`: blobs up and down, over a connection of their own beside the link. Never prints.

use std::io;
use std::path::Path;
use std::sync::Arc;

use atoll_pairing::blob::{Arrival, read_at};
use atoll_pairing::dial;
use atoll_protocol::hex;
use atoll_protocol::limits;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::client::Client;
use super::reach::Way;
use super::{CliError, Reach};
use crate::http::media::BROKEN;

/// What is read from the disk at once, bytes.
const PIECE: u64 = 256 * 1024;

/// A download that broke off is taken up again so often.
const TRIES: usize = 5;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What came of a download that broke off.
enum Broke {
    /// Another try may bring the rest.
    Off(String),
    For(CliError),
}

/// Fetches a blob into a new file at `path`, and checks it. `progress` hears how much of it is there.
pub(super) async fn download(
    reach: &Reach,
    client: &mut Client,
    (id, size): (&str, u64),
    path: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(), CliError> {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    let mut arrival = Arrival::new(file, size);
    let mut tries = 1;
    while let Err(broke) = fetch(reach, client, id, &mut arrival, &mut progress).await {
        match broke {
            Broke::For(error) => return Err(error),
            Broke::Off(why) if tries == TRIES => {
                return Err(CliError::Unreachable(format!(
                    "the download broke off {TRIES} times: {why}\nnext: try again"
                )));
            }
            Broke::Off(_) => tries += 1,
        }
    }
    let hash = arrival.finish().await.map_err(CliError::local)?;
    if hex::encode(&hash) != id {
        return Err(CliError::local("what arrived is not what was sent; try again"));
    }
    Ok(())
}

async fn fetch(
    reach: &Reach,
    client: &mut Client,
    id: &str,
    arrival: &mut Arrival,
    progress: &mut impl FnMut(u64),
) -> Result<(), Broke> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("/media/{id}"))
        .header(header::RANGE, format!("bytes={}-", arrival.offset()));
    let offset = arrival.offset();
    let response = ask(reach, client, request, none()).await?;
    match response.status() {
        StatusCode::OK if offset == 0 => {}
        StatusCode::PARTIAL_CONTENT => {}
        // An empty blob has no range, and neither has one that is here.
        StatusCode::RANGE_NOT_SATISFIABLE => return Ok(()),
        _ => return Err(Broke::For(refused(response).await)),
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Broke::Off(error.to_string()))?;
        let bytes = frame.into_data().unwrap_or_default();
        arrival
            .push(&bytes)
            .await
            .map_err(|error| Broke::For(CliError::local(error)))?;
        progress(arrival.offset());
    }
    Ok(())
}

/// The bytes of a stream from now on, for as long as they are read; why it broke off comes after them, see [`broken`].
pub(super) async fn watch(reach: &Reach, client: &mut Client, id: &str) -> Result<Incoming, CliError> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("/media/{id}"))
        .header(header::TE, "trailers");
    match ask(reach, client, request, none()).await {
        Ok(response) if response.status() == StatusCode::OK => Ok(response.into_body()),
        Ok(response) => Err(refused(response).await),
        Err(Broke::Off(why)) => Err(CliError::Unreachable(format!("the stream broke off: {why}"))),
        Err(Broke::For(error)) => Err(error),
    }
}

/// The error that a frame of a stream's body is, if it is one.
pub(super) fn broken(frame: &Frame<Bytes>) -> Option<CliError> {
    let why = frame.trailers_ref()?.get(BROKEN)?;
    let why = String::from_utf8_lossy(why.as_bytes());
    Some(CliError::Failed {
        message: format!("the stream broke off: {why}"),
        code: 1,
    })
}

/// Sends a file to the store; gives its handle. `progress` hears how much of it has left.
pub(super) async fn upload(
    reach: &Reach,
    client: &mut Client,
    path: &Path,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<String, CliError> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(CliError::Usage(format!("{} is not a file", path.display())));
    }
    let size = metadata.len();
    if size > limits::BLOB {
        return Err(CliError::Usage(format!("a blob has at most {} bytes", limits::BLOB)));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("/media?name={name}"))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, size);
    let response = match ask(reach, client, request, content(file, size, progress)).await {
        Ok(response) => response,
        Err(Broke::Off(why)) => return Err(CliError::Unreachable(format!("the upload broke off: {why}"))),
        Err(Broke::For(error)) => return Err(error),
    };
    if response.status() != StatusCode::CREATED {
        return Err(refused(response).await);
    }
    let reply = read(response).await;
    let id = reply["id"]
        .as_str()
        .ok_or_else(|| CliError::local("the gateway named no handle"))?;
    Ok(id.to_owned())
}

fn none() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn content(file: std::fs::File, size: u64, progress: impl Fn(u64) + Send + 'static) -> Body {
    let file = Arc::new(file);
    let parts = stream::try_unfold((0, progress), move |(at, progress)| {
        let file = file.clone();
        async move {
            progress(at);
            let len = (size - at).min(PIECE);
            if len == 0 {
                return Ok(None);
            }
            let want = usize::try_from(len).map_err(io::Error::other)?;
            let read = tokio::task::spawn_blocking(move || read_at(&file, at, want)).await;
            let bytes = read.map_err(io::Error::other).flatten()?;
            Ok::<_, io::Error>(Some((Frame::data(Bytes::from(bytes)), (at + len, progress))))
        }
    });
    StreamBody::new(parts).boxed_unsync()
}

/// Sends one request over a connection of its own, with a ticket of the link.
async fn ask(
    reach: &Reach,
    client: &mut Client,
    request: hyper::http::request::Builder,
    body: Body,
) -> Result<Response<Incoming>, Broke> {
    let off = |error: hyper::Error| Broke::Off(error.to_string());
    let ticket = client.call("media.ticket", json!({})).await.map_err(Broke::For)?;
    let way = Way::of(reach).map_err(Broke::For)?;
    let stream = dial::connect(&way.dial).await;
    let stream = stream.map_err(|error| Broke::For(super::reach::not_connected(&way, error)))?;
    let request = request
        .header(header::HOST, way.dial.target.authority())
        .header(
            header::AUTHORIZATION,
            format!("Bearer {}", super::output::text(&ticket, "ticket")),
        )
        .body(body)
        .map_err(|error| Broke::For(CliError::local(error)))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(off)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(off)
}

async fn refused(response: Response<Incoming>) -> CliError {
    let status = response.status();
    let reply = read(response).await;
    let message = reply.pointer("/error/message").and_then(Value::as_str);
    CliError::Failed {
        message: message.map_or_else(|| format!("the gateway answered HTTP {status}"), str::to_owned),
        code: 1,
    }
}

/// The JSON of an answer; null when it is none.
async fn read(response: Response<Incoming>) -> Value {
    let limited = http_body_util::Limited::new(response.into_body(), 64 * 1024);
    match limited.collect().await {
        Ok(body) => serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
        Err(_) => Value::Null,
    }
}
