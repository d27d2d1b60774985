//! What a shell cannot do: unusual ways to write to stdout, and to hold it.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{ptr, thread};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use io_uring::{IoUring, opcode, squeue, types};

/// Bytes moved by one call.
const CHUNK: usize = 64 * 1024;

#[derive(Debug, Parser)]
#[command(about = "Unusual ways to write to stdout, and to hold it")]
enum Way {
    /// writev(2), several pieces a call
    Writev { file: PathBuf },
    /// splice(2) from the file
    Splice { file: PathBuf },
    /// sendfile(2)
    Sendfile { file: PathBuf },
    /// tee(2) from a pipe that is read to nowhere afterwards
    Tee { file: PathBuf },
    /// vmsplice(2) of memory
    Vmsplice { file: PathBuf },
    /// write(2) after making the pipe as large as it may be
    BigPipe { file: PathBuf },
    /// write(2) of packets: O_DIRECT on a pipe
    Packets { file: PathBuf },
    /// Start programs that hold nothing, one after the other, for some seconds
    Spawn { seconds: u64 },
    /// Be a process with this pid until killed; needs root
    Pid { pid: i32 },
    /// Call oneself by this name, and pipe within oneself
    Named { name: CString },
    /// io_uring writes, by the caller and by a worker in turn
    Uring { file: PathBuf },
    /// Hand stdout to whoever has the socket, and end
    Pass {
        socket: PathBuf,
        /// The socket takes datagrams
        #[arg(long)]
        datagram: bool,
    },
    /// Listen on the socket for one descriptor and keep it for some seconds
    Keep { socket: PathBuf, seconds: u64 },
    /// Have the socket for some seconds and receive nothing
    Ignore {
        socket: PathBuf,
        seconds: u64,
        how: Ignorance,
    },
    /// Register stdout and stderr with an io_uring, close them and stay for some seconds
    Register { seconds: u64 },
    /// Be two processes with one descriptor table for some seconds
    Share { seconds: u64 },
}

/// Where a message waits that is not received.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ignorance {
    /// In a connection that was accepted
    Accepted,
    /// In one that was not
    Backlog,
    /// In a socket for datagrams
    Datagram,
}

const STDOUT: RawFd = libc::STDOUT_FILENO;

