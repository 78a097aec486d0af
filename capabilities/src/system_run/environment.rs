//! The environment of a command: a short list passes through from this process, and a request can add only what cannot change which
//! code runs. Owns both lists.

use std::collections::BTreeMap;

use atoll_protocol::error::CallError;
use sha2::{Digest, Sha256};

use super::request::invalid;

/// Words apart by one space, as all the lists here. Variables of this process that commands see.
const BASE: &str = "\
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TERM COLORTERM TZ TMPDIR DISPLAY WAYLAND_DISPLAY XDG_RUNTIME_DIR \
    DBUS_SESSION_BUS_ADDRESS PREFIX ANDROID_ROOT ANDROID_DATA SYSTEMROOT COMSPEC TEMP TMP USERPROFILE PATHEXT";

/// Names that choose code, files or hosts in some common program.
const DENIED: &str = "\
    PATH HOME USER LOGNAME SHELL ENV IFS CDPATH FPATH PWD OLDPWD PS4 GLOBIGNORE PROMPT_COMMAND SHELLOPTS BASHOPTS EDITOR \
    VISUAL PAGER MANPAGER BROWSER INPUTRC HISTFILE CLASSPATH GCONV_PATH LOCPATH NLSPATH HOSTALIASES LOCALDOMAIN TMPDIR \
    TEMP TMP TERMINFO TERMINFO_DIRS TERMCAP TERMPATH CC CXX CPP LD AR AS CFLAGS CXXFLAGS LDFLAGS COMSPEC PATHEXT \
    SYSTEMROOT PREFIX DISPLAY WAYLAND_DISPLAY MAVEN_OPTS GRADLE_OPTS SBT_OPTS JAVA_HOME TAR_OPTIONS TAPE RSH \
    GREP_OPTIONS UNZIP ZIPOPT RSYNC_RSH XAUTHORITY KUBECONFIG WGETRC SCREENRC PSMODULEPATH PROXYCOMMAND POSIXLY_CORRECT \
    BASH TCLLIBPATH";

const DENIED_PREFIXES: &str = "\
    LD_ DYLD_ BASH_ ZSH ZDOTDIR NODE_ NPM_ YARN_ PNPM_ COREPACK_ BUN_ DENO_ PYTHON PIP_ UV_ VIRTUAL_ENV CONDA_ POETRY_ \
    PERL RUBY GEM_ BUNDLE_ PHP LUA_ R_ JULIA_ ERL_ ELIXIR_ GIT_ HG SVN_ SSH_ SUDO_ GCC_ COMPILER_ RUST CARGO_ GO CGO_ \
    DOTNET_ CORECLR_ COMPLUS_ COR_ JAVA_ _JAVA_ JDK_ GLIBC_ MALLOC_ RES_ OPENSSL_ SSL_ GNUTLS_ NSS_ CURL_ XDG_ DBUS_ \
    GTK_ GDK_ GIO_ GST_ G_ QT_ KDE DOCKER_ CONTAINER PODMAN_ HELM_ ANSIBLE_ TF_ VAGRANT_ MAKE GNUMAKE CMAKE_ LESS MAN \
    VIM NVIM_ EMACS FZF_ RIPGREP_ SYSTEMD_ TMUX PAM_ ATOLL_ OPENCLAW_ TCL GUILE_ OCAML CAML_ GHC NIX_ FAKEROOT ASAN_ \
    LSAN_ UBSAN_ TSAN_ VALGRIND_ GDB PG MYSQL_ JAVASCRIPT_ NPX_ TERMUX_";

const DENIED_SUFFIXES: &str = "_PROXY _PRELOAD _ASKPASS _EDITOR _PAGER _WRAPPER _OPTIONS OPTS";

/// Bounds of a requested environment: entries, and bytes of one value. More: refused.
const ENTRIES: usize = 128;
const VALUE_BYTES: usize = 32 * 1024;

/// The part of this process's environment that commands see.
pub(crate) fn base(all: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    all.filter(|(name, _)| listed(BASE, name) || name.starts_with("LC_"))
        .collect()
}

/// Checks what a request adds.
///
/// # Errors
/// `INVALID_REQUEST` that names the first variable it cannot set.
pub(super) fn check(requested: &BTreeMap<String, String>) -> Result<(), CallError> {
    if requested.len() > ENTRIES {
        return Err(invalid(format!(
            "env has {} entries; {ENTRIES} are allowed",
            requested.len()
        )));
    }
    for (name, value) in requested {
        if !is_plain(name) {
            return Err(invalid(format!(
                "env.{} is not a plain variable name",
                name.escape_debug()
            )));
        }
        if is_denied(name) {
            return Err(invalid(format!(
                "env.{name} cannot be set by a request: it can change what code runs. Leave it out, or set it inside a script on the device"
            )));
        }
        if value.len() > VALUE_BYTES || value.contains('\0') {
            return Err(invalid(format!(
                "env.{name} has a value that is too long or holds a NUL character"
            )));
        }
    }
    Ok(())
}

fn is_plain(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_denied(name: &str) -> bool {
    // Some programs read lower-case twins (`npm_config_…`, `http_proxy`).
    let name = name.to_ascii_uppercase();
    listed(DENIED, &name)
        || DENIED_PREFIXES.split(' ').any(|prefix| name.starts_with(prefix))
        || DENIED_SUFFIXES.split(' ').any(|suffix| name.ends_with(suffix))
}

fn listed(list: &str, name: &str) -> bool {
    list.split(' ').any(|known| known == name)
}

/// SHA-256 over the sorted `NAME=value\0`, as a plan binds it.
pub(super) fn sha256(requested: &BTreeMap<String, String>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (name, value) in requested {
        digest.update(format!("{name}={value}\0"));
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_choose_code_are_refused_by_name() {
        for name in [
            "PATH",
            "Path",
            "LD_PRELOAD",
            "DYLD_INSERT_LIBRARIES",
            "BASH_ENV",
            "ENV",
            "NODE_OPTIONS",
            "PYTHONPATH",
            "PERL5OPT",
            "RUBYOPT",
            "GIT_SSH_COMMAND",
            "npm_config_script_shell",
            "https_proxy",
            "BASH_FUNC_ls",
            "LESSOPEN",
            "GLIBC_TUNABLES",
            "SSH_ASKPASS",
            "IFS",
        ] {
            let error = check(&[(name.to_owned(), "x".to_owned())].into()).expect_err(name);
            assert_eq!(error.code, "INVALID_REQUEST");
            assert!(error.message.contains(name), "{}", error.message);
        }
    }

    #[test]
    fn names_that_are_not_plain_are_refused() {
        for name in ["", "A=B", "1A", "A B", "BASH_FUNC_x%%", "Ä", "A\0"] {
            assert!(check(&[(name.to_owned(), "x".to_owned())].into()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn ordinary_names_pass() {
        for name in [
            "FOO",
            "NO_COLOR",
            "LANG",
            "LC_ALL",
            "TZ",
            "CI",
            "MY_TOKEN",
            "DEBUG",
            "lower_case",
        ] {
            check(&[(name.to_owned(), "x".to_owned())].into()).expect(name);
        }
    }

    #[test]
    fn only_the_list_passes_through_from_this_process() {
        let all = [
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("ATOLL_GATEWAY_TOKEN", "secret"),
            ("AWS_SECRET", "x"),
        ];
        let seen = base(all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["LC_ALL", "PATH"]);
    }
}
