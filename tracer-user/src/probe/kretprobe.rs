//! Return probes with a higher limit than the kernel's default, through tracefs.
//!
//! The kernel follows a limited number of calls of a probed function at once, in all processes
//! together. A process that waits in read(2) of any pipe, or a shell at its prompt, takes one. A
//! probe that aya opens has the default limit (`init_kretprobe`, kernel/kprobes.c), which can be as
//! low as the number of CPUs and is used up on any machine. Only a probe that is defined in tracefs
//! can set its limit (Documentation/trace/kprobetrace.rst). The definition stays until it is removed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    mem,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

/// Calls of one function that the kernel follows at once: the largest number that it allows
/// (`KRETPROBE_MAXACTIVE_MAX`, kernel/trace/trace_kprobe.c). Each takes some 64 bytes.
pub const CALLS_AT_ONCE: u32 = 4096;

/// Where tracefs is mounted: by itself, or within debugfs.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// Prefix of the names of our groups of definitions. The pid of the tracer follows.
const GROUP: &str = "lastbyte_";

/// Exists if the kernel supports kprobes.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// Why return probes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KretprobeError {
    /// The kernel has no kprobes.
    #[error("the kernel is built without kprobes (CONFIG_KPROBE_EVENTS)")]
    NoKprobes,
    /// There is no tracefs to define probes in.
    #[error("there is no tracefs with kprobe_events in it: mount -t tracefs tracefs {}", TRACEFS[0])]
    NoTracefs,
    /// A file of tracefs cannot be used.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// The kernel has no such function, or does not allow probing it.
    #[error("the kernel does not let this function be probed: {0}")]
    Define(io::Error),
    /// A system call failed.
    #[error("{0}: {1}")]
    Call(&'static str, io::Error),
}

/// The return probes of one tracer. Dropping it detaches them and removes their definitions.
pub struct Kretprobes {
    tracefs: PathBuf,
    group: String,
    /// `kprobe_events`. Kept open, because the tracer may have fewer privileges at its end.
    definitions: File,
    attached: Vec<(String, OwnedFd)>,
}

impl Kretprobes {
    /// Opens `kprobe_events`, and removes definitions that killed tracers left.
    ///
    /// # Errors
    /// When the kernel has no kprobes, or there is no tracefs, or it cannot be written to.
    pub fn open() -> Result<Self, KretprobeError> {
        if !Path::new(KPROBES).exists() {
            return Err(KretprobeError::NoKprobes);
        }
        let tracefs = TRACEFS
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.join("kprobe_events").exists())
            .ok_or(KretprobeError::NoTracefs)?;
        let path = tracefs.join("kprobe_events");
        let definitions = OpenOptions::new().append(true).open(&path);
        let definitions = definitions.map_err(|error| KretprobeError::File(path.clone(), error))?;
        let there = fs::read_to_string(&path).map_err(|error| KretprobeError::File(path, error))?;
        let mut probes = Self {
            tracefs,
            group: format!("{GROUP}{}", std::process::id()),
            definitions,
            attached: Vec::new(),
        };
        for event in abandoned(&there, |pid| Path::new("/proc").join(pid).exists()) {
            probes.remove(event);
        }
        Ok(probes)
    }

    /// Runs `program`, a loaded kretprobe, whenever `function` returns.
    ///
    /// # Errors
    /// When the kernel does not let the function be probed.
    pub fn attach(&mut self, program: impl AsFd, function: &str) -> Result<(), KretprobeError> {
        let event = format!("{}/{function}", self.group);
        let definition = format!("r{CALLS_AT_ONCE}:{event} {function}\n");
        self.definitions
            .write_all(definition.as_bytes())
            .map_err(KretprobeError::Define)?;
        match self.run(program, &event) {
            Ok(probe) => {
                self.attached.push((event, probe));
                Ok(())
            }
            Err(error) => {
                self.remove(&event);
                Err(error)
            }
        }
    }

    fn run(&self, program: impl AsFd, event: &str) -> Result<OwnedFd, KretprobeError> {
        let path = self.tracefs.join("events").join(event).join("id");
        let id = fs::read_to_string(&path)
            .and_then(|id| id.trim().parse().map_err(io::Error::other))
            .map_err(|error| KretprobeError::File(path, error))?;
        let probe =
            perf_event(id).map_err(|error| KretprobeError::Call("perf_event_open", error))?;
        let program = program.as_fd().as_raw_fd();
        control(&probe, PERF_EVENT_IOC_SET_BPF, program)
            .and_then(|()| control(&probe, PERF_EVENT_IOC_ENABLE, 0))
            .map_err(|error| KretprobeError::Call("attaching to the probe", error))?;
        Ok(probe)
    }

    /// Removes a definition. One that is in use stays (`EBUSY`).
    fn remove(&mut self, event: &str) {
        if let Err(error) = self
            .definitions
            .write_all(format!("-:{event}\n").as_bytes())
        {
            log::debug!("kprobe_events: cannot remove {event}: {error}");
        }
    }
}

impl Drop for Kretprobes {
    fn drop(&mut self) {
        for (event, probe) in mem::take(&mut self.attached) {
            drop(probe);
            self.remove(&event);
        }
    }
}

/// `GROUP/EVENT` of definitions (`r4096:GROUP/EVENT FUNCTION`) whose tracer is not `alive`.
fn abandoned(definitions: &str, alive: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
    definitions.lines().filter_map(move |line| {
        let (_, event) = line.split_whitespace().next()?.split_once(':')?;
        let pid = event.strip_prefix(GROUP)?.split('/').next()?;
        (!alive(pid)).then_some(event)
    })
}

/// The first version of `struct perf_event_attr` (include/uapi/linux/perf_event.h).
#[repr(C)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;

/// Opens the event with this id on one CPU. Its programs run on all CPUs, because they belong to the
/// event and not to the descriptor (`perf_event_attach_bpf_prog`, kernel/trace/bpf_trace.c).
fn perf_event(id: u64) -> io::Result<OwnedFd> {
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<PerfEventAttr>() as u32,
        config: id,
        rest: [0; 6],
    };
    let (any_process, first_cpu, no_group) = (-1, 0, -1);
    // SAFETY: the kernel reads `size` bytes of the struct.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            any_process,
            first_cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn control(probe: &OwnedFd, request: libc::Ioctl, argument: i32) -> io::Result<()> {
    // SAFETY: both requests take a number and write nothing.
    match unsafe { libc::ioctl(probe.as_raw_fd(), request, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_definitions_of_dead_tracers_are_abandoned() {
        let there = "p:kprobes/p_do_exit_0 do_exit\n\
                     r4096:lastbyte_17/pipe_read pipe_read\n\
                     r4096:lastbyte_18/pipe_read pipe_read\n\
                     r4096:lastbyte_17/tty_read tty_read\n";
        let found: Vec<_> = abandoned(there, |pid| pid == "18").collect();
        assert_eq!(found, ["lastbyte_17/pipe_read", "lastbyte_17/tty_read"]);
    }
}
