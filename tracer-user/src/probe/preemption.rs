//! Whether the kernel can preempt a task that runs kernel code, and so one of our programs.

use std::fs;

use rustix::system::uname;

/// The mode of a kernel that was built with `PREEMPT_DYNAMIC`, such as `none voluntary (full)`. Only
/// root can read it, where debugfs is mounted.
const MODES: &str = "/sys/kernel/debug/sched/preempt";

/// Whether it can. True when the kernel does not say.
pub fn is_possible() -> bool {
    let modes = fs::read_to_string(MODES).unwrap_or_default();
    let options = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    judge(&uname().version().to_string_lossy(), &modes, &options)
}

/// The same from the kernel's version, the text of [`MODES`], and the kernel's command line.
fn judge(version: &str, modes: &str, options: &str) -> bool {
    let mode = modes
        .split_whitespace()
        .find_map(|word| word.strip_prefix('(')?.strip_suffix(')'));
    let option = options
        .split_whitespace()
        .rev()
        .find_map(|word| word.strip_prefix("preempt="));
    match mode.or(option) {
        Some("none" | "voluntary") => false,
        Some(_) => true,
        None => version.contains("PREEMPT"),
    }
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn the_mode_in_use_decides_before_what_was_built() {
        let dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.158-1 (2025-11-09)";
        assert!(!judge("#1 SMP Debian 5.10.244-1 (2025-09-29)", "", "quiet"));
        assert!(judge("#1 SMP PREEMPT_RT Debian 6.12.57-1", "", ""));
        assert!(judge(dynamic, "", "quiet"), "it may be any");
        assert!(!judge(dynamic, "none (voluntary) full\n", ""));
        assert!(judge(dynamic, "full (lazy)\n", ""));
        assert!(
            !judge(dynamic, "", "preempt=full quiet preempt=none"),
            "the last counts"
        );
        assert!(
            judge(dynamic, "none voluntary (full)\n", "preempt=none"),
            "changed since"
        );
    }
}