fn main() -> anyhow::Result<()> {
    // Not std's stdout: that one has a buffer of its own.
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    match Way::parse() {
        Way::Writev { file } => {
            let data = std::fs::read(file)?;
            let mut left = &data[..];
            while !left.is_empty() {
                let (first, rest) = left.split_at(left.len().min(1000));
                let (second, third) = rest.split_at(rest.len().min(CHUNK));
                let third = &third[..third.len().min(7)];
                let pieces = [first, second, third].map(IoSlice::new);
                let written = stdout.write_vectored(&pieces)?;
                left = &left[written..];
            }
        }
        Way::Splice { file } => {
            let file = File::open(file)?;
            while splice(file.as_raw_fd(), STDOUT)? > 0 {}
        }
        Way::Sendfile { file } => {
            let file = File::open(file)?;
            // SAFETY: a null offset means the file's own; nothing else is a pointer.
            while moved(unsafe {
                libc::sendfile(STDOUT, file.as_raw_fd(), ptr::null_mut(), CHUNK)
            })? > 0
            {}
        }
        Way::Tee { file } => tee(&File::open(file)?)?,
        Way::Vmsplice { file } => {
            let data = std::fs::read(file)?;
            let mut left = &data[..];
            while !left.is_empty() {
                let piece = libc::iovec {
                    iov_base: left.as_ptr().cast_mut().cast(),
                    iov_len: left.len().min(CHUNK),
                };
                // SAFETY: the piece lies inside `data`, which is neither changed nor freed before
                // the process ends; vmsplice only reads from it.
                let written = moved(unsafe { libc::vmsplice(STDOUT, &raw const piece, 1, 0) })?;
                left = &left[written..];
            }
        }
        Way::BigPipe { file } => {
            // SAFETY: F_SETPIPE_SZ takes a number.
            let size = unsafe { libc::fcntl(STDOUT, libc::F_SETPIPE_SZ, 1 << 20) };
            ensure!(
                size >= 1 << 20,
                "F_SETPIPE_SZ: {}",
                io::Error::last_os_error()
            );
            io::copy(&mut File::open(file)?.take(u64::MAX), &mut stdout)?;
        }
        Way::Packets { file } => {
            // SAFETY: F_SETFL takes flags.
            moved(unsafe { libc::fcntl(STDOUT, libc::F_SETFL, libc::O_DIRECT) } as isize)?;
            for packet in std::fs::read(file)?.chunks(1000) {
                stdout.write_all(packet)?;
            }
        }
        Way::Spawn { seconds } => {
            let end = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < end {
                let mut child = Command::new("true");
                child.stdin(Stdio::null()).stdout(Stdio::null());
                child.stderr(Stdio::null()).status()?;
            }
        }
        Way::Pid { pid } => as_pid(pid)?,
        Way::Named { name } => {
            // SAFETY: PR_SET_NAME reads the string up to its NUL.
            moved(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) } as isize)?;
            let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
            child
                .stdin
                .take()
                .context("no pipe")?
                .write_all(b"named\n")?;
            child.wait()?;
        }
        Way::Uring { file } => write_by_ring(&std::fs::read(file)?)?,
        Way::Pass {
            socket,
            datagram: true,
        } => {
            let from = UnixDatagram::unbound()?;
            from.connect(socket)?;
            pass(from.as_raw_fd())?;
        }
        Way::Pass { socket, .. } => pass(UnixStream::connect(socket)?.as_raw_fd())?,
        Way::Keep { socket, seconds } => {
            let listener =
                UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
            println!("ready");
            let kept = receive(&listener.accept()?.0)?;
            println!("kept {}", kept.as_raw_fd());
            thread::sleep(Duration::from_secs(seconds));
        }
        Way::Ignore {
            socket,
            seconds,
            how,
        } => ignore(&socket, how, Duration::from_secs(seconds))?,
        Way::Register { seconds } => {
            let ring = IoUring::new(1)?;
            ring.submitter()
                .register_files(&[STDOUT, libc::STDERR_FILENO])?;
            // std's own handles must not be used any more, and are not.
            for descriptor in [libc::STDIN_FILENO, STDOUT, libc::STDERR_FILENO] {
                // SAFETY: nothing reads or writes the three from here on.
                drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            }
            drop(stdout);
            thread::sleep(Duration::from_secs(seconds));
        }
        Way::Share { seconds } => share(Duration::from_secs(seconds))?,
    }
    Ok(())
}

/// Writes by IORING_OP_WRITE, one at a time.
fn write_by_ring(data: &[u8]) -> anyhow::Result<()> {
    let mut ring = IoUring::new(1)?;
    let (mut left, mut by_worker) = (data, false);
    while !left.is_empty() {
        let len = left.len().min(CHUNK);
        let flags = match by_worker {
            true => squeue::Flags::ASYNC,
            false => squeue::Flags::empty(),
        };
        let write = opcode::Write::new(types::Fd(STDOUT), left.as_ptr(), len as u32)
            .build()
            .flags(flags);
        // SAFETY: the bytes lie inside `data`, which outlives the write: its end is waited for.
        unsafe { ring.submission().push(&write) }?;
        ring.submit_and_wait(1)?;
        let done = ring.completion().next().context("no completion")?.result();
        let written = usize::try_from(done).map_err(|_| io::Error::from_raw_os_error(-done))?;
        left = &left[written..];
        by_worker = !by_worker;
    }
    Ok(())
}

/// Says which descriptor the message waits behind.
fn ignore(socket: &Path, how: Ignorance, time: Duration) -> anyhow::Result<()> {
    let socket = match how {
        Ignorance::Datagram => OwnedFd::from(UnixDatagram::bind(socket)?),
        Ignorance::Backlog => UnixListener::bind(socket)?.into(),
        Ignorance::Accepted => {
            let listener = UnixListener::bind(socket)?;
            println!("ready");
            OwnedFd::from(listener.accept()?.0)
        }
    };
    if !matches!(how, Ignorance::Accepted) {
        println!("ready");
    }
    println!("ignored {}", socket.as_raw_fd());
    thread::sleep(time);
    Ok(())
}

