//! What is known of a place: read from what programs print, rounded, and written for callers. Pure.

use std::time::Duration;

use atoll_protocol::json::Json;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

/// A fix that nobody says the accuracy of, metres: what a network gives at worst in a town.
const UNKNOWN: f64 = 5_000.0;

/// What is exact for OpenClaw's clients, metres.
const PRECISE: f64 = 100.0;

/// Rounded coordinates are not more exact than this, metres: two decimals of a degree.
const ROUNDED: f64 = 1_000.0;

/// Found by what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// Satellites.
    Gps,
    /// Radio networks nearby.
    Wifi,
    /// Masts.
    Cell,
    /// Nobody says.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gps => "gps",
            Self::Wifi => "wifi",
            Self::Cell => "cell",
            Self::Unknown => "unknown",
        }
    }
}

/// A place at a time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fix {
    pub(super) lat: f64,
    pub(super) lon: f64,
    pub(super) accuracy_meters: f64,
    pub(super) altitude_meters: Option<f64>,
    pub(super) speed_mps: Option<f64>,
    pub(super) heading_deg: Option<f64>,
    pub(super) timestamp: Timestamp,
    pub(super) origin: Origin,
}

/// As programs and the owner's file say it, in the names of callers or those of Termux:API.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Said {
    #[serde(alias = "latitude")]
    lat: f64,
    #[serde(alias = "longitude")]
    lon: f64,
    #[serde(alias = "accuracy")]
    accuracy_meters: Option<f64>,
    #[serde(alias = "altitude")]
    altitude_meters: Option<f64>,
    #[serde(alias = "speed")]
    speed_mps: Option<f64>,
    #[serde(alias = "bearing", alias = "heading")]
    heading_deg: Option<f64>,
    /// ISO 8601.
    timestamp: Option<String>,
    /// How old it is.
    elapsed_ms: Option<f64>,
    #[serde(default, alias = "provider")]
    source: Origin,
}

impl Said {
    /// What was said, at `now` unless it says otherwise.
    ///
    /// # Errors
    /// What is no place on earth.
    pub(super) fn fix(&self, now: Timestamp) -> Result<Fix, String> {
        let (lat, lon) = (self.lat, self.lon);
        if !((-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon)) {
            return Err(format!(
                "{lat}, {lon} is no place: lat is -90 to 90 and lon -180 to 180"
            ));
        }
        let timestamp = match (&self.timestamp, self.elapsed_ms) {
            (Some(text), _) => text
                .parse()
                .map_err(|_| format!("{text:?} is no time; write e.g. 2026-01-03T12:34:56Z"))?,
            (None, Some(age)) if age > 0.0 => {
                let age = Duration::from_millis(age as u64);
                now.checked_sub(age).map_err(|error| error.to_string())?
            }
            (None, _) => now,
        };
        let accuracy = self.accuracy_meters.filter(|meters| *meters > 0.0);
        Ok(Fix {
            lat,
            lon,
            accuracy_meters: accuracy.unwrap_or(UNKNOWN),
            altitude_meters: self.altitude_meters,
            speed_mps: self.speed_mps,
            heading_deg: self.heading_deg.map(|degrees| degrees.rem_euclid(360.0)),
            timestamp,
            origin: self.source,
        })
    }
}

/// Reads what a program printed, JSON.
///
/// # Errors
/// It is something else; a program of Termux:API that failed says why in it.
pub(super) fn of_json(output: &[u8], now: Timestamp) -> Result<Fix, String> {
    let said: Result<Said, _> = serde_json::from_slice(output);
    match said {
        Ok(said) => said.fix(now),
        Err(error) => {
            let text: String = String::from_utf8_lossy(output).chars().take(200).collect();
            Err(format!("gave no place but {:?} ({error})", text.trim()))
        }
    }
}

/// Whether `where-am-i` has written a whole fix: its time comes last.
pub(super) fn is_whole(output: &[u8]) -> bool {
    let text = String::from_utf8_lossy(output);
    text.split_once("Timestamp:")
        .is_some_and(|(_, rest)| rest.contains('\n'))
}

/// Reads what GeoClue's `where-am-i` prints: `Latitude:    52.520000°` and so on, in the locale C.
///
/// # Errors
/// There is no place in it.
pub(super) fn of_geoclue(output: &[u8], now: Timestamp) -> Result<Fix, String> {
    let text = String::from_utf8_lossy(output);
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
        let number = line.trim_start_matches(':').trim();
        let end = number.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c)));
        number[..end.unwrap_or(number.len())].parse::<f64>().ok()
    };
    let (Some(lat), Some(lon)) = (field("Latitude"), field("Longitude")) else {
        return Err("gave no place".to_owned());
    };
    let said = Said {
        lat,
        lon,
        accuracy_meters: field("Accuracy"),
        altitude_meters: field("Altitude"),
        speed_mps: field("Speed").filter(|speed| *speed >= 0.0),
        heading_deg: field("Heading").filter(|heading| *heading >= 0.0),
        ..Said::default()
    };
    let mut fix = said.fix(now)?;
    let seconds = text.lines().find(|line| line.trim_start().starts_with("Timestamp"));
    let seconds = seconds.and_then(|line| line.rsplit_once('(')?.1.split(' ').next()?.parse().ok());
    if let Some(time) = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        fix.timestamp = time;
    }
    Ok(fix)
}

