//! From what a source gives to the JPEG that leaves the device: turned, scaled, encoded, and without the notes that cameras add. Works
//! on bytes alone; runs in the helper process.

use jpeg_encoder::{ColorType, Encoder};
use serde::{Deserialize, Serialize};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::mjpeg::{self, PICTURE};
use super::png;

/// The most that is decoded, pixels: three bytes each.
pub(crate) const PIXELS: usize = 64 * 1024 * 1024;

/// One side, pixels.
pub(super) const SIDE: usize = 16 * 1024;

/// A picture as a source gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Coded already.
    Jpeg(Vec<u8>),
    /// So too.
    Png(Vec<u8>),
    /// Three bytes a pixel, row by row.
    Rgb(Rgb),
}

impl Frame {
    /// What begins as a PNG is one, and anything else a JPEG.
    pub(crate) fn coded(bytes: Vec<u8>) -> Self {
        if png::is(&bytes) {
            Self::Png(bytes)
        } else {
            Self::Jpeg(bytes)
        }
    }
}

/// Pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rgb {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Three a pixel.
    pub(crate) bytes: Vec<u8>,
}

/// How a picture is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Format {
    Jpeg,
    /// Every pixel as it was.
    Png,
}

impl Format {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
        }
    }

    /// Of a file's name.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
        }
    }
}

/// How large and how good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) max_width: u32,
    /// 1 to 100, of a JPEG.
    pub(crate) quality: u8,
    /// Whether a picture that is JPEG and small enough already must be made anew for its quality.
    pub(crate) is_exact: bool,
    pub(crate) format: Format,
}

/// A coded picture that can leave the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) bytes: Vec<u8>,
}

/// Brings a frame to the size that is wanted. A JPEG that is small enough is not coded again, unless a quality was asked for.
///
/// # Errors
/// What is wrong with it, in words that follow "it gave".
pub(crate) fn finish(frame: Frame, size: Size) -> Result<Picture, String> {
    match frame {
        Frame::Rgb(rgb) => encode(scale(rgb, size.max_width), size),
        Frame::Png(bytes) => encode(scale(png::decode(&bytes)?, size.max_width), size),
        Frame::Jpeg(jpeg) => {
            let notes = mjpeg::strip(&jpeg).ok_or("something that is no whole JPEG")?;
            let (width, height) = dimensions(&jpeg)?;
            let is_as_wanted = size.format == Format::Jpeg && width <= size.max_width && !size.is_exact;
            let is_done = notes.is_complete && notes.orientation == 1 && is_as_wanted;
            if is_done {
                return Ok(Picture {
                    width,
                    height,
                    bytes: notes.bare,
                });
            }
            let rgb = turn(decode(&jpeg)?, notes.orientation);
            encode(scale(rgb, size.max_width), size)
        }
    }
}

/// A picture to look at: pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green and blue of each, row by row.
    pub rgb: Vec<u8>,
}

/// The pixels of a JPEG or PNG, no more than `max_width` in a row. None when it is damaged or too large.
pub fn preview(coded: &[u8], max_width: u32) -> Option<Preview> {
    let picture = if png::is(coded) {
        png::decode(coded)
    } else {
        decode(coded)
    };
    let picture = scale(picture.ok()?, max_width);
    Some(Preview {
        width: picture.width,
        height: picture.height,
        rgb: picture.bytes,
    })
}

/// Turns a picture upright, makes its longest side no more than `side` pixels, and codes it again as a JPEG.
///
/// # Errors
/// As [`finish`].
pub(crate) fn fit(frame: Frame, side: u32, quality: u8) -> Result<Picture, String> {
    let upright = match frame {
        Frame::Rgb(rgb) => rgb,
        Frame::Png(bytes) => png::decode(&bytes)?,
        Frame::Jpeg(jpeg) => {
            let orientation = mjpeg::strip(&jpeg).map_or(1, |notes| notes.orientation);
            turn(decode(&jpeg)?, orientation)
        }
    };
    let longest = u64::from(upright.width.max(upright.height).max(1));
    let width = u64::from(upright.width) * u64::from(side) / longest;
    let width = u32::try_from(width).unwrap_or(side).max(1);
    let size = Size {
        max_width: width,
        quality,
        is_exact: true,
        format: Format::Jpeg,
    };
    encode(scale(upright, width), size)
}

/// The pixels of a JPEG.
///
/// # Errors
/// As [`finish`].
pub(crate) fn decode(jpeg: &[u8]) -> Result<Rgb, String> {
    let (width, height) = dimensions(jpeg)?;
    let mut decoder = decoder(jpeg);
    let bytes = decoder.decode().map_err(damaged)?;
    if bytes.len() != width as usize * height as usize * 3 {
        return Err("a JPEG of another size than it says".to_owned());
    }
    Ok(Rgb { width, height, bytes })
}

