//! What a systemd unit forbids, applied to this process as systemd would.

mod calls;
mod files;
mod unit;

use std::collections::HashSet;

use anyhow::Context as _;
use caps::{CapSet, Capability};
use nix::sys::prctl;

pub use unit::Unit;

impl Unit {
    /// Takes away from this process what the unit takes away; for good.
    ///
    /// # Errors
    /// When it is not root's, and when the kernel or `systemd-analyze` refuse.
    pub fn apply(&self) -> anyhow::Result<()> {
        // Asked before anything is forbidden.
        let filters = calls::filters(self)?;
        files::restrict(self)?;
        let bounding = self.capabilities()?;
        for capability in caps::all().difference(&bounding) {
            // Those that this kernel does not know are in no set.
            if caps::has_cap(None, CapSet::Bounding, *capability)? {
                caps::drop(None, CapSet::Bounding, *capability)?;
            }
        }
        caps::clear(None, CapSet::Inheritable)?;
        caps::clear(None, CapSet::Ambient)?;
        if self.is_on("NoNewPrivileges") {
            prctl::set_no_new_privs().context("no_new_privs")?;
        }
        for filter in &filters {
            seccompiler::apply_filter(filter).context("filtering system calls")?;
        }
        Ok(())
    }

    fn capabilities(&self) -> anyhow::Result<HashSet<Capability>> {
        let names = self.words("CapabilityBoundingSet");
        let known = names.map(|name| name.parse().with_context(|| name.to_owned()));
        known.collect()
    }
}