impl Fix {
    /// Where it is to a kilometre or so; what would tell more is gone.
    pub(super) fn rounded(self) -> Self {
        let two_decimals = |degrees: f64| (degrees * 100.0).round() / 100.0;
        Self {
            lat: two_decimals(self.lat),
            lon: two_decimals(self.lon),
            accuracy_meters: self.accuracy_meters.max(ROUNDED),
            altitude_meters: None,
            speed_mps: None,
            heading_deg: None,
            ..self
        }
    }

    /// As callers get it.
    pub(super) fn json(&self) -> Json {
        let mut shown = json!({
            "lat": self.lat, "lon": self.lon, "accuracyMeters": self.accuracy_meters,
            "timestamp": format!("{:.3}", self.timestamp),
            "isPrecise": self.accuracy_meters <= PRECISE, "source": self.origin.as_str(),
        });
        let more = [
            ("altitudeMeters", self.altitude_meters),
            ("speedMps", self.speed_mps),
            ("headingDeg", self.heading_deg),
        ];
        for (name, known) in more {
            if let Some(known) = known {
                shown[name] = json!(known);
            }
        }
        shown.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOCLUE: &str = "\
Client object: /org/freedesktop/GeoClue2/Client/1

New location:
Latitude:    52.520008°
Longitude:   -13.404954°
Accuracy:    25.000000 meters
Altitude:    34.000000 meters
Speed:       1.500000 meters/second
Heading:     270.000000°
Description: somewhere
Timestamp:   Sat 03 Jan 2026 12:34:56 PM UTC (1767443696 seconds since the Epoch)
";

    fn now() -> Timestamp {
        "2026-01-03T13:00:00Z".parse().expect("a time")
    }

    #[test]
    fn geoclue_is_read_as_its_program_prints_it() {
        assert!(is_whole(GEOCLUE.as_bytes()) && !is_whole(&GEOCLUE.as_bytes()[..GEOCLUE.len() - 5]));
        let fix = of_geoclue(GEOCLUE.as_bytes(), now()).expect("a place");
        let expected = json!({
            "lat": 52.520008, "lon": -13.404954, "accuracyMeters": 25.0, "timestamp": "2026-01-03T12:34:56.000Z", "isPrecise": true,
            "source": "unknown", "altitudeMeters": 34.0, "speedMps": 1.5, "headingDeg": 270.0,
        });
        assert_eq!(fix.json().tree(), expected);
        let bare = "\nNew location:\nLatitude:    1.5°\nLongitude:   2.5°\nAccuracy:    9000.0 meters\n";
        let fix = of_geoclue(bare.as_bytes(), now()).expect("a place").json().tree();
        assert_eq!((&fix["isPrecise"], fix.get("speedMps")), (&json!(false), None));
        assert_eq!(fix["timestamp"], "2026-01-03T13:00:00.000Z");
        assert!(of_geoclue(b"Client object: /x\n", now()).is_err());
    }

    #[test]
    fn programs_may_use_callers_names_or_those_of_termux() {
        let own = br#"{"lat": 1.5, "lon": 2.5, "accuracyMeters": 10, "timestamp": "2026-01-03T12:00:00+01:00", "source": "wifi"}"#;
        let own = of_json(own, now()).expect("a place").json().tree();
        assert_eq!(
            (&own["timestamp"], &own["source"]),
            (&json!("2026-01-03T11:00:00.000Z"), &json!("wifi"))
        );
        let termux = br#"{"latitude": 1.5, "longitude": 2.5, "altitude": 3.0, "accuracy": 12.0, "vertical_accuracy": 1.0, "bearing": -90.0,
            "speed": 0.5, "elapsedMs": 1500, "provider": "gps"}"#;
        let termux = of_json(termux, now()).expect("a place").json().tree();
        let expected = json!({
            "lat": 1.5, "lon": 2.5, "accuracyMeters": 12.0, "timestamp": "2026-01-03T12:59:58.500Z", "isPrecise": true, "source": "gps",
            "altitudeMeters": 3.0, "speedMps": 0.5, "headingDeg": 270.0,
        });
        assert_eq!(termux, expected);
        let network = of_json(br#"{"latitude": 1, "longitude": 2, "provider": "network"}"#, now()).expect("a place");
        assert_eq!((network.origin, network.accuracy_meters), (Origin::Unknown, UNKNOWN));
    }

    #[test]
    fn what_is_no_place_is_said_not_to_be() {
        for (output, word) in [
            (&br#"{"lat": 91, "lon": 0}"#[..], "no place"),
            (br#"{"lat": 0, "lon": 1e9}"#, "no place"),
            (br#"{"lat": 0}"#, "lon"),
            (br#"{"lat": 0, "lon": 0, "timestamp": "yesterday"}"#, "yesterday"),
            (br#"{"API_ERROR": "Location is off"}"#, "Location is off"),
            (b"", "no place"),
        ] {
            let error = of_json(output, now()).expect_err("wrong");
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_coarse_place_has_two_decimals_and_tells_no_more() {
        let fix = of_geoclue(GEOCLUE.as_bytes(), now())
            .expect("a place")
            .rounded()
            .json()
            .tree();
        let expected = json!({
            "lat": 52.52, "lon": -13.4, "accuracyMeters": 1000.0, "timestamp": "2026-01-03T12:34:56.000Z", "isPrecise": false,
            "source": "unknown",
        });
        assert_eq!(fix, expected);
    }
}
