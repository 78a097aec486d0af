//! Machines in a local network of their own: network namespaces of the kernel behind a bridge. What programs in them announce stays there.
//! Needs no rights where users may have namespaces, and root's elsewhere.

use std::net::Ipv4Addr;
use std::path::Path;

use tokio::process::Command;

use crate::mesh::isolate;
use crate::program::{Program, built};
use crate::wait::within;

/// A machine or the switch: a process that keeps a namespace.
#[derive(Debug)]
struct Keeper(Program);

impl Keeper {
    async fn start(name: &str, mut command: Command) -> Self {
        command.args(["sh", "-c", "echo ready; exec sleep 86400"]);
        let program = Program::start(name, command);
        program.line("ready").await;
        Self(program)
    }
}

/// The network.
#[derive(Debug)]
pub struct Lan {
    switch: Keeper,
    machines: Vec<Keeper>,
    is_root: bool,
}

impl Lan {
    /// With so many machines, numbered from 0, none of which runs anything.
    ///
    /// # Panics
    /// When the system gives no namespaces.
    pub async fn new(machines: u8) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        command.args(if is_root { &["-n"][..] } else { &["-r", "-n"] });
        let switch = Keeper::start("the switch", command).await;
        let mut lan = Self {
            switch,
            machines: Vec::new(),
            is_root,
        };
        lan.set_up(
            &lan.switch,
            "ip link add br0 type bridge mcast_snooping 0; ip link set br0 up",
        )
        .await;
        for machine in 0..machines {
            lan.plug_in(machine).await;
        }
        lan
    }

    async fn plug_in(&mut self, machine: u8) {
        let mut command = self.enter(&self.switch);
        command.args(["unshare", "-n"]);
        let keeper = Keeper::start(&format!("machine {machine}"), command).await;
        let pid = keeper.0.pid();
        let cable = format!(
            "ip link add cable{machine} type veth peer name eth0 netns {pid}; ip link set cable{machine} master br0 up"
        );
        self.set_up(&self.switch, &cable).await;
        let address = Self::address(machine);
        let inside = format!("ip link set lo up; ip addr add {address}/24 dev eth0; ip link set eth0 up");
        self.set_up(&keeper, &inside).await;
        self.machines.push(keeper);
    }

    /// The address of a machine.
    pub fn address(machine: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, machine + 1)
    }

    /// Gives a machine another address in place of the one it has.
    pub async fn readdress(&self, machine: usize, address: Ipv4Addr) {
        let script = format!("ip addr flush dev eth0; ip addr add {address}/24 dev eth0");
        self.set_up(&self.machines[machine], &script).await;
    }

    /// Drops every datagram that comes to a machine, without a word.
    pub async fn drop_datagrams(&self, machine: usize) {
        // The rule for what is meant for the machine itself goes behind ours.
        let script =
            "ip rule add pref 100 lookup local; ip rule del pref 0; ip rule add pref 50 iif eth0 ipproto udp blackhole";
        self.set_up(&self.machines[machine], script).await;
    }

    /// A program of ours on a machine, with a home of its own.
    pub fn program(&self, machine: usize, name: &str, home: &Path) -> Command {
        let mut command = self.enter(&self.machines[machine]);
        isolate(&mut command, home);
        command.arg(built(name));
        command
    }

    fn enter(&self, keeper: &Keeper) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &keeper.0.pid().to_string(), "-n"]);
        if !self.is_root {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.arg("--");
        command
    }

    async fn set_up(&self, keeper: &Keeper, script: &str) {
        let mut command = self.enter(keeper);
        command.args(["sh", "-e", "-c", script]);
        let output = within(script, command.output()).await.expect("nsenter can be started");
        assert!(
            output.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
