//! A picture of anybody's, made small enough for a model to look at: decoded, turned upright, scaled and coded again in a process of its
//! own, which has one picture and little time. Whatever the bytes do to a decoder, it costs that picture. Nothing is written to a disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::capture::picture::{self, Frame, Picture};
use crate::group::Group;

/// What the helper is started with as its only argument.
pub const ARGUMENT: &str = "picture-helper";

/// The longest side of what comes out, pixels: the services of models scale larger ones down themselves.
pub const SIDE: u32 = 1024;

/// What comes out has fewer bytes than this; with more it is coded more coarsely.
pub const BYTES: usize = 512 * 1024;

/// A larger picture is not taken, bytes.
pub const LARGEST: u64 = 32 * 1024 * 1024;

/// A helper has this long, and half of it on the processor.
const TIME: Duration = Duration::from_secs(20);

/// Memory of a helper, bytes: the most that is decoded, twice, and the program itself.
#[cfg(unix)]
const MEMORY: u64 = 2 * 1024 * 1024 * 1024;

/// Qualities that are tried one after the other.
const QUALITIES: [u8; 4] = [82, 65, 45, 25];

/// What is repeated of a helper's words, bytes.
const WORDS: u64 = 1_000;

/// Width and height before the picture.
const HEAD: usize = 8;

/// A small JPEG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Small {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// At most [`BYTES`].
    pub jpeg: Vec<u8>,
}

/// Why there is no small picture.
#[derive(Debug, thiserror::Error)]
pub enum ShrinkError {
    /// The system refuses to start the helper.
    #[error("the picture helper does not start: {0}")]
    Start(#[from] io::Error),
    /// The bytes are no picture that is understood.
    #[error("it is {0}")]
    NoPicture(String),
    /// The helper died of them.
    #[error("its bytes broke the decoder ({0})")]
    Broke(String),
    /// The helper took too long for them.
    #[error("its bytes kept the decoder busy for too long")]
    Late,
}

/// Has a helper make the picture in `file`, JPEG or PNG, small. The bytes go from the file to the helper and never through this process.
///
/// # Errors
/// See [`ShrinkError`]; the helper is gone by then.
pub async fn shrink(file: File) -> Result<Small, ShrinkError> {
    // Still the same program after it was replaced on the disk.
    let program = if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe()?
    };
    let mut command = Command::new(program);
    command.arg(ARGUMENT).env_clear();
    run(command, file).await
}

async fn run(mut command: Command, file: File) -> Result<Small, ShrinkError> {
    command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut helper = Group::spawn(command)?;
    let (stdout, stderr) = (helper.child().stdout().take(), helper.child().stderr().take());
    let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
        return Err(io::Error::other("it has no pipes").into());
    };
    let work = async {
        let most = (HEAD + BYTES) as u64 + 1;
        let (said, words) = tokio::join!(all(stdout, most), all(stderr, WORDS));
        Ok::<_, io::Error>((said, words, helper.wait().await?))
    };
    let ended = timeout(TIME, work).await;
    let (said, words, status) = match ended {
        Ok(ended) => ended?,
        Err(_) => {
            helper.kill().await;
            return Err(ShrinkError::Late);
        }
    };
    match status.code() {
        Some(0) => small(&said).ok_or_else(|| ShrinkError::Broke("it said something without meaning".to_owned())),
        Some(1) => Err(ShrinkError::NoPicture(
            String::from_utf8_lossy(&words).trim().to_owned(),
        )),
        Some(_) | None => Err(ShrinkError::Broke(status.to_string())),
    }
}

/// What is said, up to so many bytes; the rest is swallowed, so that whoever says it can end.
async fn all(mut from: impl AsyncRead + Unpin, most: u64) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = (&mut from).take(most).read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    said
}

fn small(said: &[u8]) -> Option<Small> {
    let number = |at: usize| Some(u32::from_be_bytes(*said.get(at..)?.first_chunk()?));
    let (width, height) = (number(0)?, number(4)?);
    let jpeg = said.get(HEAD..)?;
    let is_sound = (1..=SIDE).contains(&width) && (1..=SIDE).contains(&height) && jpeg.len() <= BYTES;
    (is_sound && jpeg.starts_with(&[0xFF, 0xD8])).then(|| Small {
        width,
        height,
        jpeg: jpeg.to_vec(),
    })
}

/// The whole life of the helper: a picture from its standard input, a small one to its standard output, or why not to its standard
/// error.
pub fn main() -> ExitCode {
    bound_this_process();
    let mut bytes = Vec::new();
    let made = match io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes) {
        Ok(_) => made_small(bytes),
        Err(error) => Err(format!("not readable: {error}")),
    };
    match made {
        Ok(picture) => say(&picture).map_or(ExitCode::from(2), |()| ExitCode::SUCCESS),
        Err(words) => {
            eprintln!("{words}");
            ExitCode::FAILURE
        }
    }
}

fn say(picture: &Picture) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&picture.width.to_be_bytes())?;
    out.write_all(&picture.height.to_be_bytes())?;
    out.write_all(&picture.bytes)?;
    out.flush()
}

/// A decoder that runs wild is ended by the system, also when nobody is left to do it.
#[cfg(unix)]
fn bound_this_process() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |most| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    let _ = setrlimit(Resource::Cpu, limit(TIME.as_secs() / 2));
    let _ = setrlimit(Resource::As, limit(MEMORY));
    let _ = setrlimit(Resource::Core, limit(0));
}

#[cfg(not(unix))]
fn bound_this_process() {}

