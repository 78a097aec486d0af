//! What sounds look like: the formats that are recorded, and the kinds that are known by their first bytes. Pure.

use std::io::{self, Read};

use serde::Deserialize;

/// The header of a WAV that ffmpeg writes without further chunks, bytes.
const WAV_HEADER: usize = 44;

/// What a recording is wrapped in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// AAC in MP4.
    #[default]
    #[serde(alias = "mp4")]
    M4a,
    /// Opus in Ogg.
    Ogg,
    Mp3,
    /// 16 bits, one channel.
    Wav,
}

impl Format {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::M4a => "m4a",
            Self::Ogg => "ogg",
            Self::Mp3 => "mp3",
            Self::Wav => "wav",
        }
    }

    pub(super) fn mime(self) -> &'static str {
        match self {
            Self::M4a => "audio/mp4",
            Self::Ogg => "audio/ogg",
            Self::Mp3 => "audio/mpeg",
            Self::Wav => "audio/wav",
        }
    }

    /// What ffmpeg is told, for a file that is written from its beginning to its end.
    pub(super) fn encoding(self) -> &'static str {
        match self {
            Self::M4a => "-c:a aac -b:a 96k -movflags frag_keyframe+empty_moov+default_base_moof -f mp4",
            Self::Ogg => "-c:a libopus -b:a 64k -f ogg",
            Self::Mp3 => "-c:a libmp3lame -b:a 128k -f mp3",
            Self::Wav => "-c:a pcm_s16le -ac 1 -fflags +bitexact -flags:a +bitexact -f wav",
        }
    }

    /// Writes the sizes that were not known while it was written.
    pub(super) fn whole(self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self == Self::Wav && bytes.len() > WAV_HEADER && bytes.starts_with(b"RIFF") && &bytes[36..40] == b"data" {
            let size = |from: usize| u32::try_from(bytes.len() - from).unwrap_or(u32::MAX).to_le_bytes();
            let (riff, data) = (size(8), size(WAV_HEADER));
            bytes[4..8].copy_from_slice(&riff);
            bytes[40..WAV_HEADER].copy_from_slice(&data);
        }
        bytes
    }
}

/// A kind of sound. Whoever plays it is told which, so that it never is a list of other files, as some players would take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Wav,
    Mp3,
    Aac,
    Ogg,
    Flac,
    Mp4,
    Webm,
}

impl Kind {
    /// By its first bytes.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let at = |from: usize, word: &[u8]| head.get(from..from + word.len()) == Some(word);
        match head {
            _ if at(0, b"RIFF") && at(8, b"WAVE") => Some(Self::Wav),
            _ if at(0, b"OggS") => Some(Self::Ogg),
            _ if at(0, b"fLaC") => Some(Self::Flac),
            _ if at(4, b"ftyp") => Some(Self::Mp4),
            _ if at(0, &[0x1a, 0x45, 0xdf, 0xa3]) => Some(Self::Webm),
            _ if at(0, b"ID3") => Some(Self::Mp3),
            [0xff, second, ..] if second & 0xf6 == 0xf0 => Some(Self::Aac),
            [0xff, second, ..] if second & 0xe0 == 0xe0 => Some(Self::Mp3),
            _ => None,
        }
    }

    /// [`Self::of`] a file, from where it is.
    pub(super) fn of_file(file: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        file.take(16).read_to_end(&mut head)?;
        Ok(Self::of(&head))
    }

    /// ffmpeg's name of what reads it.
    pub(super) fn demuxer(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Mp3 => "mp3",
            Self::Aac => "aac",
            Self::Ogg => "ogg",
            Self::Flac => "flac",
            Self::Mp4 => "mov",
            Self::Webm => "matroska",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_is_known_by_its_first_bytes_and_lists_of_files_are_none() {
        for (head, expected) in [
            (&b"RIFF\0\0\0\0WAVEfmt "[..], Some(Kind::Wav)),
            (b"OggS\0\x02", Some(Kind::Ogg)),
            (b"fLaC\0", Some(Kind::Flac)),
            (b"\0\0\0\x18ftypM4A ", Some(Kind::Mp4)),
            (b"\x1a\x45\xdf\xa3\x01", Some(Kind::Webm)),
            (b"ID3\x04\0", Some(Kind::Mp3)),
            (b"\xff\xfb\x90\x64", Some(Kind::Mp3)),
            (b"\xff\xf1\x50\x80", Some(Kind::Aac)),
            (b"#EXTM3U\n/etc/passwd", None),
            (b"ffconcat version 1.0", None),
            (b"RIFF\0\0\0\0AVI ", None),
            (b"\xff", None),
            (b"", None),
        ] {
            assert_eq!(Kind::of(head), expected, "{head:?}");
        }
    }

    #[test]
    fn a_wav_gets_its_sizes_when_they_are_known() {
        let mut wav = [
            b"RIFF".as_slice(),
            &[0xff; 4],
            b"WAVEfmt ",
            &[0; 20],
            b"data",
            &[0xff; 4],
        ]
        .concat();
        wav.extend([1; 100]);
        let whole = Format::Wav.whole(wav.clone());
        assert_eq!(whole[4..8], 136_u32.to_le_bytes());
        assert_eq!(whole[40..44], 100_u32.to_le_bytes());
        assert_eq!((whole.len(), &whole[44..]), (144, &[1; 100][..]));
        assert_eq!(Format::Ogg.whole(wav.clone()), wav);
        assert_eq!(Format::Wav.whole(b"RIFF".to_vec()), b"RIFF");
    }
}