fn decoder(jpeg: &[u8]) -> JpegDecoder<ZCursor<&[u8]>> {
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(SIDE)
        .set_max_height(SIDE);
    JpegDecoder::new_with_options(ZCursor::new(jpeg), options)
}

fn damaged(error: impl std::fmt::Debug) -> String {
    format!("a damaged JPEG: {error:?}")
}

/// Read before anything is decoded, so that a few bytes cannot take all memory.
fn dimensions(jpeg: &[u8]) -> Result<(u32, u32), String> {
    let mut decoder = decoder(jpeg);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().ok_or("a JPEG without a size")?;
    if width * height > PIXELS {
        return Err(format!("{width}x{height} pixels, which is too large"));
    }
    Ok((width as u32, height as u32))
}

fn encode(rgb: Rgb, size: Size) -> Result<Picture, String> {
    let bytes = match size.format {
        Format::Jpeg => jpeg(&rgb, size.quality)?,
        Format::Png => png::encode(&rgb)?,
    };
    if bytes.len() > PICTURE {
        return Err(format!(
            "a picture of {} bytes; ask for a smaller maxWidth or quality",
            bytes.len()
        ));
    }
    Ok(Picture {
        width: rgb.width,
        height: rgb.height,
        bytes,
    })
}

fn jpeg(rgb: &Rgb, quality: u8) -> Result<Vec<u8>, String> {
    let side = |side: u32| u16::try_from(side).map_err(|_| format!("{side} pixels in a row, which no JPEG has"));
    let (width, height) = (side(rgb.width)?, side(rgb.height)?);
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, quality)
        .encode(&rgb.bytes, width, height, ColorType::Rgb)
        .map_err(|error| format!("pixels that cannot be coded: {error}"))?;
    Ok(jpeg)
}

/// Makes it narrower where it is too wide: each pixel is the mean of those that it stands for.
fn scale(rgb: Rgb, max_width: u32) -> Rgb {
    if rgb.width <= max_width || rgb.width == 0 {
        return rgb;
    }
    let width = max_width.max(1);
    let height = (u64::from(rgb.height) * u64::from(width) / u64::from(rgb.width)).max(1) as u32;
    let (from, to) = (
        (rgb.width as usize, rgb.height as usize),
        (width as usize, height as usize),
    );
    let mut bytes = Vec::with_capacity(to.0 * to.1 * 3);
    for y in 0..to.1 {
        let rows = y * from.1 / to.1..((y + 1) * from.1).div_ceil(to.1).min(from.1);
        for x in 0..to.0 {
            let columns = x * from.0 / to.0..((x + 1) * from.0).div_ceil(to.0).min(from.0);
            let mut sums = [0_u32; 3];
            for row in rows.clone() {
                let line = &rgb.bytes[(row * from.0 + columns.start) * 3..(row * from.0 + columns.end) * 3];
                for pixel in line.as_chunks::<3>().0 {
                    (0..3).for_each(|colour| sums[colour] += u32::from(pixel[colour]));
                }
            }
            let count = (rows.len() * columns.len()) as u32;
            bytes.extend(sums.map(|sum| (sum / count) as u8));
        }
    }
    Rgb { width, height, bytes }
}

