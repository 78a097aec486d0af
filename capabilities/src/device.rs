//! `device.info`, `device.status` and `device.health`: what this device is and how it is doing. Reads only; the one place that asks the system
//! for figures. What the system does not tell is absent.

mod network;
mod power;
mod thermal;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::installed::{Installed, Task};
use crate::{Call, Capability, Description};
use power::Battery;

const POWER: &str = "/sys/class/power_supply";

/// The longest that a program may take to say how the battery is.
const BATTERY: Duration = Duration::from_secs(3);

/// The figures of the event `node.host.stats`; what the system does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStats {
    /// Processors that this process may use.
    pub cpu_count: usize,
    /// Over 1, 5 and 15 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average: Option<[f64; 3]>,
    /// Bytes.
    pub memory_total_bytes: u64,
    /// Bytes that programs could still have.
    pub memory_free_bytes: u64,
    /// Bytes of the file system that holds the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_total_bytes: Option<u64>,
    /// Bytes of it that this user could still write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_available_bytes: Option<u64>,
}

/// Reads the figures; `folder` says which file system is meant.
pub fn host_stats(folder: &Path) -> HostStats {
    let memory = system::memory().unwrap_or_default();
    let disk = system::disk(folder);
    HostStats {
        cpu_count: cpu_count(),
        load_average: system::load(),
        memory_total_bytes: memory.0,
        memory_free_bytes: memory.1,
        disk_total_bytes: disk.map(|(total, _)| total),
        disk_available_bytes: disk.map(|(_, available)| available),
    }
}

/// The device commands.
#[derive(Debug)]
pub struct Device {
    name: String,
    folder: PathBuf,
    installed: Installed,
}

impl Device {
    /// `name` is what the owner calls it; `folder` says which file system counts.
    pub fn new(name: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            folder: folder.into(),
            installed: Installed::here(),
        }
    }

    fn info(&self) -> Json {
        let (system_version, hostname) = system::names();
        Json::from(json!({
            "deviceName": self.name,
            "modelIdentifier": std::env::consts::ARCH,
            "systemName": std::env::consts::OS,
            "systemVersion": system_version,
            "appVersion": env!("CARGO_PKG_VERSION"),
            "appBuild": env!("CARGO_PKG_VERSION"),
            "locale": std::env::var("LANG").unwrap_or_default(),
            "hostname": hostname,
            "arch": std::env::consts::ARCH,
            "cpuCount": cpu_count(),
        }))
    }

    /// In short.
    async fn status(&self) -> Json {
        let mut shown = figures(&self.folder);
        if let Some(battery) = self.battery(Path::new(POWER)).await {
            shown["battery"] = battery.json();
        }
        shown.into()
    }

    /// With each sensor and each way into a network.
    async fn health(&self) -> Json {
        let mut shown = figures(&self.folder);
        shown["battery"] = self
            .battery(Path::new(POWER))
            .await
            .map_or(Value::Null, |battery| battery.json());
        shown["temperatures"] = json!(thermal::in_folders(Path::new("/sys/class/thermal")));
        shown.into()
    }

    /// `power_supply` is where Linux tells of it.
    async fn battery(&self, power_supply: &Path) -> Option<Battery> {
        if let Some(battery) = power::in_folders(power_supply) {
            return Some(battery);
        }
        let until = Instant::now() + BATTERY;
        if self.installed.has("termux-battery-status") {
            let output = self.installed.run(Task::new(["termux-battery-status"]), until).await;
            return power::of_termux(&output.ok()?);
        }
        if cfg!(target_os = "macos") {
            let output = self.installed.run(Task::new(["pmset", "-g", "batt"]), until).await;
            return power::of_pmset(&output.ok()?);
        }
        None
    }
}

fn figures(folder: &Path) -> Value {
    let stats = host_stats(folder);
    let used = |total: u64, free: u64| json!({"totalBytes": total, "freeBytes": free, "usedBytes": total.saturating_sub(free)});
    let mut shown = json!({
        "storage": used(stats.disk_total_bytes.unwrap_or(0), stats.disk_available_bytes.unwrap_or(0)),
        "memory": used(stats.memory_total_bytes, stats.memory_free_bytes),
        "loadAverage": stats.load_average,
        "cpuCount": stats.cpu_count,
        "uptimeSeconds": system::uptime_seconds(),
    });
    if let Some(interfaces) = network::in_folders(Path::new("/sys/class/net")) {
        shown["network"] = network::summary(&interfaces);
    }
    shown
}

