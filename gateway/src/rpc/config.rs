//! `config.*`: the file as it is, changes of it, and what may be written in it. Secrets never leave; a change is in force when its
//! caller hears of it.

use std::path::Path;

use atoll_protocol::error::WireError;
use atoll_protocol::json::Json;
use atoll_protocol::method::config::{
    ConfigApply, ConfigIssue, ConfigPatch, ConfigSchema, ConfigSet, ConfigSnapshot, ConfigWritten,
};
use atoll_protocol::method::{NoParams, Text};
use serde_json::{Value, json};

use super::{Answer, Ask, done};
use crate::config::{self, Change, ChangeError, Invalid, Loaded, Problem, parse_path};
use crate::house::House;

pub(super) async fn get(house: &House, ask: Ask) -> Answer {
    let _: NoParams = ask.read()?;
    let broken = house.config.broken();
    done(snapshot(
        &house.state.config(),
        &house.config.loaded(),
        broken.as_deref(),
    ))
}

pub(super) async fn schema(_: &House, ask: Ask) -> Answer {
    let _: NoParams = ask.read()?;
    done(ConfigSchema {
        schema: config::schema().into(),
        ui_hints: json!({}).into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: jiff::Timestamp::now().to_string(),
    })
}

pub(super) async fn set(house: &House, ask: Ask) -> Answer {
    let params: ConfigSet = ask.read()?;
    change(house, &ask, Change::Replace(params.raw.into_string()), params.base_hash).await
}

pub(super) async fn apply(house: &House, ask: Ask) -> Answer {
    let params: ConfigApply = ask.read()?;
    change(house, &ask, Change::Replace(params.raw.into_string()), params.base_hash).await
}

pub(super) async fn patch(house: &House, ask: Ask) -> Answer {
    let params: ConfigPatch = ask.read()?;
    let mut patch = read_patch(&params.raw)?;
    for path in params.replace_paths.unwrap_or_default() {
        let path = parse_path(&path).map_err(|error| WireError::invalid(error.to_string()))?;
        let written = house.config.loaded().redacted_at(&path);
        replace_at(&mut patch, &path, written.as_ref());
    }
    change(house, &ask, Change::Patch(patch), params.base_hash).await
}

async fn change(house: &House, ask: &Ask, change: Change, base: Option<Text>) -> Answer {
    let base = base.map(Text::into_string);
    // Whoever has not read what stands there would overwrite what it does not know of.
    if base.is_none() && house.config.loaded().redacted_text().is_some() {
        return Err(
            WireError::invalid("config base hash required; re-run config.get and retry")
                .with_details(&json!({"code": "CONFIG_HASH_REQUIRED"})),
        );
    }
    let changed = house.config.change(change, base).await;
    let loaded = changed.map_err(|error| refusal(&error))?;
    let path = house.state.config().display().to_string();
    let method = ask.granted.action().name.to_string();
    let by = ask.granted.principal().label();
    // The hash says which version it was; the values are nobody's business.
    house
        .audit(by, &method, path.clone(), json!({"hash": loaded.hash}))
        .await;
    done(ConfigWritten {
        ok: true,
        path,
        config: loaded.redacted().into(),
        hash: Some(loaded.hash.clone()),
        restart: None,
    })
}

fn snapshot(path: &Path, loaded: &Loaded, broken: Option<&Invalid>) -> ConfigSnapshot {
    let raw = loaded.redacted_text();
    let tree = Json::from(loaded.redacted());
    let warnings = broken.map_or(&loaded.warnings, |broken| &broken.warnings);
    ConfigSnapshot {
        path: path.display().to_string(),
        exists: raw.is_some(),
        valid: broken.is_none(),
        config: tree.clone(),
        issues: issues(broken.map_or(&[], |broken| &broken.errors)),
        warnings: issues(warnings),
        raw,
        legacy_issues: Some(Vec::new()),
        parsed: Some(tree),
        hash: Some(loaded.hash.clone()),
    }
}

fn issues(problems: &[Problem]) -> Vec<ConfigIssue> {
    let issue = |problem: &Problem| ConfigIssue {
        path: problem.key.clone(),
        message: problem.message.clone(),
        allowed_values: None,
    };
    problems.iter().map(issue).collect()
}

fn read_patch(raw: &str) -> Result<Value, WireError> {
    // The parser's own words could repeat a secret.
    let patch: Option<Value> = json5::from_str(raw).ok();
    patch
        .filter(Value::is_object)
        .ok_or_else(|| WireError::invalid("invalid config.patch params: at /raw: must be the text of a JSON5 object"))
}

/// Makes a merge patch take away what is written at `path` and not in the patch, so that the patch's value stands there alone.
fn replace_at(patch: &mut Value, path: &[String], written: Option<&Value>) {
    let place = path
        .iter()
        .try_fold(patch, |value, part| value.as_object_mut()?.get_mut(part));
    let (Some(Value::Object(new)), Some(Value::Object(old))) = (place, written) else {
        return;
    };
    for (name, old) in old {
        match new.get_mut(name) {
            Some(inner) => replace_at(inner, &[], Some(old)),
            None => drop(new.insert(name.clone(), Value::Null)),
        }
    }
}

