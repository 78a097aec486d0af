//! Edits keep everything else: examples, and random documents in random styles.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn path(text: &str) -> Vec<String> {
    parse_path(text).expect("a path")
}

#[track_caller]
fn check_set(text: &str, key: &str, value: Value, expected: &str) {
    assert_eq!(set(text, &path(key), &value).expect("sets"), expected);
}

#[track_caller]
fn check_unset(text: &str, key: &str, expected: &str) {
    assert_eq!(unset(text, &path(key)).expect("unsets"), expected);
}

#[test]
fn a_value_is_replaced_where_it_stands() {
    check_set(
        "{a: 1, /* b */ b: 'x' // end\n}",
        "b",
        json!("y"),
        "{a: 1, /* b */ b: \"y\" // end\n}",
    );
    check_set("{a: [1, 2]}", "a[1]", json!(3), "{a: [1, 3]}");
    check_set("{a: 1, a: 2}", "a", json!(3), "{a: 1, a: 3}");
}

#[test]
fn a_member_is_added_in_the_style_of_its_object() {
    check_set("{a: 1}", "b", json!(2), "{a: 1, b: 2}");
    check_set("{a: 1,}", "b", json!(2), "{a: 1, b: 2,}");
    check_set("{\n  a: 1\n}\n", "b", json!(2), "{\n  a: 1,\n  b: 2\n}\n");
    check_set(
        "{\n\ta: 1, // one\n}\n",
        "b",
        json!(2),
        "{\n\ta: 1, // one\n\tb: 2,\n}\n",
    );
    check_set("{\n  a: 1 // one\n}", "b", json!(2), "{\n  a: 1, // one\n  b: 2\n}");
    check_set("{a: 1 // one\n}", "b", json!(2), "{a: 1, // one\n  b: 2\n}");
    check_set("{}", "b", json!(2), "{\n  b: 2\n}");
    check_set("{ // all mine\n}", "b", json!(2), "{\n  b: 2\n // all mine\n}");
    check_set("{a: []}", "a[0]", json!(2), "{a: [\n  2\n]}");
    check_set("{a: [1]}", "a[1]", json!(2), "{a: [1, 2]}");
}

#[test]
fn objects_on_the_way_are_made() {
    check_set(
        "",
        "a.b",
        json!([1]),
        "{\n  \"a\": {\n    \"b\": [\n      1\n    ]\n  }\n}\n",
    );
    check_set(
        "{\n  a: {}\n}",
        "a.b.c",
        json!(true),
        "{\n  a: {\n    b: {\n      \"c\": true\n    }\n  }\n}",
    );
    check_set("// mine", "a", json!(1), "// mine\n{\n  \"a\": 1\n}\n");
}

#[test]
fn what_is_unset_takes_its_line_and_nothing_else() {
    check_unset("{\n  // about a\n  a: 1,\n  b: 2\n}", "a", "{\n  // about a\n  b: 2\n}");
    check_unset("{\n  a: 1,\n  b: 2\n}", "b", "{\n  a: 1\n}");
    check_unset("{\r\n  a: 1,\r\n  b: 2\r\n}", "b", "{\r\n  a: 1\r\n}");
    check_unset("{a: 1, b: 2, c: 3}", "b", "{a: 1, c: 3}");
    check_unset("{a: 1, b: 2}", "b", "{a: 1 }");
    check_unset("{a: 1, a: 2}", "a", "{ }");
    check_unset("{a:1,a:2}", "a", "{}");
    check_unset("{a:1,b:3,a:2,a:4}", "a", "{b:3}");
    check_unset("{a: [1, 2, 3]}", "a[1]", "{a: [1, 3]}");
    check_unset("{a: 1}", "b.c", "{a: 1}");
    check_unset("{a: 1}", "a.c", "{a: 1}");
}

