//! A unit's file.

use anyhow::{Context as _, bail};

/// Those that are applied.
const APPLIED: &[&str] = &[
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateTmp",
    "ProtectHome",
    "ProtectKernelTunables",
    "ProtectSystem",
    "ReadWritePaths",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
];
/// Those that forbid nothing, or what is forbidden by another as well: without CAP_SYS_TIME no clock
/// can be set, without CAP_MKNOD and a writable /dev no device be made, and so on.
const OTHERS: &[&str] = &[
    "ExecReload",
    "ExecStart",
    "KeyringMode",
    "LimitCORE",
    "LimitMEMLOCK",
    "PrivateDevices",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "Restart",
    "RestrictSUIDSGID",
    "Type",
    "UMask",
    "WatchdogSec",
];

/// The settings of a unit's `[Service]`.
#[derive(Debug)]
pub struct Unit {
    settings: Vec<(String, String)>,
}

impl Unit {
    /// Reads the file's text.
    ///
    /// # Errors
    /// When a setting is not known here: it could forbid something that would not be tried.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut settings = Vec::new();
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
                continue;
            }
            if section != "[Service]" || line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let (name, value) = line.split_once('=').with_context(|| line.to_owned())?;
            if !APPLIED.contains(&name) && !OTHERS.contains(&name) {
                bail!("{name}= is not known to this test: teach it what that forbids");
            }
            settings.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self { settings })
    }

    /// All values of a setting, in order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let own = self.settings.iter().filter(move |(other, _)| other == name);
        own.map(|(_, value)| value.as_str())
    }

    /// The words of all its values.
    pub(super) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values(name).flat_map(str::split_whitespace)
    }

    /// Whether a setting says yes.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.values(name).last() == Some("yes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_read_and_what_is_not_known_refused() {
        let unit = Unit::parse(
            "[Unit]\nFoo=1\n[Service]\n# x\nNoNewPrivileges=yes\nReadWritePaths=/a -/b\nReadWritePaths=/c\n",
        )
        .unwrap();
        assert!(unit.is_on("NoNewPrivileges"));
        assert!(!unit.is_on("PrivateTmp"));
        let paths: Vec<_> = unit.words("ReadWritePaths").collect();
        assert_eq!(paths, ["/a", "-/b", "/c"]);
        assert!(Unit::parse("[Service]\nIPAddressDeny=any\n").is_err());
    }
}