/// Both processes have the descriptors for this long, and end together.
fn share(time: Duration) -> io::Result<()> {
    let none: usize = 0;
    // SAFETY: as fork(2), which a process with one thread may do anything after; a stack of 0 means
    // a copy of the caller's.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_FILES | libc::SIGCHLD,
            none,
            none,
            none,
            none,
        )
    };
    match child {
        -1 => return Err(io::Error::last_os_error()),
        0 => thread::sleep(Duration::MAX),
        _ => thread::sleep(time),
    }
    let child = child as libc::pid_t;
    // SAFETY: both take numbers; a null status is not written to.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, ptr::null_mut(), 0);
    }
    Ok(())
}

/// Starts a child with that pid and waits until it is killed.
fn as_pid(pid: i32) -> anyhow::Result<()> {
    // SAFETY: clone_args is plain data for which all zeroes is a valid value.
    let mut wanted: libc::clone_args = unsafe { std::mem::zeroed() };
    wanted.exit_signal = libc::SIGCHLD as u64;
    wanted.set_tid = ptr::from_ref(&pid) as u64;
    wanted.set_tid_size = 1;
    // SAFETY: without CLONE_VM this is a fork; the arguments live until the call returns.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const wanted,
            size_of::<libc::clone_args>(),
        )
    };
    if child == 0 {
        // SAFETY: neither touches memory of ours.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::pause();
            libc::_exit(0);
        }
    }
    moved(child as isize).context("clone3")?;
    println!("ready");
    // SAFETY: a null status is allowed.
    moved(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } as isize)?;
    Ok(())
}

fn moved(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn splice(from: RawFd, to: RawFd) -> io::Result<usize> {
    // SAFETY: null offsets mean the files' own; nothing else is a pointer.
    moved(unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), CHUNK, 0) })
}

fn tee(file: &File) -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    loop {
        let filled = splice(file.as_raw_fd(), writer.as_raw_fd())?;
        if filled == 0 {
            return Ok(());
        }
        let mut left = filled;
        while left > 0 {
            // SAFETY: tee takes two descriptors and two numbers.
            let copied = moved(unsafe { libc::tee(reader.as_raw_fd(), STDOUT, left, 0) })?;
            // What was copied has to go before the rest can be.
            let mut sink = vec![0; copied];
            reader.read_exact(&mut sink)?;
            left -= copied;
        }
    }
}

/// Space for one descriptor in a control message, aligned as the kernel wants it.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    descriptor: c_int,
}

fn message(piece: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: msghdr is plain data for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = piece;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(control).cast();
    // A length in bytes that fits whatever type the C library uses here.
    message.msg_controllen = size_of::<Control>() as _;
    message
}

fn one_descriptor(descriptor: c_int) -> Control {
    // SAFETY: cmsghdr is plain data for which all zeroes is a valid value.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<c_int>()) as _;
    Control { header, descriptor }
}

fn pass(socket: RawFd) -> io::Result<()> {
    let mut byte = [0_u8];
    let mut space = IoSliceMut::new(&mut byte);
    let mut piece = libc::iovec {
        iov_base: space.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let mut control = one_descriptor(STDOUT);
    let message = message(&mut piece, &mut control);
    // SAFETY: the message points to `piece` and `control`, which live until the call returns.
    moved(unsafe { libc::sendmsg(socket, &raw const message, 0) }).map(drop)
}

fn receive(socket: &UnixStream) -> anyhow::Result<OwnedFd> {
    let mut byte = [0_u8];
    let mut piece = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let mut control = one_descriptor(-1);
    let mut message = message(&mut piece, &mut control);
    // SAFETY: the message points to `piece` and `control`, which live until the call returns.
    moved(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) })?;
    ensure!(control.descriptor >= 0, "no descriptor came along");
    // SAFETY: the kernel has just installed this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(control.descriptor) })
}