#[test]
fn what_cannot_be_is_said() {
    assert_eq!(
        set("{a: 1}", &path("a.b"), &json!(1)),
        Err(EditError::NotAContainer("a".into()))
    );
    assert!(matches!(
        set("{a: [1]}", &path("a[3]"), &json!(1)),
        Err(EditError::NoSuchItem { len: 1, .. })
    ));
    assert!(matches!(set("{a: ", &path("a"), &json!(1)), Err(EditError::Syntax(_))));
    for bad in ["", ".", "a.", ".a", "a..b", "a[", "a[]", "\"a"] {
        assert!(parse_path(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_path_has_dots_brackets_and_quotes() {
    assert_eq!(path("a.b[0].\"c.d\".e"), ["a", "b", "0", "c.d", "e"]);
    assert_eq!(path("list[1][2]"), ["list", "1", "2"]);
}

/// A document, and how to write it down.
fn documents() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z'\"\\\\/*{}, \n\u{e9}]{0,6}".prop_map(Value::from),
    ];
    let tree = scalar.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]|x y", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-d]", tree, 0..4).prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// Writes a document in a style chosen by random numbers: comments, line ends, quotes, trailing commas.
fn write(value: &Value, style: &mut impl FnMut() -> u8) -> String {
    let mut gap = || match style() % 6 {
        0 => "\n".to_owned(),
        1 => "\n    ".to_owned(),
        2 => " /* , } ] */ ".to_owned(),
        3 => "// a: {[\n".to_owned(),
        4 => " ".to_owned(),
        _ => String::new(),
    };
    let (before, after, between) = (gap(), gap(), gap());
    let (open, close, parts) = match value {
        Value::Object(members) => {
            let mut parts = Vec::new();
            for (name, value) in members {
                let name = match style() % 3 {
                    0 if !name.contains(' ') => name.clone(),
                    1 => format!("'{name}'"),
                    _ => format!("\"{name}\""),
                };
                parts.push(format!("{name}{after}:{before}{}", write(value, style)));
            }
            ('{', '}', parts)
        }
        Value::Array(items) => ('[', ']', items.iter().map(|item| write(item, style)).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return value.to_string(),
    };
    let trailing = if !parts.is_empty() && style().is_multiple_of(2) {
        ","
    } else {
        ""
    };
    let inside = parts.join(&format!("{between},{before}"));
    format!("{open}{before}{inside}{after}{trailing}{between}{close}")
}

fn set_in(document: &mut Value, path: &[String], value: Value) -> bool {
    let Some((first, rest)) = path.split_first() else {
        *document = value;
        return true;
    };
    match document {
        Value::Object(members) => set_in(members.entry(first.clone()).or_insert_with(|| json!({})), rest, value),
        Value::Array(items) => match first.parse::<usize>() {
            Ok(index) if index < items.len() => set_in(&mut items[index], rest, value),
            Ok(index) if index == items.len() => {
                items.push(json!({}));
                set_in(&mut items[index], rest, value)
            }
            _ => false,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn unset_in(document: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    match document {
        Value::Object(members) if rest.is_empty() => drop(members.shift_remove(first)),
        Value::Array(items) if rest.is_empty() => {
            if let Some(index) = first.parse().ok().filter(|index| *index < items.len()) {
                items.remove(index);
            }
        }
        Value::Object(members) => {
            if let Some(inner) = members.get_mut(first) {
                unset_in(inner, rest);
            }
        }
        Value::Array(items) => {
            if let Some(inner) = first.parse().ok().and_then(|index: usize| items.get_mut(index)) {
                unset_in(inner, rest);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The bytes that two texts share at their beginning and their end cover all of the first but the changed part.
fn comments(text: &str) -> usize {
    text.matches("/* , } ] */").count() + text.matches("// a: {[").count()
}

proptest! {
    #[test]
    fn a_set_gives_the_wanted_document_and_keeps_what_it_does_not_replace(
        mut document in documents(),
        parts in prop::collection::vec("[a-d]|x y|[0-2]", 1..4),
        value in prop_oneof![Just(json!(7)), Just(json!("text")), Just(json!({"k": [1, {}]}))],
        style in prop::collection::vec(any::<u8>(), 64),
    ) {
        let mut numbers = style.iter().copied().cycle();
        let text = write(&document, &mut || numbers.next().unwrap_or(0));
        prop_assert_eq!(json5::from_str::<Value>(&text).expect("the writer writes JSON5"), document.clone());
        let replaced = document.pointer(&format!("/{}", parts.join("/"))).cloned();
        let possible = set_in(&mut document, &parts, value.clone());
        match set(&text, &parts, &value) {
            Ok(edited) => {
                prop_assert!(possible);
                prop_assert_eq!(json5::from_str::<Value>(&edited).expect("still JSON5"), document);
                if replaced.is_none() {
                    // An insertion only adds: the old text is what is left when the additions are taken out.
                    let mut rest = edited.chars();
                    prop_assert!(text.chars().all(|wanted| rest.any(|found| found == wanted)));
                    prop_assert_eq!(comments(&edited), comments(&text));
                }
            }
            Err(error) => prop_assert!(!possible, "{error}"),
        }
    }

    #[test]
    fn an_unset_gives_the_wanted_document(
        mut document in documents(),
        parts in prop::collection::vec("[a-d]|x y|[0-2]", 1..3),
        style in prop::collection::vec(any::<u8>(), 64),
    ) {
        let mut numbers = style.iter().copied().cycle();
        let text = write(&document, &mut || numbers.next().unwrap_or(0));
        unset_in(&mut document, &parts);
        let edited = unset(&text, &parts);
        if let Ok(edited) = edited {
            prop_assert_eq!(json5::from_str::<Value>(&edited).expect("still JSON5"), document);
        }
    }

    #[test]
    fn scanning_anything_never_panics(text in "[\\{\\}\\[\\]:,'\"/*\\\\a1 \n\u{e9}]{0,40}") {
        if super::super::text::scan(&text).is_ok() {
            let _ = set(&text, &["a".to_owned()], &json!(1));
            let _ = unset(&text, &["a".to_owned()]);
        }
    }
}
