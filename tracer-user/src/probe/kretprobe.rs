//! Probes of a function's return with a limit of our own choosing, through tracefs.
//!
//! The kernel follows a limited number of calls of a probed function at once, in all processes
//! together: a process that waits in read(2) of any pipe, or a shell at its prompt, takes one. What
//! aya opens has the default (`init_kretprobe`, kernel/kprobes.c), which can be as low as the number
//! of CPUs and is used up on any machine. Only a probe defined in tracefs may say how many
//! (Documentation/trace/kprobetrace.rst); that definition stays until it is taken back.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    mem,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

/// Calls of one function that the kernel follows at once: the most that it allows
/// (`KRETPROBE_MAXACTIVE_MAX`, kernel/trace/trace_kprobe.c). Each takes some 64 bytes.
pub const CALLS_AT_ONCE: u32 = 4096;

/// Where tracefs is mounted, by itself and within debugfs.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// Begins the name of each group of definitions; the pid of its tracer follows.
const GROUP: &str = "lastbyte_";

/// Where the kernel says that it can probe functions.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// Why a return cannot be probed.
#[derive(Debug, thiserror::Error)]
pub enum KretprobeError {
    /// A kernel without.
    #[error("the kernel is built without kprobes (CONFIG_KPROBE_EVENTS)")]
    NoKprobes,
    /// Definitions cannot be made.
    #[error("there is no tracefs with kprobe_events in it: mount -t tracefs tracefs {}", TRACEFS[0])]
    NoTracefs,
    /// A file of tracefs.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// The kernel has no such function, or forbids to probe it.
    #[error("the kernel does not let this function be probed: {0}")]
    Define(io::Error),
    /// A system call.
    #[error("{0}: {1}")]
    Call(&'static str, io::Error),
}

/// The return probes of one tracer; detached and taken back when dropped.
pub struct Kretprobes {
    tracefs: PathBuf,
    group: String,
    /// Kept open: the tracer may have fewer privileges at its end.
    definitions: File,
    attached: Vec<(String, OwnedFd)>,
}

impl Kretprobes {
    /// Takes back what killed tracers left.
    ///
    /// # Errors
    /// When the kernel has no kprobes, or there is no tracefs, or it may not be written to.
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
            probes.take_back(event);
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
                self.take_back(&event);
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

    /// One that is in use stays (`EBUSY`).
    fn take_back(&mut self, event: &str) {
        if let Err(error) = self
            .definitions
            .write_all(format!("-:{event}\n").as_bytes())
        {
            log::debug!("kprobe_events: {event} stays: {error}");
        }
    }
}

impl Drop for Kretprobes {
    fn drop(&mut self) {
        for (event, probe) in mem::take(&mut self.attached) {
            drop(probe);
            self.take_back(&event);
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

/// `struct perf_event_attr` (include/uapi/linux/perf_event.h) as far as its first version went.
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

/// Opens the event of this id on one CPU: programs run on all of them nevertheless, since they are
/// the event's and not the descriptor's (`perf_event_attach_bpf_prog`, kernel/trace/bpf_trace.c).
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
