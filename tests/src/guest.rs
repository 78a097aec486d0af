//! A virtual machine beside this one, with a real node in it and what the host has not got: Debian's kernel, whose module `vivid` is a camera.
//! Emulated, so it needs nothing of the host but a processor, and is slow. `scripts/test` makes what it boots (`scripts/vm.sh`). It sees
//! the programs of the host, read only, and the host's loopback address as `HOST`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::program::{Program, built};
use crate::wire::Target;

/// What takes a program of the host a second takes one in there up to half a minute, when the host is busy.
pub const SLOW: Duration = Duration::from_secs(120);

/// The host as the guest sees it.
const HOST: &str = "10.0.2.2";

/// Loads the camera's driver: one device that gives pictures of a webcam's sizes, and no other.
pub const PLUG_IN: &str = "insmod /modules/vivid.ko n_devs=1 node_types=0x1 num_inputs=1 input_types=0 num_outputs=0";

/// One that runs.
#[derive(Debug)]
pub struct Guest {
    program: Program,
    _share: TempDir,
}

impl Guest {
    /// Boots it. Once the camera is there, a node of that name, with these files in its state folder, reaches for the gateway over QUIC.
    ///
    /// # Panics
    /// When there is nothing to boot.
    pub fn boot(target: &Target, name: &str, files: &[(&str, Value)]) -> Self {
        let share = tempfile::tempdir().expect("a temporary folder");
        for (file, document) in files {
            write(&share, file, &document.to_string());
        }
        let Target { port, token } = target;
        let script = format!(
            "set -e\n{PLUG_IN}\nmkdir -m 700 /tmp/state\numask 077\ncp /share/*.json /tmp/state\ncd /tmp\n\
             ATOLL_GATEWAY_TOKEN={token} exec /programs/atoll-node run --gateway quic://{HOST}:{port} --name {name} --state-dir /tmp/state\n"
        );
        write(&share, "run", &script);
        Self {
            program: Program::start("the virtual machine", machine(share.path())),
            _share: share,
        }
    }

    /// Fails when the machine is off, which says why at once.
    ///
    /// # Panics
    /// When it is.
    pub fn is_on(&mut self) {
        if let Some(status) = self.program.ended() {
            panic!("the virtual machine is off: {status}");
        }
    }
}

fn write(share: &TempDir, name: &str, text: &str) {
    std::fs::write(share.path().join(name), text).expect("a writable folder");
}

fn machine(share: &Path) -> Command {
    let vm = installed();
    let programs = built("atoll-node");
    let programs = programs.parent().expect("a program lies in a folder");
    let mut command = Command::new(vm.join("qemu"));
    command.args(
        "-machine q35,accel=tcg -cpu max -m 512 -smp 2 -nodefaults -display none -no-reboot -serial stdio".split(' '),
    );
    command
        .arg("-kernel")
        .arg(vm.join("vmlinuz"))
        .arg("-initrd")
        .arg(vm.join("initrd"));
    command.args(["-append", "console=ttyS0 quiet loglevel=3 panic=-1"]);
    command.args("-device virtio-rng-pci -netdev user,id=net -device virtio-net-pci,netdev=net,romfile=".split(' '));
    for (tag, folder) in [
        ("usr", Path::new("/usr")),
        ("alternatives", Path::new("/etc/alternatives")),
        ("programs", programs),
        ("share", share),
    ] {
        let folder = folder.to_str().expect("text").replace(',', ",,");
        command.arg("-virtfs");
        command.arg(format!(
            "local,path={folder},mount_tag={tag},security_model=none,readonly=on,multidevs=remap"
        ));
    }
    command
}

fn installed() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let vm = cache.unwrap_or_default().join("atoll-tests/vm");
    assert!(
        vm.join("installed").is_file(),
        "not in {}: scripts/test installs it",
        vm.display()
    );
    vm
}
