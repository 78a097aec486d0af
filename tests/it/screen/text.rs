//! A text that nobody else knows, on a real screen: what nodes give of it can be read, letter by letter.

use atoll_capabilities::capture::Preview;
use atoll_tests::mesh::Pipe;
use atoll_tests::xserver::{Letters, XServer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::moving::picture_at;
use super::{beside, exact, pixel, snap};
use crate::camera::Studio;

/// Where the text begins.
const PLACE: (i16, i16) = (120, 90);

/// How many pixels of a picture are not what the text has there: ink is bright, everything else is dark.
fn differences(picture: &Preview, letters: &Letters) -> usize {
    let is_bright = |(x, y)| {
        let colour = pixel(picture, x, y);
        [16, 8, 0].iter().map(|shift| colour >> shift & 0xFF).sum::<u32>() > 3 * 0x80
    };
    let (left, top) = (PLACE.0.unsigned_abs().into(), PLACE.1.unsigned_abs().into());
    let (width, height) = (u32::from(letters.width), u32::from(letters.height));
    let places = (top..top + height).flat_map(|y| (left..left + width).map(move |x| (x, y)));
    let seen = places.map(is_bright);
    seen.zip(&letters.ink).filter(|(seen, ink)| seen != *ink).count()
}

/// The picture in the middle of a recording.
async fn film(studio: &mut Studio) -> Preview {
    let asked = json!({"durationMs": 1_000, "fps": 10, "includeAudio": false});
    let mut result = studio.invoke("screen.record", asked, 60_000).await.expect("a film");
    let bytes = STANDARD.decode(result["base64"].take().as_str().expect("base64"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("film.mp4");
    std::fs::write(&path, bytes.expect("base64")).expect("room");
    picture_at(&path, "0.5").await
}

async fn photo(studio: &mut Studio, asked: Value) -> Preview {
    let (_, picture) = snap(studio, asked).await.expect("a picture");
    picture
}

#[tokio::test]
async fn a_text_on_the_screen_can_be_read_in_pictures_and_recordings_of_it() {
    let server = XServer::start(&["640x480x24"]).await;
    let painter = server.painter();
    painter.point(0, 600, 440);
    painter.paint(0, (0, 0, 640, 480), 0x20_40_60);
    let random = uuid::Uuid::new_v4().simple().to_string();
    let planted = painter.letters(&random[..16]);
    let other = painter.letters(&random[16..]);
    let ink = planted.ink.iter().filter(|is_ink| **is_ink).count();
    assert!(ink > 100, "{ink} pixels of {planted:?}");
    let mut studio = beside(Pipe::Quic, &server).await;

    for asked in [exact(), json!({"quality": 0.9})] {
        let before = photo(&mut studio, asked).await;
        assert_eq!(differences(&before, &planted), ink, "nothing is written there yet");
    }
    painter.write(0, PLACE, &planted);
    for asked in [exact(), json!({"quality": 0.9})] {
        let picture = photo(&mut studio, asked.clone()).await;
        assert_eq!(differences(&picture, &planted), 0, "{asked}");
        assert!(differences(&picture, &other) > 50, "another text is another picture");
    }
    let recorded = film(&mut studio).await;
    assert_eq!(differences(&recorded, &planted), 0);
    assert!(differences(&recorded, &other) > 50);

    painter.paint(0, (0, 0, 640, 480), 0x20_40_60);
    assert_eq!(
        differences(&film(&mut studio).await, &planted),
        ink,
        "it is covered again"
    );
    studio.is_tidy().await;
}