/// Undoes how the device was held, by the eight numbers of Exif.
fn turn(rgb: Rgb, orientation: u8) -> Rgb {
    let (width, height) = (rgb.width as usize, rgb.height as usize);
    let is_upright = orientation < 5;
    let (new_width, new_height) = if is_upright { (width, height) } else { (height, width) };
    if orientation <= 1 {
        return rgb;
    }
    let mut bytes = Vec::with_capacity(rgb.bytes.len());
    for y in 0..new_height {
        for x in 0..new_width {
            let (from_x, from_y) = match orientation {
                2 => (width - 1 - x, y),
                3 => (width - 1 - x, height - 1 - y),
                4 => (x, height - 1 - y),
                5 => (y, x),
                6 => (y, height - 1 - x),
                7 => (width - 1 - y, height - 1 - x),
                _ => (width - 1 - y, x),
            };
            let at = (from_y * width + from_x) * 3;
            bytes.extend_from_slice(&rgb.bytes[at..at + 3]);
        }
    }
    Rgb {
        width: new_width as u32,
        height: new_height as u32,
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Size = Size {
        max_width: 1600,
        quality: 90,
        is_exact: false,
        format: Format::Jpeg,
    };

    fn rgb(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Rgb {
        let bytes = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let bytes = bytes.flat_map(|(x, y)| pixel(x, y)).collect();
        Rgb { width, height, bytes }
    }

    #[test]
    fn a_wide_picture_is_scaled_and_a_narrow_one_is_not() {
        let halves = rgb(400, 100, |x, _| if x < 200 { [250, 0, 0] } else { [0, 0, 250] });
        let small = scale(halves.clone(), 100);
        assert_eq!((small.width, small.height, small.bytes.len()), (100, 25, 7500));
        assert_eq!(
            (&small.bytes[..3], &small.bytes[7497..]),
            (&[250, 0, 0][..], &[0, 0, 250][..])
        );
        assert_eq!(scale(halves.clone(), 400), halves);
        assert_eq!(scale(rgb(3, 1, |x, _| [x as u8 * 30; 3]), 1).bytes, [30; 3]);
    }

    #[test]
    fn any_width_can_be_asked_for() {
        let picture = rgb(37, 11, |x, y| [x as u8, y as u8, 0]);
        for width in 1..40 {
            let scaled = scale(picture.clone(), width);
            assert_eq!(scaled.bytes.len(), (scaled.width * scaled.height * 3) as usize);
        }
    }

    #[test]
    fn quality_decides_how_large_it_gets() {
        let noise = rgb(200, 200, |x, y| [(x * 7 + y * 13) as u8, (x * y) as u8, (x ^ y) as u8]);
        let size = |quality| {
            let size = Size { quality, ..USUAL };
            finish(Frame::Rgb(noise.clone()), size).expect("fine").bytes.len()
        };
        assert!(size(20) * 2 < size(95), "{} {}", size(20), size(95));
    }

    #[test]
    fn a_jpeg_that_is_small_enough_is_not_coded_again() {
        let first = finish(Frame::Rgb(rgb(64, 32, |x, _| [x as u8; 3])), USUAL).expect("fine");
        let again = finish(Frame::Jpeg(first.bytes.clone()), USUAL).expect("fine");
        assert_eq!((again.width, again.height), (64, 32));
        let smaller = Size { max_width: 16, ..USUAL };
        let smaller = finish(Frame::Jpeg(first.bytes.clone()), smaller).expect("fine");
        assert_eq!((smaller.width, smaller.height), (16, 8));
        let exact = Size {
            quality: 10,
            is_exact: true,
            ..USUAL
        };
        assert!(
            finish(Frame::Jpeg(first.bytes.clone()), exact)
                .expect("fine")
                .bytes
                .len()
                < first.bytes.len()
        );
    }

    #[test]
    fn a_png_keeps_every_pixel_and_becomes_a_jpeg_where_one_is_wanted() {
        let noise = rgb(33, 17, |x, y| [(x * 7) as u8, (y * 13) as u8, (x ^ y) as u8]);
        let exact = Size {
            format: Format::Png,
            ..USUAL
        };
        let kept = finish(Frame::Rgb(noise.clone()), exact).expect("fine");
        let shown = preview(&kept.bytes, 100).expect("a picture");
        assert_eq!((shown.width, shown.rgb), (33, noise.bytes));
        let Frame::Png(bytes) = Frame::coded(kept.bytes) else {
            panic!("no PNG");
        };
        let jpeg = finish(Frame::Png(bytes), Size { max_width: 16, ..USUAL }).expect("fine");
        assert!(matches!(Frame::coded(jpeg.bytes.clone()), Frame::Jpeg(_)));
        let back = finish(Frame::Jpeg(jpeg.bytes), exact).expect("fine");
        assert_eq!((back.width, back.height), (16, 8));
    }

    #[test]
    fn a_picture_that_was_taken_sideways_is_turned() {
        let corner = rgb(2, 1, |x, _| [x as u8 * 200; 3]);
        for (orientation, expected) in [(2, [200, 0]), (3, [200, 0]), (6, [0, 200]), (8, [200, 0])] {
            let turned = turn(corner.clone(), orientation);
            assert_eq!([turned.bytes[0], turned.bytes[3]], expected, "{orientation}");
            assert_eq!(turned.width == 1, orientation > 4, "{orientation}");
        }
    }

    #[test]
    fn what_is_no_picture_is_said_to_be_none() {
        for bytes in [&b""[..], b"GIF89a", &[0xFF, 0xD8, 0xFF, 0xD9], &mjpeg::tests::noted(1)] {
            assert!(finish(Frame::Jpeg(bytes.to_vec()), USUAL).is_err(), "{bytes:?}");
        }
    }
}
