//! Bytes as lower-case hexadecimal digits, two a byte: the form that digests, keys and ids have wherever people or JSON meet them.

use std::fmt;

/// Bytes at a time, so that whoever is written to is not asked for each digit.
const PIECE: usize = 32;

/// Writes its bytes as digits.
#[derive(Debug, Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 2 * PIECE];
        for piece in self.0.chunks(PIECE) {
            for (pair, byte) in text.chunks_exact_mut(2).zip(piece) {
                pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            f.write_str(str::from_utf8(&text[..2 * piece.len()]).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

/// The digits of some bytes.
pub fn encode(bytes: &[u8]) -> String {
    Hex(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_two_digits_however_many_there_are() {
        for length in [0, 1, 31, 32, 33, 64, 100, 256] {
            let bytes: Vec<u8> = (0..length).map(|number| (number * 7 % 256) as u8).collect();
            let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(encode(&bytes), expected);
        }
    }
}
