//! A setup code as a picture that phones read from a screen.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use png::{BitDepth, ColorType, Encoder, EncodingError};
use qrcode::types::QrError;
use qrcode::{Color, EcLevel, QrCode};

/// Pixels along a square of the code.
const SQUARE: usize = 6;

/// Light squares around the code, which readers need.
const MARGIN: usize = 4;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPicture {
    /// More than a code can hold.
    #[error("it does not fit into a QR code: {0}")]
    TooLong(#[from] QrError),
    /// It cannot be written.
    #[error("the picture cannot be written: {0}")]
    Png(#[from] EncodingError),
}

/// A `data:` address of a PNG picture, black on white.
///
/// # Errors
/// See [`NoPicture`].
pub(super) fn data_url(text: &str) -> Result<String, NoPicture> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M)?;
    let png = png_of(&code)?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png)))
}

fn png_of(code: &QrCode) -> Result<Vec<u8>, EncodingError> {
    let side = (code.width() + 2 * MARGIN) * SQUARE;
    let is_dark = |x: usize, y: usize| {
        let inside = |at: usize| (at / SQUARE).checked_sub(MARGIN).filter(|at| *at < code.width());
        matches!((inside(x), inside(y)), (Some(x), Some(y)) if code[(x, y)] == Color::Dark)
    };
    let pixels: Vec<u8> = (0..side * side)
        .map(|at| if is_dark(at % side, at / side) { 0 } else { u8::MAX })
        .collect();
    let mut png = Vec::new();
    let pixel_count = u32::try_from(side).unwrap_or(u32::MAX);
    let mut encoder = Encoder::new(&mut png, pixel_count, pixel_count);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_square_of_the_code_is_in_the_picture_and_light_is_around_it() {
        let text = "a".repeat(200);
        let url = data_url(&text).expect("it fits");
        let bytes = STANDARD.decode(url.strip_prefix("data:image/png;base64,").expect("a picture"));
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes.expect("base64")))
            .read_info()
            .expect("a PNG picture");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        let frame = reader.next_frame(&mut pixels).expect("pixels");
        let code = QrCode::with_error_correction_level(&text, EcLevel::M).expect("it fits");
        let side = (code.width() + 2 * MARGIN) * SQUARE;
        assert_eq!((frame.width as usize, frame.height as usize), (side, side));
        let at = |x: usize, y: usize| pixels[y * side + x];
        for y in 0..code.width() {
            for x in 0..code.width() {
                let middle = |at: usize| (at + MARGIN) * SQUARE + SQUARE / 2;
                let expected = if code[(x, y)] == Color::Dark { 0 } else { u8::MAX };
                assert_eq!(at(middle(x), middle(y)), expected, "{x} {y}");
            }
        }
        for edge in 0..side {
            assert_eq!([at(edge, 0), at(0, edge), at(edge, side - 1)], [u8::MAX; 3]);
        }
        assert!(matches!(data_url(&"a".repeat(3_000)), Err(NoPicture::TooLong(_))));
    }
}
