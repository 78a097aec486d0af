//! The test pattern: a picture with the time in it, for people and for programs. It is chosen only by its id or in `node.json`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::capture::picture::{Format, Frame, Rgb, Size, decode, finish};

/// What callers name it by.
pub(crate) const ID: &str = "test";

const WIDTH: usize = 640;
const HEIGHT: usize = 360;

/// The row of bits at the top: 32 of the time, then 8 of their sum.
const BITS: usize = 40;
const BIT: usize = WIDTH / BITS;

/// Side of a dot of the digits, pixels.
const DOT: usize = 12;

/// Five rows of three dots each, from the top, for 0 to 9 and the colon.
const DIGITS: [[u8; 5]; 11] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 7, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 2, 2, 2],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
    [0, 2, 0, 2, 0],
];

const COLOURS: [[u8; 3]; 8] = [
    [235, 235, 235],
    [235, 235, 16],
    [16, 235, 235],
    [16, 235, 16],
    [235, 16, 235],
    [235, 16, 16],
    [16, 16, 235],
    [40, 40, 40],
];

/// The picture of this moment.
pub(crate) fn now() -> Frame {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Frame::Rgb(at(since.as_millis() as u32))
}

/// The picture of this moment as a camera gives it, JPEG of a quality from 1 to 100, no more than `max_width` pixels wide: the bare work behind
/// `camera.snap` and a picture of `camera.stream`.
///
/// # Errors
/// It cannot be coded.
pub fn test_picture(max_width: u32, quality: u8) -> Result<Vec<u8>, String> {
    let size = Size {
        max_width,
        quality,
        is_exact: false,
        format: Format::Jpeg,
    };
    finish(now(), size).map(|picture| picture.bytes)
}

/// The picture of a moment: Unix milliseconds, of which the lowest 32 bits count.
fn at(ms: u32) -> Rgb {
    let mut canvas = vec![0; WIDTH * HEIGHT * 3];
    let bits = u64::from(ms) << 8 | u64::from(sum(ms));
    let shift = ms as usize / 20;
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let colour = if y < 2 * BIT {
                let bit = bits >> (BITS - 1 - x / BIT) & 1;
                [bit as u8 * 255; 3]
            } else {
                COLOURS[((x + shift) % WIDTH) * COLOURS.len() / WIDTH]
            };
            canvas[(y * WIDTH + x) * 3..][..3].copy_from_slice(&colour);
        }
    }
    write_time(&mut canvas, ms);
    Rgb {
        width: WIDTH as u32,
        height: HEIGHT as u32,
        bytes: canvas,
    }
}

/// Minutes, seconds and hundredths, white on black.
fn write_time(canvas: &mut [u8], ms: u32) {
    let (minutes, seconds, hundredths) = (ms / 60_000 % 60, ms / 1_000 % 60, ms / 10 % 100);
    let signs = [
        minutes / 10,
        minutes % 10,
        10,
        seconds / 10,
        seconds % 10,
        10,
        hundredths / 10,
        hundredths % 10,
    ];
    let (left, top) = ((WIDTH - signs.len() * 4 * DOT) / 2, 150);
    for y in 0..7 * DOT {
        for x in 0..signs.len() * 4 * DOT {
            let (sign, column, row) = (x / (4 * DOT), x / DOT % 4, y / DOT);
            let is_inside = column < 3 && (1..6).contains(&row);
            let dots = DIGITS[signs[sign] as usize];
            let is_lit = is_inside && dots[row - 1] >> (2 - column) & 1 == 1;
            let place = ((top + y) * WIDTH + left + x) * 3;
            canvas[place..place + 3].fill(if is_lit { 255 } else { 0 });
        }
    }
}

fn sum(ms: u32) -> u8 {
    ms.to_be_bytes()
        .iter()
        .fold(0xA5, |sum, byte| sum.rotate_left(3) ^ byte)
}

/// When a picture of the test pattern was taken, of whatever size it is: the lowest 32 bits of Unix milliseconds. None for any other picture.
pub fn taken_at(jpeg: &[u8]) -> Option<u32> {
    let picture = decode(jpeg).ok()?;
    let row = picture.height as usize * BIT / HEIGHT;
    let mut bits = 0_u64;
    for bit in 0..BITS {
        let column = (2 * bit + 1) * picture.width as usize / (2 * BITS);
        let green = *picture.bytes.get((row * picture.width as usize + column) * 3 + 1)?;
        bits = bits << 1 | u64::from(green > 127);
    }
    let ms = u32::try_from(bits >> 8).ok()?;
    (sum(ms) == bits as u8).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_can_be_read_from_a_picture_of_any_size() {
        for (ms, width, quality) in [
            (0, 640, 90),
            (u32::MAX, 640, 20),
            (1_763_000_123, 320, 75),
            (0x5A5A_A5A5, 1600, 50),
        ] {
            let size = Size {
                max_width: width,
                quality,
                is_exact: true,
                format: Format::Jpeg,
            };
            let picture = finish(Frame::Rgb(at(ms)), size).expect("fine");
            assert_eq!(taken_at(&picture.bytes), Some(ms), "{width} {quality}");
        }
        assert_eq!(taken_at(b"no picture"), None);
    }

    #[test]
    fn the_picture_moves() {
        assert_ne!(at(1_000), at(1_020));
    }
}
