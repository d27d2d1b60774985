//! The control group of a process, which names its container.

use tracer_ebpf::{CGROUP_LEN, Cgroup, Header, Kind, Proc};
use zerocopy::FromZeros;

/// The record of a process's control group; `None` for a process that has ended.
pub fn of(proc: Proc, time: u64) -> Option<Cgroup> {
    let text = std::fs::read(format!("/proc/{}/cgroup", proc.pid)).ok()?;
    let path = longest(&text)?;
    // The container is named by the last components.
    let path = &path[path.len().saturating_sub(CGROUP_LEN)..];
    let mut record = Cgroup::new_zeroed();
    record.header = Header::new(Kind::Cgroup, time);
    record.proc = proc;
    record.len = path.len() as u32;
    record.path[..path.len()].copy_from_slice(path);
    Some(record)
}

/// The longest of the paths in all hierarchies (`ID:CONTROLLERS:PATH` a line, cgroups(7)). With
/// version 1, a container has no group of its own in some of them.
fn longest(text: &[u8]) -> Option<&[u8]> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| line.splitn(3, |byte| *byte == b':').nth(2))
        .max_by_key(|path| path.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_is_taken() {
        assert_eq!(
            longest(b"0::/user.slice/a:b\n"),
            Some(&b"/user.slice/a:b"[..])
        );
        assert_eq!(
            longest(b"9:name=systemd:/\n4:memory:/docker/3f\n0::/\n"),
            Some(&b"/docker/3f"[..])
        );
        assert_eq!(longest(b""), None);
    }

    #[test]
    fn this_process_has_a_control_group() {
        let me = Proc {
            pid: std::process::id(),
            ..Proc::default()
        };
        let record = of(me, 7).expect("/proc/self/cgroup");
        assert_eq!((record.path[0], record.header.time), (b'/', 7));
        assert!(of(Proc::default(), 7).is_none());
    }
}