/// A small JPEG of any picture that is understood.
fn made_small(bytes: Vec<u8>) -> Result<Picture, String> {
    if bytes.len() as u64 > LARGEST {
        return Err(format!("larger than {LARGEST} bytes"));
    }
    let mut frame = match bytes.as_slice() {
        [0xFF, 0xD8, 0xFF, ..] => Frame::Jpeg(bytes),
        [0x89, b'P', b'N', b'G', ..] => Frame::Png(bytes),
        _ => return Err("neither a JPEG nor a PNG".to_owned()),
    };
    let mut side = SIDE;
    while side >= SIDE / 4 {
        for quality in QUALITIES {
            let picture = picture::fit(frame.clone(), side, quality)?;
            if picture.bytes.len() <= BYTES {
                return Ok(picture);
            }
            frame = Frame::Jpeg(picture.bytes);
        }
        side /= 2;
    }
    Err(format!(
        "a picture that has more than {BYTES} bytes however it is coded"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::{taken_at, test_picture};
    use crate::capture::preview;

    fn png(width: u32, height: u32, colour: png::ColorType, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colour);
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(pixels).expect("pixels");
        writer.finish().expect("an end");
        bytes
    }

    fn pixel(picture: &Picture) -> [u8; 3] {
        let seen = preview(&picture.bytes, 64).expect("a JPEG");
        [seen.rgb[0], seen.rgb[1], seen.rgb[2]]
    }

    #[test]
    fn a_large_picture_becomes_one_that_fits_and_still_shows_the_same() {
        let pattern = test_picture(640, 90).expect("a picture");
        let seen = preview(&pattern, 640).expect("a JPEG");
        // Three times as wide and as high.
        let rows = seen.rgb.chunks_exact(640 * 3).map(|row| {
            let wide: Vec<u8> = row
                .as_chunks::<3>()
                .0
                .iter()
                .flat_map(|pixel| pixel.repeat(3))
                .collect();
            wide.repeat(3)
        });
        let large = png(1920, 1080, png::ColorType::Rgb, &rows.flatten().collect::<Vec<_>>());
        let small = made_small(large).expect("a picture");
        assert_eq!((small.width, small.height), (1024, 576));
        assert!(small.bytes.len() <= BYTES);
        assert!(taken_at(&pattern).is_some());
        assert_eq!(taken_at(&small.bytes), taken_at(&pattern));
    }

    #[test]
    fn the_longest_side_counts_and_small_pictures_keep_their_size() {
        let tall = png(100, 3000, png::ColorType::Rgb, &vec![200; 100 * 3000 * 3]);
        let small = made_small(tall).expect("a picture");
        assert_eq!((small.width, small.height), (34, 1020));
        let little = png(3, 2, png::ColorType::Rgb, &[9; 18]);
        let same = made_small(little).expect("a picture");
        assert_eq!((same.width, same.height), (3, 2));
    }

    #[test]
    fn every_colour_of_a_png_is_understood() {
        use png::ColorType;
        let near = |seen: [u8; 3], wanted: [u8; 3]| seen.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 6);
        for (colour, pixels, wanted) in [
            (ColorType::Rgb, [200, 10, 10].repeat(64), [200, 10, 10]),
            (ColorType::Rgba, [200, 10, 10, 255].repeat(64), [200, 10, 10]),
            (ColorType::Rgba, [0, 0, 0, 0].repeat(64), [255, 255, 255]),
            (ColorType::Grayscale, [80].repeat(64), [80, 80, 80]),
            (ColorType::GrayscaleAlpha, [80, 255].repeat(64), [80, 80, 80]),
        ] {
            let picture = made_small(png(8, 8, colour, &pixels)).expect("a picture");
            assert!(near(pixel(&picture), wanted), "{colour:?}: {:?}", pixel(&picture));
        }
    }

    #[test]
    fn noise_is_coded_until_it_fits() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let pixels: Vec<u8> = (0..1024 * 1024 * 3).map(|_| noise()).collect();
        let small = made_small(png(1024, 1024, png::ColorType::Rgb, &pixels)).expect("a picture");
        assert!(small.bytes.len() <= BYTES, "{}", small.bytes.len());
    }

    #[test]
    fn what_is_no_picture_is_said_to_be_none() {
        let good = png(8, 8, png::ColorType::Rgb, &[1; 192]);
        let mut bomb = good.clone();
        bomb[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0]);
        for bytes in [
            b"".to_vec(),
            b"GIF89a".to_vec(),
            vec![0xFF, 0xD8, 0xFF, 0xD9],
            good[..40].to_vec(),
            bomb,
        ] {
            assert!(made_small(bytes.clone()).is_err(), "{bytes:?}");
        }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_helper_that_dies_or_talks_nonsense_is_one_clear_error() {
        let nothing = || File::open("/dev/null").expect("there");
        let broke = run(shell("kill -SEGV $$"), nothing()).await.expect_err("it died");
        assert!(matches!(broke, ShrinkError::Broke(_)), "{broke}");
        let nonsense = run(shell("echo hello"), nothing()).await.expect_err("no picture");
        assert!(matches!(nonsense, ShrinkError::Broke(_)), "{nonsense}");
        let refused = run(shell("echo no picture >&2; exit 1"), nothing())
            .await
            .expect_err("none");
        assert!(refused.to_string().contains("no picture"), "{refused}");
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_helper_that_never_ends_is_ended() {
        let late = run(shell("sleep 1000"), File::open("/dev/null").expect("there")).await;
        assert!(matches!(late, Err(ShrinkError::Late)), "{late:?}");
    }
}
