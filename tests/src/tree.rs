//! The workspace as files: its sources, documents and manifests, for checks that read it.
//!
//! Never compiles or runs anything.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder that holds the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
        .to_path_buf()
}

/// One text file.
#[derive(Debug)]
pub struct File {
    /// Its path below the workspace, with `/`.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl File {
    /// The part after the last dot, or the whole name where there is none.
    pub fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.rsplit('.').next().unwrap_or(name)
    }
}

/// Every text file that belongs to the project, sorted by path; captured data and what tools generate is left out.
pub fn files() -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable workspace").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if !matches!(
                    name.to_str(),
                    Some(".git" | "target" | "node_modules" | "dist" | "data" | ".cache")
                ) {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                let below = path.strip_prefix(&root).expect("found below the root");
                let path = below.to_string_lossy().replace('\\', "/");
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The Rust files among [`files`].
pub fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.extension() == "rs").collect()
}

/// A member of the workspace and what its manifest names.
#[derive(Debug)]
pub struct Member {
    /// The folder below the workspace.
    pub folder: String,
    /// The package's name.
    pub name: String,
    /// Names in any of its dependency tables, target-specific ones included.
    pub dependencies: Vec<String>,
    /// Names in its tables of development dependencies.
    pub dev_dependencies: Vec<String>,
}

/// All members, read from the manifests themselves.
pub fn members() -> Vec<Member> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace's manifest");
    let list = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .expect("a list of members")
        .0;
    list.split('"').skip(1).step_by(2).map(member).collect()
}

fn member(folder: &str) -> Member {
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("the member's manifest");
    let mut member = Member {
        folder: folder.to_owned(),
        name: String::new(),
        dependencies: Vec::new(),
        dev_dependencies: Vec::new(),
    };
    let mut table = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_end_matches(']').to_owned();
            // `[dependencies.name]` is a table of its own.
            if let Some((kind, name)) = table.rsplit_once("dependencies.") {
                member.record(kind.ends_with("dev-"), name);
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let key = key.trim();
            if table == "package" && key == "name" {
                member.name = value.trim().trim_matches('"').to_owned();
            } else if table.ends_with("dependencies") {
                member.record(table.ends_with("dev-dependencies"), key);
            }
        }
    }
    member
}

impl Member {
    fn record(&mut self, dev: bool, key: &str) {
        let name = key.split('.').next().unwrap_or(key).trim_matches('"').to_owned();
        if dev {
            self.dev_dependencies.push(name);
        } else {
            self.dependencies.push(name);
        }
    }
}
