//! Knows the programs that run what their arguments say, and so cannot be judged by their own name.
//!
//! The lists name what is known; what they miss is still bound by the owner's rule, since a program is never listed unless its owner
//! listed it. They err towards asking.

use super::Program;

/// What a rule must have before it can cover a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Nothing more than the program.
    Nothing,
    /// A pattern over the arguments too.
    Arguments,
    /// No rule covers it; why.
    Never(&'static str),
}

const SHELLS: &str = "\
    sh bash rbash dash ash zsh ksh mksh pdksh oksh fish csh tcsh yash elvish nu xonsh pwsh powershell cmd rc es osh ysh \
    git-shell screen tmux";

const MULTICALL: &str = "\
    busybox toybox toolbox coreutils";

/// They start another program that their arguments name.
const WRAPPERS: &str = "\
    env nice nohup timeout gtimeout time stdbuf setsid flock ionice chrt taskset numactl chroot unshare nsenter setpriv \
    capsh prlimit runuser su sudo sudoedit doas pkexec run0 xargs parallel watch script scriptreplay expect unbuffer \
    strace ltrace gdb lldb valgrind perf rr systemd-run systemd-inhibit dbus-run-session at batch crontab entr \
    start-stop-daemon setarch linux i386 x86_64 catchsegv faketime fakeroot proot firejail bwrap cgexec choom uclampset \
    pipesz exec command builtin eval open xdg-open setuidgid chpst s6-setuidgid gosu tini dumb-init caffeinate arch \
    rundll wsl mshta wscript cscript regsvr start";

/// They run scripts, recipes, containers, or commands on another machine.
const RUNNERS: &str = "\
    make gmake bmake cmake ninja just task rake ant mvn gradle bazel npm npx pnpm pnpx yarn yarnpkg bun bunx deno tsx \
    ts-node corepack uv uvx pip pipx poetry pdm hatch tox nox conda mamba cargo rustup go gem bundle composer docker \
    podman nerdctl buildah kubectl oc crictl ctr lxc incus machinectl ssh dropbear dbclient mosh rsh telnet socat nc \
    ncat netcat ansible ansible-playbook terraform vagrant nix nix-shell guix flatpak snap apt apt-get dpkg rpm dnf yum \
    pacman brew systemctl service openclaw atoll adb";

/// They take code; a script file named first is the one thing that a rule can bind.
const INTERPRETERS: &str = "\
    python pypy ipython perl ruby irb jruby node nodejs php php-cgi lua luajit tclsh wish r rscript julia guile racket \
    scheme sbcl clisp emacs emacsclient java jshell groovy scala kotlin clojure elixir iex erl escript ghc runghc \
    runhaskell ocaml swift dotnet mono osascript qjs d8 gjs sqlite psql mysql mariadb mongo mongosh redis-cli octave \
    gnuplot dc bc m gs tcc awk gawk mawk nawk sed gsed ed ex vi vim nvim view nano less more most man info ftp sftp";

/// Ordinary tools with an option (often one that can be abbreviated) which starts a program or loads code.
const BY_OPTION: &str = "\
    find fd fdfind tar gtar bsdtar cpio zip sort split git hg svn rsync scp curl wget rg ag tcpdump install ip iptables \
    nft openssl gpg ssh-keygen ssh-agent cc gcc g clang ld rustc pandoc convert magick ffmpeg journalctl dmesg xdotool \
    ctags 7z 7za";

/// What a rule must have to cover this program with these arguments.
pub fn demand(program: &Program, args: &[String]) -> Demand {
    let names = [&program.asked, &program.found, &program.real].map(|path| base_name(path));
    let is_in = |list: &str| names.iter().any(|name| named(list, name));
    if names.iter().any(|name| is_loader(name)) {
        return Demand::Never("the dynamic loader runs whatever its arguments name, so it always asks");
    }
    if is_in(MULTICALL)
        || names
            .iter()
            .any(|name| MULTICALL.split(' ').any(|multi| name.starts_with(multi)))
    {
        return Demand::Never("a multi-call program (busybox, toybox) can become a shell, so it always asks");
    }
    if is_in(SHELLS) {
        return Demand::Never("shell text always asks");
    }
    if is_in(WRAPPERS) {
        return Demand::Never("this program starts another one that its arguments name, so it always asks");
    }
    if is_in(RUNNERS) {
        return Demand::Never("this program runs scripts or commands of its own, so it always asks");
    }
    if is_in(INTERPRETERS) {
        return match args.first() {
            Some(script) if script.contains('/') && !script.starts_with(['-', '+']) => Demand::Arguments,
            _ => Demand::Never("an interpreter without a script path first can run inline code, so it always asks"),
        };
    }
    if is_in(BY_OPTION) {
        Demand::Arguments
    } else {
        Demand::Nothing
    }
}

/// Whether the program runs what its arguments name: a shell, a wrapper or an interpreter. Then a file among them is code too.
pub(crate) fn reads_code(program: &Program) -> bool {
    [&program.asked, &program.found, &program.real]
        .iter()
        .map(|path| base_name(path))
        .any(|name| {
            [SHELLS, MULTICALL, WRAPPERS, INTERPRETERS, RUNNERS]
                .iter()
                .any(|list| named(list, &name))
        })
}

fn base_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path).to_lowercase();
    for suffix in [".exe", ".com", ".bat", ".cmd"] {
        if let Some(stem) = name.strip_suffix(suffix) {
            return stem.to_owned();
        }
    }
    name
}

/// By the whole name, or by the part before a version (`python3.12`, `php8.2-cgi`).
fn named(list: &str, name: &str) -> bool {
    let stem = name.split(|c: char| c.is_ascii_digit()).next().unwrap_or(name);
    let stem = stem.trim_end_matches(['-', '.', '_', '+']);
    list.split(' ').any(|known| known == name || known == stem)
}

fn is_loader(name: &str) -> bool {
    name.starts_with("ld-linux")
        || name.starts_with("ld-musl")
        || name.starts_with("ld.so")
        || name == "linker"
        || name == "linker64"
}
