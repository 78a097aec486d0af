//! From files to one tree: reads them, follows `$include`, replaces `${NAME}`. Knows no key; a missing main file is an empty tree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use atoll_protocol::hex;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Problem;
use super::check::dotted;
use super::text::{SyntaxError, scan};

/// The key that brings another file in.
const INCLUDE: &str = "$include";

/// Files inside one another at most. More: an error.
const INCLUDE_DEPTH: usize = 10;

/// One file, bytes. More: an error.
const FILE_BYTES: u64 = 1024 * 1024;

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Source {
    /// The main file's text; none when there is no file.
    pub text: Option<String>,
    /// One tree of all files, as written.
    pub tree: Value,
    /// Every file that took part, the main one first.
    pub files: Vec<PathBuf>,
}

/// Reads the main file and what it includes.
pub(super) fn read(path: &Path) -> Result<Source, Vec<Problem>> {
    let text = match read_text(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(vec![Problem::new(path.display().to_string(), error.to_string())]),
    };
    with_text(path, text)
}

/// As [`read`], with another text in place of the main file's.
pub(super) fn with_text(path: &Path, text: Option<String>) -> Result<Source, Vec<Problem>> {
    let mut reader = Reader {
        folder: folder_of(path),
        open: vec![path.to_owned()],
        files: vec![path.to_owned()],
        problems: Vec::new(),
    };
    let tree = parse(text.as_deref().unwrap_or("")).map_err(|error| vec![in_file(path, &error)])?;
    let tree = reader.resolve(tree, &mut Vec::new());
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    Ok(Source {
        text,
        tree,
        files: reader.files,
    })
}

/// The mark that guards a change against another one in between: SHA-256 of the text in hex, of nothing when there is no file.
pub(super) fn hash(text: Option<&str>) -> String {
    hex::encode(&Sha256::digest(text.unwrap_or("").as_bytes()))
}

/// Reads JSON5; an empty text is an empty object.
pub(super) fn parse(text: &str) -> Result<Value, SyntaxError> {
    // The scan comes first: it bounds the depth, which the parser does not.
    if scan(text)?.is_none() {
        return Ok(Value::Object(Map::new()));
    }
    json5::from_str(text).map_err(|error| {
        let at = error
            .position()
            .map_or((1, 1), |position| (position.line + 1, position.column + 1));
        SyntaxError {
            line: at.0,
            column: at.1,
            // Without its position, which counts from 0, and without the text, which may hold a secret.
            reason: "not well-formed JSON5".to_owned(),
        }
    })
}

fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

fn in_file(path: &Path, error: &SyntaxError) -> Problem {
    Problem::new(path.display().to_string(), error.to_string())
}

fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES {
        return Err(io::Error::other(format!("larger than {FILE_BYTES} bytes")));
    }
    let text = fs::read_to_string(path)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

struct Reader {
    folder: PathBuf,
    open: Vec<PathBuf>,
    files: Vec<PathBuf>,
    problems: Vec<Problem>,
}

