//! What the digits are worth against somebody in between who plays both roles as well as the order of messages lets him.

use proptest::prelude::*;

use super::*;

#[test]
fn people_read_them_in_two_groups_and_type_them_as_they_like() {
    let digits: Digits = "012 345".parse().expect("six digits");
    assert_eq!(
        (digits.to_string().as_str(), digits.spaced().as_str()),
        ("012345", "012 345")
    );
    for text in ["012345", "012-345", " 01 23 45 "] {
        assert_eq!(text.parse(), Ok(digits), "{text}");
    }
    for text in ["", "12345", "1234567", "12345a", "１２３４５６", "+12345"] {
        assert_eq!(text.parse::<Digits>(), Err(BadDigits), "{text}");
    }
    assert!(!format!("{digits:?}").contains("12"));
}

#[test]
fn both_ends_know_these_digits_for_ever() {
    let ends = Ends {
        peer_key: &[1; 32],
        gateway_key: &[2; 32],
        peer_nonce: &[3; 32],
        gateway_nonce: &[4; 32],
    };
    assert_eq!(Digits::of(ends).to_string(), "788636");
    let swapped = Ends {
        peer_key: &[2; 32],
        gateway_key: &[1; 32],
        ..ends
    };
    assert!(
        !Digits::of(swapped).matches(Digits::of(ends)),
        "the roles are part of it"
    );
}

/// Repeatable bytes that look random (splitmix64).
struct Dice(u64);

impl Dice {
    fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for part in bytes.chunks_exact_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes());
        }
        bytes
    }
}

/// Somebody in between: how hard he works, and whether the device says its nonce in its hello, as if it did not commit.
struct Between {
    dice: Dice,
    candidates: usize,
    peeks: bool,
}

/// What happens on the two links of somebody in between, in the order in which he wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The device said its key and its commitment.
    HearHello,
    /// He answers as a gateway: key and nonce. Only then the device reveals its nonce.
    Challenge,
    /// The device's nonce.
    HearProof,
    /// He says key and commitment to the gateway.
    Hello,
    /// The gateway's nonce.
    HearChallenge,
    /// He reveals the nonce that he committed to; another one is refused.
    Proof,
}

const AS_GATEWAY: [Step; 3] = [Step::HearHello, Step::Challenge, Step::HearProof];
const AS_DEVICE: [Step; 3] = [Step::Hello, Step::HearChallenge, Step::Proof];

/// Every order that both handshakes allow.
fn orders() -> Vec<Vec<Step>> {
    fn merge(left: &[Step], right: &[Step], done: &[Step], found: &mut Vec<Vec<Step>>) {
        if left.is_empty() && right.is_empty() {
            found.push(done.to_vec());
        }
        if let Some((step, left)) = left.split_first() {
            merge(left, right, &[done, &[*step]].concat(), found);
        }
        if let Some((step, right)) = right.split_first() {
            merge(left, right, &[done, &[*step]].concat(), found);
        }
    }
    let mut found = Vec::new();
    merge(&AS_GATEWAY, &AS_DEVICE, &[], &mut found);
    found
}

const KEYS: ([u8; 32], [u8; 32]) = ([1; 32], [2; 32]);
const SMALL: u32 = 100;

/// A key and a nonce that he answers with.
type Chosen = ([u8; 32], [u8; 32]);

/// What he has heard so far. Everything else he has to guess.
#[derive(Default)]
struct Heard {
    device_nonce: Option<[u8; 32]>,
    gateway_nonce: Option<[u8; 32]>,
    as_gateway: Option<Chosen>,
    as_device: Option<Chosen>,
}

fn at_device(device_nonce: &[u8; 32], (key, nonce): &Chosen) -> u32 {
    reduced(
        Ends {
            peer_key: &KEYS.0,
            gateway_key: key,
            peer_nonce: device_nonce,
            gateway_nonce: nonce,
        },
        SMALL,
    )
}

