//! What the store keeps, what it lets go of, and what a restart finds.

use std::io::{Read, Write};

use super::*;

const WIDE: Bounds = Bounds {
    budget: 1_000_000,
    age: Duration::from_secs(60),
};

fn put(media: &Media, bytes: &[u8], bounds: Bounds) -> Result<Handle, MediaError> {
    let draft = media.begin(bytes.len() as u64, bounds)?;
    draft.arrived(bytes.len() as u64)?;
    draft.file()?.write_all(bytes)?;
    draft.keep(atoll_pairing::blob::hash(bytes), "name", "text/plain")
}

fn content(media: &Media, handle: Handle) -> Option<Vec<u8>> {
    let reading = media.read(handle).expect("reads")?;
    let mut bytes = Vec::new();
    (&*reading.file).read_to_end(&mut bytes).expect("reads");
    Some(bytes)
}

fn total(media: &Media) -> u64 {
    media.index().total
}

#[test]
fn the_same_bytes_are_one_blob_and_a_restart_finds_it_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let media = Media::open(folder.path()).expect("opens");
    let first = put(&media, b"hello", WIDE).expect("room");
    assert_eq!(put(&media, b"hello", WIDE).expect("room"), first);
    assert_eq!(total(&media), 5);
    drop(media);
    let media = Media::open(folder.path()).expect("opens");
    assert_eq!(content(&media, first).as_deref(), Some(&b"hello"[..]));
    assert_eq!(media.facts(first).expect("known").name, "name");
    assert_eq!(total(&media), 5);
}

#[test]
fn what_was_half_there_is_gone_after_a_restart_and_so_is_what_was_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let media = Media::open(folder.path()).expect("opens");
    let draft = media.begin(100, WIDE).expect("room");
    draft.arrived(40).expect("room");
    assert_eq!((total(&media), media.index().coming), (0, 40));
    let half = draft.path.clone();
    assert!(half.exists());
    std::mem::forget(draft);
    let media = Media::open(folder.path()).expect("opens");
    assert!(!half.exists());
    let draft = media.begin(100, WIDE).expect("room");
    let half = draft.path.clone();
    draft.arrived(40).expect("room");
    drop(draft);
    assert!(!half.exists() && total(&media) == 0 && media.index().coming == 0);
}

#[test]
fn an_announcement_takes_no_room_and_only_what_is_here_and_right_pushes_anything_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let media = Media::open(folder.path()).expect("opens");
    let bounds = Bounds { budget: 10, ..WIDE };
    let stored = put(&media, b"aaaaaaaa", bounds).expect("room");
    let announced: Vec<_> = (0..20).map(|_| media.begin(10, bounds).expect("announced")).collect();
    announced[0].arrived(6).expect("room on the way");
    assert!(media.facts(stored).is_some(), "nothing was pushed out");
    assert!(matches!(announced[1].arrived(5), Err(MediaError::Full { .. })));
    announced[1].arrived(4).expect("as much as fits");
    drop(announced);
    assert!(
        media.facts(stored).is_some(),
        "what never became whole pushed nothing out"
    );
    assert_eq!(media.index().coming, 0);
    let other = put(&media, b"bbbb", bounds).expect("here and right");
    assert!(media.facts(stored).is_none() && media.facts(other).is_some());
    assert!(
        matches!(media.begin(11, bounds), Err(MediaError::Full { .. })),
        "never fits"
    );
}

#[test]
fn the_budget_lets_go_of_what_was_not_used_for_longest_and_never_of_what_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let media = Media::open(folder.path()).expect("opens");
    let bounds = Bounds { budget: 10, ..WIDE };
    let read = put(&media, b"aaaa", bounds).expect("room");
    let idle = put(&media, b"bbbb", bounds).expect("room");
    let reading = media.read(read).expect("reads").expect("there");
    let new = put(&media, b"cccc", bounds).expect("room is made");
    assert!(media.facts(idle).is_none() && media.facts(read).is_some() && media.facts(new).is_some());
    assert!(matches!(put(&media, &[0; 7], bounds), Err(MediaError::Full { .. })));
    drop(reading);
    put(&media, &[0; 7], bounds).expect("nobody reads any more");
    assert!(media.facts(read).is_none() && total(&media) <= 10);
    assert!(matches!(
        media.begin(limits::BLOB + 1, WIDE),
        Err(MediaError::TooLarge { .. })
    ));
}

#[test]
fn what_is_too_old_goes_unless_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let media = Media::open(folder.path()).expect("opens");
    let (old, read) = (
        put(&media, b"a", WIDE).expect("room"),
        put(&media, b"b", WIDE).expect("room"),
    );
    let reading = media.read(read).expect("reads").expect("there");
    assert_eq!(media.sweep(WIDE, SystemTime::now()), 0);
    let later = SystemTime::now() + WIDE.age;
    assert_eq!(media.sweep(WIDE, later), 1);
    assert!(media.facts(old).is_none() && media.facts(read).is_some());
    drop(reading);
    assert_eq!(media.sweep(WIDE, later), 1);
    let left: Vec<_> = fs::read_dir(folder.path())
        .expect("lists")
        .flatten()
        .filter(|entry| entry.file_name() != "coming")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_handle_is_64_lower_case_hex_digits() {
    let handle = Handle::of([0xab; 32]);
    assert_eq!(handle.to_string().parse(), Ok(handle));
    for bad in [
        "",
        "..",
        &"g".repeat(64),
        &"AB".repeat(32),
        &"a".repeat(63),
        &"é".repeat(32),
    ] {
        assert!(bad.parse::<Handle>().is_err(), "{bad}");
    }
}

#[test]
fn a_result_becomes_base64_within_the_limit_and_an_error_beyond_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let media = Media::open(folder.path()).expect("opens");
    let handle = put(&media, b"hello", WIDE).expect("room");
    let result = |size: u64| {
        serde_json::json!({"path": "/x", "blob": {"id": handle.to_string(), "name": "x", "size": size, "mime": "a/b"}})
            .into()
    };
    let inlined = as_base64(&media, &result(5)).expect("small").tree();
    assert_eq!(
        (&inlined["base64"], &inlined["path"]),
        (&"aGVsbG8=".into(), &"/x".into())
    );
    assert!(inlined.get("blob").is_none());
    let error = as_base64(&media, &result(inline::MOST + 1)).expect_err("large");
    assert_eq!(error.detail_code().as_deref(), Some("PAYLOAD_TOO_LARGE"));
}

#[test]
fn much_base64_in_parameters_becomes_a_blob_and_little_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let media = Media::open(folder.path()).expect("opens");
    let params = |content: String| serde_json::json!({"path": "/x", "contentBase64": content}).into();
    assert!(
        lift(&media, WIDE, &params("aGVsbG8=".to_owned()))
            .expect("base64")
            .is_none()
    );
    let (rest, handle) = lift(&media, WIDE, &params("AAAA".repeat(100_000)))
        .expect("base64")
        .expect("much");
    assert_eq!(rest, serde_json::json!({"path": "/x"}));
    assert_eq!(media.facts(handle).expect("stored").size, 300_000);
}