#[async_trait]
impl Capability for Device {
    fn describe(&self) -> Description {
        Description {
            cap: "device",
            commands: vec!["device.info", "device.status", "device.health"],
            missing: Vec::new(),
        }
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        match call.command.as_str() {
            "device.info" => Ok(Some(self.info())),
            "device.status" => Ok(Some(self.status().await)),
            "device.health" => Ok(Some(self.health().await)),
            other => Err(CallError::new(
                "INVALID_REQUEST",
                format!("{other} is not a command of this capability"),
            )),
        }
    }
}

fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::path::Path;

    /// Total and available bytes.
    pub(super) fn memory() -> Option<(u64, u64)> {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let bytes = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some((bytes("MemTotal:")?, bytes("MemAvailable:")?))
    }

    pub(super) fn load() -> Option<[f64; 3]> {
        let text = std::fs::read_to_string("/proc/loadavg").ok()?;
        let mut figures = text.split_whitespace().map_while(|figure| figure.parse().ok());
        Some([figures.next()?, figures.next()?, figures.next()?])
    }

    pub(super) fn uptime_seconds() -> Option<u64> {
        let text = std::fs::read_to_string("/proc/uptime").ok()?;
        text.split('.').next()?.parse().ok()
    }

    pub(super) fn disk(folder: &Path) -> Option<(u64, u64)> {
        super::unix::disk(folder)
    }

    pub(super) fn names() -> (String, String) {
        super::unix::names()
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::path::Path;

    pub(super) fn memory() -> Option<(u64, u64)> {
        None
    }

    pub(super) fn load() -> Option<[f64; 3]> {
        None
    }

    pub(super) fn uptime_seconds() -> Option<u64> {
        None
    }

    #[cfg(unix)]
    pub(super) fn disk(folder: &Path) -> Option<(u64, u64)> {
        super::unix::disk(folder)
    }

    #[cfg(not(unix))]
    pub(super) fn disk(_folder: &Path) -> Option<(u64, u64)> {
        None
    }

    #[cfg(unix)]
    pub(super) fn names() -> (String, String) {
        super::unix::names()
    }

    #[cfg(not(unix))]
    pub(super) fn names() -> (String, String) {
        (String::new(), std::env::var("COMPUTERNAME").unwrap_or_default())
    }
}

#[cfg(unix)]
mod unix {
    use std::path::Path;

    /// Total and available bytes of the file system that holds `folder`.
    pub(super) fn disk(folder: &Path) -> Option<(u64, u64)> {
        let stat = rustix::fs::statvfs(folder).ok()?;
        Some((
            stat.f_blocks.checked_mul(stat.f_frsize)?,
            stat.f_bavail.checked_mul(stat.f_frsize)?,
        ))
    }

    /// The system's version and the host's name.
    pub(super) fn names() -> (String, String) {
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        (text(uname.release()), text(uname.nodename()))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::installed::tests::scripts;

    #[tokio::test]
    async fn the_figures_of_this_host_are_plausible() {
        let stats = host_stats(Path::new("/"));
        assert!(stats.cpu_count >= 1);
        assert!(stats.memory_total_bytes > stats.memory_free_bytes && stats.memory_free_bytes > 0);
        assert!(stats.disk_total_bytes.expect("known") >= stats.disk_available_bytes.expect("known"));
        assert!(stats.load_average.expect("known")[0] >= 0.0);
        let device = Device::new("desk", "/");
        assert_eq!(device.info().tree()["deviceName"], "desk");
        assert!(!device.info().tree()["hostname"].as_str().expect("known").is_empty());
        let status = device.status().await.tree();
        assert!(status["uptimeSeconds"].as_u64().expect("known") > 0);
        let health = device.health().await.tree();
        let (total, free) = (&health["memory"]["totalBytes"], &health["memory"]["freeBytes"]);
        assert!(health["memory"]["usedBytes"].as_u64() < total.as_u64() && free.as_u64() < total.as_u64());
        assert!(
            health["network"]["interfaces"].is_array() && health["temperatures"].is_array(),
            "{health}"
        );
    }

    #[tokio::test]
    async fn a_phone_is_asked_for_its_battery_and_one_that_does_not_answer_has_none() {
        for (script, expected) in [
            (
                r#"echo '{"percentage": 42, "status": "CHARGING", "temperature": 30.5}'"#,
                json!({"level": 0.42, "state": "charging", "temperatureCelsius": 30.5}),
            ),
            ("exit 1", Value::Null),
            ("echo nothing", Value::Null),
        ] {
            let (_folder, installed) = scripts(&[("termux-battery-status", script)], &[]);
            let device = Device {
                installed,
                ..Device::new("phone", "/")
            };
            let battery = device.battery(Path::new("/nowhere")).await;
            assert_eq!(battery.map_or(Value::Null, |battery| battery.json()), expected);
        }
    }
}
