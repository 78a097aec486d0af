//! From when until when a certificate says that it is good (RFC 5280, section 4.1.2.5). Pure; reads nothing else of it.

use std::time::Duration;

/// The longest life of a certificate that browsers let a page pin (W3C WebTransport, "custom certificate requirements").
pub(super) const LONGEST_PINNED: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Two moments, Unix milliseconds. Moments before 1970 count as 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before_ms: u64,
    pub(super) not_after_ms: u64,
}

impl Validity {
    /// Reads it out of a certificate in DER; none where that is not one.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(certificate)?;
        let (SEQUENCE, mut fields, _) = element(certificate)? else {
            return None;
        };
        if fields.first() == Some(&EXPLICIT_VERSION) {
            fields = element(fields)?.2;
        }
        // Serial number, signature algorithm, issuer.
        for _ in 0..3 {
            fields = element(fields)?.2;
        }
        let (SEQUENCE, moments, _) = element(fields)? else {
            return None;
        };
        let (kind, not_before, moments) = element(moments)?;
        let not_before_ms = moment(kind, not_before)?;
        let (kind, not_after, _) = element(moments)?;
        Some(Self {
            not_before_ms,
            not_after_ms: moment(kind, not_after)?,
        })
    }

    /// Whether it is good now, for at least so much longer, and short enough to be pinned by a page.
    pub(super) fn serves(&self, now_ms: u64, longer: Duration) -> bool {
        let life = u128::from(self.not_after_ms.saturating_sub(self.not_before_ms));
        let left = u128::from(self.not_after_ms.saturating_sub(now_ms));
        self.not_before_ms <= now_ms && left > longer.as_millis() && life <= LONGEST_PINNED.as_millis()
    }
}

/// The first element: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn moment(kind: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    let mut pairs = digits.chunks(2).map(|pair| match pair {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(u64::from(tens - b'0') * 10 + u64::from(ones - b'0')),
        _ => None,
    });
    let mut next = || pairs.next()?;
    let year = match kind {
        UTC_TIME => {
            let year = next()?;
            // RFC 5280, section 4.1.2.5.1.
            if year >= 50 { 1900 + year } else { 2000 + year }
        }
        GENERALIZED_TIME => next()? * 100 + next()?,
        _ => return None,
    };
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !is_date {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds.saturating_sub(days(1970, 1, 1) * 24 * 60 * 60) * 1000)
}

/// Days since the first of March of the year 0, in the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March end with the leap day.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.saturating_sub(1), month + 9)
    };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_read_in_both_spellings() {
        for (kind, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "260101000000Z", Some(1_767_225_600_000)),
            (GENERALIZED_TIME, "20260101000000Z", Some(1_767_225_600_000)),
            (GENERALIZED_TIME, "20240229235959Z", Some(1_709_251_199_000)),
            (GENERALIZED_TIME, "20991231235959Z", Some(4_102_444_799_000)),
            (UTC_TIME, "500101000000Z", Some(0)),
            (GENERALIZED_TIME, "20261301000000Z", None),
            (GENERALIZED_TIME, "2026010100000", None),
            (UTC_TIME, "26010100000xZ", None),
            (0x02, "260101000000Z", None),
        ] {
            assert_eq!(moment(kind, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn it_is_read_out_of_a_certificate_that_was_made() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("a name");
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(1_795_000_000);
        params.not_after = epoch + Duration::from_secs(1_796_000_000);
        let certificate = params.self_signed(&key).expect("signed");
        let read = Validity::of(certificate.der()).expect("a certificate");
        assert_eq!(
            (read.not_before_ms, read.not_after_ms),
            (1_795_000_000_000, 1_796_000_000_000)
        );
    }

    std::thread_local! {
        static CERTIFICATE: Vec<u8> = {
            let key = rcgen::KeyPair::generate().expect("a key");
            let params = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("a name");
            params.self_signed(&key).expect("signed").der().to_vec()
        };
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Validity::of(&bytes);
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0_usize..400, byte: u8) {
            let mut der = CERTIFICATE.with(Clone::clone);
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = Validity::of(&der);
        }
    }
}