impl Reader {
    fn resolve(&mut self, value: Value, path: &mut Vec<String>) -> Value {
        match value {
            Value::Object(mut members) => {
                let included = members.shift_remove(INCLUDE);
                let mut base = match included {
                    Some(which) => self.include(which, path),
                    None => Value::Object(Map::new()),
                };
                for (name, value) in members {
                    path.push(name.clone());
                    let value = self.resolve(value, path);
                    path.pop();
                    merge_member(&mut base, name, value);
                }
                base
            }
            Value::Array(items) => {
                let resolved = items.into_iter().enumerate().map(|(index, item)| {
                    path.push(index.to_string());
                    let item = self.resolve(item, path);
                    path.pop();
                    item
                });
                Value::Array(resolved.collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
        }
    }

    /// The content of the named file or files, later ones over earlier ones.
    fn include(&mut self, which: Value, path: &mut Vec<String>) -> Value {
        let names = match which {
            Value::String(name) => vec![Value::String(name)],
            Value::Array(names) => names,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![which],
        };
        let mut merged = Value::Object(Map::new());
        for name in names {
            let outcome = name
                .as_str()
                .ok_or_else(|| "is not a file name or a list of them".to_owned())
                .and_then(|name| self.file(name, path));
            match outcome {
                Ok(value) => merge(&mut merged, value),
                Err(reason) => {
                    let key = dotted(&[path.as_slice(), &[INCLUDE.to_owned()]].concat());
                    self.problems.push(Problem::new(key, reason));
                }
            }
        }
        merged
    }

    fn file(&mut self, name: &str, path: &mut Vec<String>) -> Result<Value, String> {
        let from = self
            .open
            .last()
            .map_or_else(|| self.folder.clone(), |file| folder_of(file));
        let file = from.join(name);
        let real = file.canonicalize().map_err(|error| format!("{name}: {error}"))?;
        let home = self.folder.canonicalize().map_err(|error| format!("{name}: {error}"))?;
        if !real.starts_with(&home) {
            return Err(format!("{name} is outside the folder of the configuration"));
        }
        if self
            .open
            .iter()
            .any(|open| open.canonicalize().is_ok_and(|open| open == real))
        {
            return Err(format!("{name} includes itself"));
        }
        if self.open.len() > INCLUDE_DEPTH {
            return Err(format!("{name} is included more than {INCLUDE_DEPTH} files deep"));
        }
        let text = read_text(&real).map_err(|error| format!("{name}: {error}"))?;
        let tree = parse(&text).map_err(|error| format!("{name}: {error}"))?;
        if !self.files.contains(&real) {
            self.files.push(real.clone());
        }
        self.open.push(real);
        let tree = self.resolve(tree, path);
        self.open.pop();
        Ok(tree)
    }
}

/// Puts `over` over `base`: objects member by member, anything else as a whole.
pub(super) fn merge(base: &mut Value, over: Value) {
    match over {
        Value::Object(members) if base.is_object() => {
            for (name, value) in members {
                merge_member(base, name, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            *base = over;
        }
    }
}

fn merge_member(base: &mut Value, name: String, value: Value) {
    if let Value::Object(members) = base {
        match members.get_mut(&name) {
            Some(existing) => merge(existing, value),
            None => drop(members.insert(name, value)),
        }
    }
}

/// Replaces `${NAME}` in every text; `$${` stands for `${`. A variable that is not set is a problem that names key and variable.
pub(super) fn expand(value: &mut Value, env: &dyn Fn(&str) -> Option<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    expand_at(value, env, &mut Vec::new(), &mut problems);
    problems
}

fn expand_at(
    value: &mut Value,
    env: &dyn Fn(&str) -> Option<String>,
    path: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) {
    match value {
        Value::String(text) if text.contains("${") => {
            let (expanded, missing) = expand_text(text, env);
            for name in missing {
                let message = format!("the environment variable {name} is not set");
                problems.push(Problem::new(dotted(path), message));
            }
            *text = expanded;
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                expand_at(item, env, path, problems);
                path.pop();
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                path.push(name.clone());
                expand_at(value, env, path, problems);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn expand_text(text: &str, env: &dyn Fn(&str) -> Option<String>) -> (String, Vec<String>) {
    let (mut expanded, mut missing) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            expanded.push_str(escaped);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        expanded.push_str(before);
        let name = reference[2..].split_once('}').filter(|(name, _)| is_variable(name));
        let Some((name, after)) = name else {
            // Not the form of a reference, so it stands for itself.
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        };
        match env(name).filter(|value| !value.is_empty()) {
            Some(value) => expanded.push_str(&value),
            None => missing.push(name.to_owned()),
        }
        rest = after;
    }
    expanded.push_str(rest);
    (expanded, missing)
}

fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_and_escapes_are_not() {
        for (text, expected) in [
            ("${A}", "alpha"),
            ("x${A}y${A}", "xalphayalpha"),
            ("$${A}", "${A}"),
            ("${", "${"),
            ("${not a name}", "${not a name}"),
            ("$A", "$A"),
        ] {
            assert_eq!(expand_text(text, &env), (expected.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn a_missing_variable_is_named_with_its_key() {
        let mut tree = json!({"a": [{"b c": "${NOPE} ${EMPTY}"}]});
        let problems = expand(&mut tree, &env);
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "a[0].b c: the environment variable NOPE is not set",
                "a[0].b c: the environment variable EMPTY is not set"
            ]
        );
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = dir.path().join("c").join(name);
            fs::create_dir_all(path.parent().expect("has one")).expect("makes");
            fs::write(path, text).expect("writes");
        }
        dir
    }

    fn tree(dir: &tempfile::TempDir) -> Result<Value, String> {
        let read = read(&dir.path().join("c/atoll.json"));
        read.map(|source| source.tree)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn included_files_are_merged_under_what_stands_beside_them() {
        let dir = folder(&[
            (
                "atoll.json",
                "{a: {$include: ['one.json', 'sub/two.json'], x: 1}, // c\n}",
            ),
            ("one.json", "{x: 0, y: {p: 1, q: 1}}"),
            ("sub/two.json", "{y: {q: 2}, z: {$include: './three.json'}}"),
            ("sub/three.json", "{deep: true}"),
        ]);
        assert_eq!(
            tree(&dir).expect("reads"),
            json!({"a": {"x": 1, "y": {"p": 1, "q": 2}, "z": {"deep": true}}})
        );
    }

    #[test]
    fn an_include_that_leads_out_or_round_is_refused() {
        let dir = folder(&[
            (
                "atoll.json",
                "{a: {$include: '../secret.json'}, b: {$include: 'loop.json'}, c: {$include: 5}, d: {$include: 'none'}}",
            ),
            ("loop.json", "{again: {$include: 'loop.json'}}"),
            ("../secret.json", "{}"),
        ]);
        let error = tree(&dir).expect_err("refused");
        for part in [
            "a.$include: ../secret.json is outside",
            "b.again.$include: loop.json includes itself",
            "c.$include: is not a file",
            "d.$include: none:",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_syntax_error_names_the_place_and_not_the_text() {
        let dir = folder(&[("atoll.json", "{\n token: \"hush\\u\",\n}")]);
        let error = tree(&dir).expect_err("refused");
        assert!(error.contains("line 2") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_missing_main_file_is_an_empty_tree() {
        let dir = folder(&[]);
        assert_eq!(tree(&dir).expect("reads"), json!({}));
    }
}
