//! The rules of the house that a compiler does not know: who may depend on whom, how large things may grow, what
//! documents must and must not say. Reads files only.

use atoll_tests::tree::{File, files, members, rust_files};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Each crate and the crates of ours that it may name. `tests` sees all.
const DIRECTIONS: [(&str, &[&str]); 7] = [
    ("atoll-protocol", &[]),
    ("atoll-pairing", &["atoll-protocol"]),
    ("atoll-capabilities", &["atoll-protocol"]),
    ("atoll-node", &["atoll-protocol", "atoll-pairing", "atoll-capabilities"]),
    ("atoll-agent", &["atoll-protocol"]),
    ("atoll-channels", &["atoll-protocol"]),
    (
        "atoll-gateway",
        &[
            "atoll-protocol",
            "atoll-pairing",
            "atoll-capabilities", // commands on the gateway's own host
            "atoll-agent",
            "atoll-channels",
        ],
    ),
];

/// Things outside and the crates that may name them, so that each has one place where it can be replaced.
const OWNERS: [(&str, &[&str]); 22] = [
    ("quinn", &["atoll-pairing"]),
    ("rustls", &["atoll-pairing"]),
    ("tokio-rustls", &["atoll-pairing"]),
    ("rcgen", &["atoll-pairing"]),
    ("tokio-tungstenite", &["atoll-pairing"]),
    ("ed25519-dalek", &["atoll-pairing"]),
    ("mdns-sd", &["atoll-pairing"]),
    ("process-wrap", &["atoll-capabilities"]),
    ("rmcp", &["atoll-capabilities"]),
    ("nokhwa", &["atoll-capabilities"]),
    ("x11rb", &["atoll-capabilities"]),
    ("xcap", &["atoll-capabilities"]),
    ("teloxide", &["atoll-channels"]),
    ("reqwest", &["atoll-agent"]),
    ("cap-std", &["atoll-agent", "atoll-capabilities"]),
    ("bollard", &["atoll-gateway"]),
    ("rusqlite", &["atoll-gateway"]),
    ("axum", &["atoll-gateway"]),
    ("hyper", &["atoll-gateway"]),
    ("clap", &["atoll-gateway", "atoll-node"]),
    ("clap_complete", &["atoll-gateway", "atoll-node"]),
    ("anyhow", &["atoll-gateway", "atoll-node"]),
];

/// What would give `protocol` a socket, a clock, randomness or a thread.
const IMPURE: [&str; 8] = [
    "tokio",
    "tokio-util",
    "futures-util",
    "async-trait",
    "getrandom",
    "rand",
    "rustix",
    "jiff",
];

/// A file of this many lines raises the alarm.
const FILE_LINES: usize = 600;
/// So does a function, from `fn` to its closing brace, tables of cases not counted.
const FUNCTION_LINES: usize = 60;
/// And a trait with more methods.
const TRAIT_METHODS: usize = 4;

/// Functions that are longer and stay so, each with the reason. Only a routing `match` belongs here.
const LONG_FUNCTIONS: [(&str, &str, &str); 1] = [(
    "pairing/src/book/tests/property.rs",
    "apply",
    "routes each operation of the property test to the book",
)];

/// Traits that have more methods and keep them, each with the reason.
const WIDE_TRAITS: [(&str, &str, &str); 0] = [];

fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn crates_depend_only_in_the_agreed_direction() {
    let members = members();
    assert_eq!(
        members.len(),
        DIRECTIONS.len() + 1,
        "a crate is missing in this file's table"
    );
    let mut broken = Vec::new();
    for member in members.iter().filter(|member| member.name != "atoll-tests") {
        let (_, allowed) = DIRECTIONS
            .iter()
            .find(|(name, _)| *name == member.name)
            .unwrap_or_else(|| panic!("{} is not in this file's table", member.name));
        let named = member.dependencies.iter().chain(&member.dev_dependencies);
        for name in named.filter(|name| name.starts_with("atoll-") && !allowed.contains(&name.as_str())) {
            broken.push(format!("{} names {name}", member.name));
        }
    }
    assert_none(&broken, "wrong direction");
}

