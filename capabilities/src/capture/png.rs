//! PNG in and out: pixels without loss. Works on bytes alone.

use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Limits, Transformations};

use super::picture::{PIXELS, Rgb};

/// What every PNG begins with.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Room for what lies beside the pixels, bytes.
const BESIDE: usize = 16 * 1024 * 1024;

pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

pub(super) fn encode(rgb: &Rgb) -> Result<Vec<u8>, String> {
    let failed = |error: png::EncodingError| format!("pixels that cannot be coded: {error}");
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, rgb.width, rgb.height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    // Somebody waits for it.
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&rgb.bytes).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// The pixels; what shines through is shown on white.
pub(super) fn decode(bytes: &[u8]) -> Result<Rgb, String> {
    let damaged = |error: png::DecodingError| format!("a damaged PNG: {error}");
    let mut decoder = Decoder::new_with_limits(
        std::io::Cursor::new(bytes),
        Limits {
            bytes: PIXELS * 4 + BESIDE,
        },
    );
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = (reader.info().width, reader.info().height);
    let room = reader.output_buffer_size();
    let is_small = u64::from(width) * u64::from(height) <= PIXELS as u64;
    let room = room
        .filter(|_| is_small)
        .ok_or_else(|| format!("{width}x{height} pixels, which is too large"))?;
    let mut pixels = vec![0; room];
    let frame = reader.next_frame(&mut pixels).map_err(damaged)?;
    pixels.truncate(frame.buffer_size());
    let bytes = match frame.color_type {
        ColorType::Rgb => pixels,
        ColorType::Rgba => pixels
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|[r, g, b, a]| on_white([*r, *g, *b], *a))
            .collect(),
        ColorType::Grayscale => pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
        ColorType::GrayscaleAlpha => pixels
            .as_chunks::<2>()
            .0
            .iter()
            .flat_map(|[grey, a]| on_white([*grey; 3], *a))
            .collect(),
        ColorType::Indexed => return Err("a PNG whose colours are not resolved".to_owned()),
    };
    if bytes.len() != width as usize * height as usize * 3 {
        return Err("a PNG of another size than it says".to_owned());
    }
    Ok(Rgb { width, height, bytes })
}

fn on_white(colour: [u8; 3], alpha: u8) -> [u8; 3] {
    let alpha = u16::from(alpha);
    colour.map(|part| ((u16::from(part) * alpha + 255 * (255 - alpha)) / 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn coded(color: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(data).expect("pixels");
        writer.finish().expect("an end");
        bytes
    }

    #[test]
    fn every_kind_of_pixels_is_read() {
        for (color, depth, data) in [
            (ColorType::Rgb, BitDepth::Eight, &[9, 9, 9, 200, 200, 200][..]),
            (ColorType::Rgba, BitDepth::Eight, &[9, 9, 9, 255, 200, 200, 200, 255]),
            (ColorType::Grayscale, BitDepth::Eight, &[9, 200]),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, &[9, 255, 200, 255]),
            (ColorType::Grayscale, BitDepth::Sixteen, &[9, 0, 200, 0]),
        ] {
            let rgb = decode(&coded(color, depth, data)).expect("a picture");
            assert_eq!(rgb.bytes, [9, 9, 9, 200, 200, 200], "{color:?} {depth:?}");
        }
    }

    #[test]
    fn what_is_transparent_is_white() {
        let half = coded(ColorType::Rgba, BitDepth::Eight, &[9, 9, 9, 0, 0, 0, 0, 128]);
        assert_eq!(decode(&half).expect("a picture").bytes, [255, 255, 255, 127, 127, 127]);
    }

    #[test]
    fn a_few_bytes_cannot_take_all_memory() {
        let mut bytes = Vec::new();
        let mut writer = Encoder::new(&mut bytes, 100_000, 100_000)
            .write_header()
            .expect("a header");
        writer.write_chunk(png::chunk::IDAT, &[1, 2, 3]).expect("room");
        drop(writer);
        let error = decode(&bytes).expect_err("it claims too much");
        assert!(error.contains("too large"), "{error}");
        assert!(decode(&bytes[..20]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, at in 0..60usize, with: u8) {
            let _ = decode(&bytes);
            let mut damaged = coded(ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6]);
            let at = at % damaged.len();
            damaged[at] = with;
            let _ = decode(&damaged);
        }
    }
}