fn refusal(error: &ChangeError) -> WireError {
    let message = error.to_string();
    match error {
        ChangeError::Stale { hash } => {
            WireError::invalid("config changed since last load; re-run config.get and retry")
                .with_details(&json!({"code": "CONFIG_CHANGED", "hash": hash}))
        }
        ChangeError::Invalid(invalid) => {
            let faults: Vec<_> = invalid.errors.iter().map(ToString::to_string).collect();
            WireError::invalid(format!("invalid config: {}", faults.join("; ")))
                .with_details(&json!({"code": "CONFIG_INVALID", "issues": issues(&invalid.errors)}))
        }
        ChangeError::Edit(_) | ChangeError::Placeholder(_) => {
            WireError::invalid(message).with_details(&json!({"code": "CONFIG_INVALID"}))
        }
        ChangeError::Io(_) | ChangeError::Closed => WireError::unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{check_file, edit_file};

    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("atoll.json");
        std::fs::write(&path, text).expect("writes");
        (folder, path)
    }

    #[test]
    fn a_snapshot_has_everything_but_the_secrets() {
        let (_folder, path) = written("{gateway: {auth: {token: 'hush'}, port: 5}, // why\n}");
        let loaded = check_file(&path, &|_| None).expect("valid");
        let shown = serde_json::to_string(&snapshot(&path, &loaded, None)).expect("writes");
        assert!(!shown.contains("hush"), "{shown}");
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["config"]["gateway"]["port"], 5);
        assert_eq!(shown["hash"], loaded.hash);
        assert!(shown["raw"].as_str().expect("text").contains("// why"));
        assert_eq!((&shown["exists"], &shown["valid"]), (&json!(true), &json!(true)));
    }

    #[test]
    fn an_absent_file_and_a_broken_one_are_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("atoll.json");
        let loaded = check_file(&path, &|_| None).expect("the defaults");
        assert!(!snapshot(&path, &loaded, None).exists);
        std::fs::write(&path, "{gateway: {port: 'x'}}").expect("writes");
        let broken = check_file(&path, &|_| None).expect_err("broken");
        let shown = snapshot(&path, &loaded, Some(&broken));
        assert!(!shown.valid);
        assert_eq!(
            shown.issues.first().map(|issue| issue.path.as_str()),
            Some("gateway.port")
        );
    }

    #[test]
    fn a_refused_change_names_its_keys() {
        let (_folder, path) = written("{}");
        let change = Change::Replace("{gateway: {port: 'x', bind: 'y'}}".to_owned());
        let refused = refusal(&edit_file(&path, &change, None, &|_| None).expect_err("refused"));
        assert!(
            refused.message.contains("gateway.port:") && refused.message.contains("gateway.bind:"),
            "{refused}"
        );
        let details = refused.details.expect("details").tree();
        let keys: Vec<_> = details["issues"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|issue| &issue["path"])
            .collect();
        assert_eq!(keys.len(), 2, "{details}");
    }

    #[test]
    fn a_stale_base_is_told_with_the_hash_to_use() {
        let (_folder, path) = written("{}");
        let hash = check_file(&path, &|_| None).expect("valid").hash;
        let change = Change::Replace("{gateway: {port: 5}}".to_owned());
        let refused = refusal(&edit_file(&path, &change, Some("other"), &|_| None).expect_err("stale"));
        assert_eq!(refused.detail_code().as_deref(), Some("CONFIG_CHANGED"));
        assert_eq!(refused.details.expect("details").tree()["hash"], hash.as_str());
        assert!(edit_file(&path, &change, Some(&hash), &|_| None).is_ok());
    }

    #[test]
    fn a_patch_is_an_object_and_its_fault_does_not_repeat_it() {
        assert_eq!(read_patch("{a: null, // b\n}").expect("reads"), json!({"a": null}));
        for bad in ["[1]", "5", "{token: 'hush"] {
            let fault = read_patch(bad).expect_err(bad);
            assert!(
                fault.message.contains("/raw") && !fault.message.contains("hush"),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_replaced_path_loses_what_the_patch_does_not_name() {
        let mut patch = json!({"a": {"b": {"x": 1, "deep": {"p": 1}}}});
        let written = json!({"x": 0, "y": 2, "deep": {"q": 1}});
        replace_at(&mut patch, &["a".to_owned(), "b".to_owned()], Some(&written));
        assert_eq!(
            patch,
            json!({"a": {"b": {"x": 1, "deep": {"p": 1, "q": null}, "y": null}}})
        );
        let before = patch.clone();
        replace_at(&mut patch, &["no".to_owned()], Some(&written));
        assert_eq!(patch, before);
    }
}