#[test]
fn each_outside_thing_is_named_by_its_owner_alone() {
    let mut broken = Vec::new();
    for member in members().iter().filter(|member| member.name != "atoll-tests") {
        assert!(!member.dependencies.is_empty(), "nothing was read of {}", member.folder);
        for name in &member.dependencies {
            let owners = OWNERS.iter().filter(|(thing, _)| thing == name);
            for (_, owners) in owners.filter(|(_, owners)| !owners.contains(&member.name.as_str())) {
                broken.push(format!(
                    "{} names {name}, which belongs to {}",
                    member.name,
                    owners.join(", ")
                ));
            }
        }
    }
    assert_none(&broken, "one crate names each outside thing");
}

#[test]
fn protocol_knows_no_socket_clock_randomness_or_thread() {
    let members = members();
    let protocol = members
        .iter()
        .find(|member| member.name == "atoll-protocol")
        .expect("protocol");
    let impure = |name: &&String| IMPURE.contains(&name.as_str());
    let mut broken: Vec<String> = protocol.dependencies.iter().filter(impure).cloned().collect();
    let mut files = rust_files();
    files.retain(|file| file.path.starts_with("protocol/src/"));
    for file in files.iter().filter(|file| !is_for_tests(file, &files)) {
        // Tests come last in a file.
        let shipped = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in ["std::net", "std::thread", "SystemTime::now", "Instant::now"] {
            if shipped
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(word))
            {
                broken.push(format!("{} uses {word}", file.path));
            }
        }
    }
    assert_none(&broken, "protocol is pure");
}