fn at_gateway(gateway_nonce: &[u8; 32], (key, nonce): &Chosen) -> u32 {
    reduced(
        Ends {
            peer_key: key,
            gateway_key: &KEYS.1,
            peer_nonce: nonce,
            gateway_nonce,
        },
        SMALL,
    )
}

impl Between {
    /// Looks for a nonce that gives the wanted digits; the last one looked at when there is none.
    fn grind(&mut self, wanted: u32, shown: impl Fn(&Chosen) -> u32) -> Chosen {
        let mut choice = (self.dice.bytes(), self.dice.bytes());
        for _ in 0..self.candidates {
            if shown(&choice) == wanted {
                break;
            }
            choice.1 = self.dice.bytes();
        }
        choice
    }

    /// One attempt; whether both ends show the same.
    fn attempt(&mut self, order: &[Step]) -> bool {
        let (device_nonce, gateway_nonce) = (self.dice.bytes(), self.dice.bytes());
        let mut heard = Heard::default();
        for step in order {
            match step {
                Step::HearHello => heard.device_nonce = self.peeks.then_some(device_nonce),
                Step::Challenge => {
                    let guess = heard.device_nonce.unwrap_or_else(|| self.dice.bytes());
                    let shown = heard.as_device.zip(heard.gateway_nonce);
                    let wanted = shown.map_or(7, |(choice, nonce)| at_gateway(&nonce, &choice));
                    heard.as_gateway = Some(self.grind(wanted, |choice| at_device(&guess, choice)));
                }
                Step::HearProof => heard.device_nonce = Some(device_nonce),
                Step::Hello => {
                    let guess = self.dice.bytes();
                    let shown = heard.as_gateway.zip(heard.device_nonce);
                    let wanted = shown.map_or(7, |(choice, nonce)| at_device(&nonce, &choice));
                    heard.as_device = Some(self.grind(wanted, |choice| at_gateway(&guess, choice)));
                }
                Step::HearChallenge => heard.gateway_nonce = Some(gateway_nonce),
                Step::Proof => {} // what he committed to; anything else is refused
            }
        }
        let (as_gateway, as_device) = (
            heard.as_gateway.expect("answered"),
            heard.as_device.expect("said hello"),
        );
        at_device(&device_nonce, &as_gateway) == at_gateway(&gateway_nonce, &as_device)
    }

    fn hits(&mut self, order: &[Step], tries: usize) -> usize {
        (0..tries).filter(|_| self.attempt(order)).count()
    }
}

#[test]
fn in_no_order_of_messages_does_somebody_in_between_hit_more_often_than_by_chance() {
    let orders = orders();
    assert_eq!(orders.len(), 20);
    let mut between = Between {
        dice: Dice(1),
        candidates: 16,
        peeks: false,
    };
    let tries = 150;
    let hits: usize = orders.iter().map(|order| between.hits(order, tries)).sum();
    // 30 are expected, with a standard deviation of 5.4.
    assert!((10..=50).contains(&hits), "{hits} hits in {}", orders.len() * tries);
}

#[test]
fn without_the_commitment_he_would_hit_more_often_than_not() {
    let mut between = Between {
        dice: Dice(2),
        candidates: 200,
        peeks: true,
    };
    let hits = between.hits(&[AS_DEVICE, AS_GATEWAY].concat(), 50);
    assert!(hits > 25, "{hits} hits in 50: the attempts above would show nothing");
}

proptest! {
    #[test]
    fn a_commitment_opens_to_its_nonce_alone(nonce: [u8; 32], other: [u8; 32]) {
        prop_assert!(is_committed(&nonce, &commit(&nonce)));
        prop_assert_eq!(is_committed(&other, &commit(&nonce)), nonce == other);
    }

    #[test]
    fn what_is_shown_can_be_typed(peer: [u8; 32], gateway: [u8; 32]) {
        let ends = Ends { peer_key: &peer, gateway_key: &gateway, peer_nonce: &gateway, gateway_nonce: &peer };
        let digits = Digits::of(ends);
        prop_assert_eq!(digits.spaced().parse(), Ok(digits));
        prop_assert_eq!(digits.to_string().parse(), Ok(digits));
    }
}
