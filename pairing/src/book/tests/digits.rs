//! Digits that an operator sees: those of the link that waits, few enough, and wrong ones end the request.

use super::*;
use crate::digits::Digits;

fn digits(text: &str) -> Digits {
    text.parse().expect("six digits")
}

fn shown(desk: &Desk, device: u8) -> Option<String> {
    desk.book
        .request_of(key(device).id)?
        .digits
        .map(|digits| digits.to_string())
}

impl Desk {
    fn link(&mut self, device: u8, link: LinkDigits) -> (Admission, Vec<Change>) {
        self.n = self.n.wrapping_add(1);
        let claims = node_claims(&["system.notify"]);
        let applicant = Applicant {
            digits: link,
            ..applicant(key(device), &claims, TokenUse::None, self.n.into())
        };
        self.book.admit(applicant, &CommandPolicy::default(), self.now)
    }

    fn approve_with(&mut self, device: u8, code: &str) -> Result<Answered, BookError> {
        let request = self.book.request_of(key(device).id).expect("it waits").id.clone();
        let action = ApprovePairing {
            request,
            view: PairingView::Device,
            code: Some(digits(code)),
        };
        self.book.approve(&granted(&holding(&[Scope::Admin]), action), self.now)
    }
}

#[test]
fn a_request_shows_the_digits_of_the_newest_link_and_tells_of_them() {
    let mut desk = Desk::new();
    let (_, changes) = desk.link(1, LinkDigits::New(digits("111111")));
    let [("device.pair.requested", first)] = &events(&changes)[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(first["code"], "111111");
    assert!(events(&desk.link(1, LinkDigits::Again(digits("111111"))).1).is_empty());
    let (_, changes) = desk.link(1, LinkDigits::New(digits("222222")));
    let [("device.pair.requested", second)] = &events(&changes)[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(
        (&second["requestId"], &second["code"]),
        (&first["requestId"], &Value::from("222222"))
    );
    // The older link is still there and asks again: it does not come back to the screen.
    desk.link(1, LinkDigits::Again(digits("111111")));
    assert_eq!(shown(&desk, 1).as_deref(), Some("222222"));
    let list = desk.book.device_list(desk.now, |_| rows::Presence::default());
    assert_eq!(list["pending"][0]["code"], "222222", "{list}");
    assert_eq!(desk.book.node_list(desk.now)["pending"][0]["code"], "222222");
}

#[test]
fn the_right_code_approves_and_five_wrong_ones_end_the_request() {
    let mut desk = Desk::new();
    desk.link(1, LinkDigits::New(digits("123456")));
    assert!(matches!(desk.approve_with(1, "123 456"), Ok(Answered::Approved(_))));

    desk.link(2, LinkDigits::New(digits("123456")));
    for left in (1..WRONG_CODES).rev() {
        // A link that comes back does not give more tries.
        desk.link(2, LinkDigits::New(digits("123456")));
        let Ok(Answered::WrongCode(wrong)) = desk.approve_with(2, "123457") else {
            panic!("approved")
        };
        assert_eq!((wrong.left, wrong.changes), (left, Vec::new()));
    }
    let Ok(Answered::WrongCode(wrong)) = desk.approve_with(2, "123457") else {
        panic!("approved")
    };
    assert_eq!(wrong.left, 0);
    let ended = events(&wrong.changes);
    assert_eq!(
        (ended[0].0, &ended[0].1["decision"]),
        ("device.pair.resolved", &Value::from("rejected"))
    );
    assert!(desk.book.request_of(key(2).id).is_none() && desk.book.record(key(2).id).is_none());
}

#[test]
fn a_code_for_a_request_without_digits_approves_nothing() {
    let mut desk = Desk::new();
    desk.link(1, LinkDigits::None);
    assert_eq!(
        desk.approve_with(1, "123456").expect_err("nothing to compare"),
        BookError::NoDigits
    );
    assert!(desk.book.record(key(1).id).is_none());
}

#[test]
fn links_in_a_row_are_not_given_digits_for_ever() {
    let mut desk = Desk::new();
    let tries = 1000_u32;
    let mut seen = 0;
    for at in 0..tries {
        // Twenty a second, each a device of its own or one of a few.
        desk.now += 50;
        let device = u8::try_from(at % 7).expect("small");
        desk.link(device, LinkDigits::New(digits(&format!("{at:06}"))));
        seen += u32::from(shown(&desk, device).is_some());
    }
    assert!((20..=22).contains(&seen), "{seen} of {tries}");
    desk.now += 30_000;
    desk.link(9, LinkDigits::New(digits("999999")));
    assert_eq!(shown(&desk, 9).as_deref(), Some("999999"), "one more after a while");
    // Too late for one that was given none: it would have had its choice of them.
    desk.now += 30_000;
    desk.link(0, LinkDigits::Again(digits("000994")));
    assert_eq!(shown(&desk, 0), None);
}