#[test]
fn clap_and_anyhow_stay_in_main_and_cli() {
    let mut broken = Vec::new();
    for file in rust_files() {
        let at_the_edge =
            ["/main.rs", "/cli.rs"].iter().any(|end| file.path.ends_with(end)) || file.path.contains("/cli/");
        if at_the_edge || file.path.starts_with("tests/") {
            continue;
        }
        for (number, line) in code_lines(&file) {
            if ["clap::", "anyhow::", "anyhow!"].iter().any(|word| line.contains(word)) {
                broken.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    assert_none(&broken, "errors inside are typed, and arguments end at the edge");
}

#[test]
fn every_file_opens_with_what_it_owns_and_is_not_too_long() {
    let mut broken = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        if !file.text.starts_with("//! ") {
            broken.push(format!("{} does not open with `//!`", file.path));
        }
        if lines > FILE_LINES {
            broken.push(format!("{} has {lines} lines", file.path));
        }
        let name = file.path.rsplit('/').next().unwrap_or_default();
        if ["mod.rs", "util.rs", "utils.rs", "helper.rs", "helpers.rs", "manager.rs"].contains(&name) {
            broken.push(format!("{} has a name that says nothing", file.path));
        }
    }
    assert_none(&broken, "files");
}

#[test]
fn functions_and_traits_are_small() {
    let mut broken = Vec::new();
    let mut excused = Vec::new();
    let mut seen = 0;
    for file in rust_files() {
        let mut sizes = Sizes::default();
        sizes.visit_file(&syn::parse_file(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.path)));
        seen += sizes.functions.len();
        let functions = sizes
            .functions
            .iter()
            .map(|found| (found, FUNCTION_LINES, "lines", &LONG_FUNCTIONS[..]));
        let traits = sizes
            .traits
            .iter()
            .map(|found| (found, TRAIT_METHODS, "methods", &WIDE_TRAITS[..]));
        for ((name, size), most, unit, excuses) in functions.chain(traits).filter(|((_, size), most, ..)| size > most) {
            if excuses
                .iter()
                .any(|(path, known, _)| *path == file.path && known == name)
            {
                excused.push((file.path.clone(), name.clone()));
            } else {
                broken.push(format!("{}: {name} has {size} {unit}, more than {most}", file.path));
            }
        }
    }
    assert!(seen > 0, "no function was read");
    for (path, name, _) in LONG_FUNCTIONS.iter().chain(&WIDE_TRAITS) {
        if !excused.iter().any(|(file, known)| file == path && known == name) {
            broken.push(format!("{path}: {name} needs no excuse any more"));
        }
    }
    assert_none(&broken, "sizes");
}

#[test]
fn no_test_is_switched_off() {
    let mut broken = Vec::new();
    for file in rust_files() {
        let mut off = Sizes::default();
        off.visit_file(&syn::parse_file(&file.text).expect("parsed above too"));
        broken.extend(off.ignored.iter().map(|name| format!("{}: {name}", file.path)));
    }
    assert_none(&broken, "ignored tests");
}

#[test]
fn documents_and_comments_will_still_be_true_elsewhere() {
    let reference = regex_lite::Regex::new(r"(^|[^&\w])#\d+\b|\b(issue|pull request|PR) #?\d+").expect("a pattern");
    let machine = regex_lite::Regex::new(r#"(^|[\s"'`(=])/(home|root|Users|work)/\w"#).expect("a pattern");
    let mut broken = Vec::new();
    for file in files() {
        let document = file.extension() == "md" || file.path.starts_with("scripts/") || file.path.starts_with(".ci/");
        for (number, line) in file.text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            let comment = file.extension() == "rs" && line.trim_start().starts_with("//");
            if (document || comment) && (reference.is_match(line) || machine.is_match(line)) {
                broken.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    assert_none(&broken, "a reference to a tracker or to one machine");
}

/// Whether the file is a module that only tests compile.
fn is_for_tests(file: &File, files: &[File]) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    let declared = format!("#[cfg(test)]\nmod {name};");
    files.iter().any(|other| other.text.contains(&declared))
}

/// Lines that are not comments, numbered from 1.
fn code_lines(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let numbered = file.text.lines().enumerate().map(|(at, line)| (at + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The lines from its first to its last.
fn height(part: &impl Spanned) -> usize {
    let span = part.span();
    span.end().line - span.start().line + 1
}

/// Lines of array literals: a table of cases is data, and a long one is a good one.
#[derive(Default)]
struct Tables(usize);

impl Visit<'_> for Tables {
    fn visit_expr_array(&mut self, table: &syn::ExprArray) {
        self.0 += height(table) - 1;
    }

    fn visit_macro(&mut self, table: &syn::Macro) {
        if table.path.is_ident("vec") {
            self.0 += height(table) - 1;
        }
    }
}

/// Functions with their lines, traits with their methods, and tests that do not run.
#[derive(Default)]
struct Sizes {
    functions: Vec<(String, usize)>,
    traits: Vec<(String, usize)>,
    ignored: Vec<String>,
}

impl Sizes {
    fn function(&mut self, attributes: &[syn::Attribute], signature: &syn::Signature, body: &syn::Block) {
        let mut tables = Tables::default();
        tables.visit_block(body);
        let lines = height(body) + height(signature) - 1 - tables.0;
        let name = signature.ident.to_string();
        if attributes.iter().any(|attribute| attribute.path().is_ident("ignore")) {
            self.ignored.push(name.clone());
        }
        self.functions.push((name, lines));
    }
}

impl Visit<'_> for Sizes {
    fn visit_item_fn(&mut self, item: &syn::ItemFn) {
        self.function(&item.attrs, &item.sig, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &syn::ImplItemFn) {
        self.function(&item.attrs, &item.sig, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_trait(&mut self, item: &syn::ItemTrait) {
        let methods = item
            .items
            .iter()
            .filter(|item| matches!(item, syn::TraitItem::Fn(_)))
            .count();
        self.traits.push((item.ident.to_string(), methods));
        syn::visit::visit_item_trait(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.attrs, &item.sig, body);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}
