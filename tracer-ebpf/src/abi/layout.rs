//! The kernel fields that the programs read, and their offsets in the running kernel. User space
//! resolves the offsets from the kernel's BTF.

use zerocopy::{Immutable, IntoBytes};

macro_rules! layout {
    ($($(#[$doc:meta])* $field:ident: $ty:literal . $path:literal $(or $alt:literal)* $(, optional = $cost:literal)?;)+) => {
        /// Byte offsets of kernel fields, from the beginning of the named struct.
        ///
        /// rustc emits no CO-RE relocations. Instead, user space resolves the fields at start-up and
        /// injects this struct as a read-only global, which the verifier treats as constants.
        #[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
        #[repr(C)]
        pub struct Layout { $($(#[$doc])* pub $field: u32),+ }

        /// A field to resolve.
        #[derive(Clone, Copy, Debug)]
        pub struct Member {
            /// Its name in [`Layout`].
            pub name: &'static str,
            /// The kernel struct.
            pub of: &'static str,
            /// Paths to it in different kernels, the newest first; dots descend into members.
            pub paths: &'static [&'static str],
            /// What lastbyte cannot report without it; `None` for a field that nothing works without.
            pub cost: Option<&'static str>,
        }

        impl Layout {
            /// All fields, in the order of [`Layout::from_offsets`].
            pub const MEMBERS: &'static [Member] = &[$(Member {
                name: stringify!($field),
                of: $ty,
                paths: &[$path $(, $alt)*],
                cost: layout!(@cost $($cost)?),
            }),+];

            /// A layout with nothing resolved.
            pub const UNRESOLVED: Self = Self { $($field: OPTIONAL),+ };

            /// Builds a layout from offsets in the order of [`Layout::MEMBERS`].
            #[must_use]
            pub fn from_offsets(offsets: impl IntoIterator<Item = u32>) -> Self {
                let mut offsets = offsets.into_iter();
                Self { $($field: offsets.next().unwrap_or(OPTIONAL)),+ }
            }
        }
    };
    (@cost) => { None };
    (@cost $cost:literal) => { Some($cost) };
}

/// Offset of an optional field that this kernel does not have.
pub const OPTIONAL: u32 = u32::MAX;

layout! {
    /// Thread id.
    task_pid: "task_struct"."pid";
    /// Thread group id.
    task_tgid: "task_struct"."tgid";
    /// Start, ns of `CLOCK_BOOTTIME`.
    task_start: "task_struct"."start_boottime" or "real_start_time";
    /// Leader of the thread group.
    task_leader: "task_struct"."group_leader";
    /// Parent; unlike `parent`, not the debugger that traces it.
    task_parent: "task_struct"."real_parent";
    /// Name.
    task_comm: "task_struct"."comm";
    /// Counts the execs of the task and its ancestors.
    task_exec_id: "task_struct"."self_exec_id";
    /// Exit status, encoded as by wait(2).
    task_exit_code: "task_struct"."exit_code";
    /// `PF_*`.
    task_flags: "task_struct"."flags";
    /// State that the thread group shares.
    task_signal: "task_struct"."signal";
    /// Descriptor table.
    task_files: "task_struct"."files";
    /// Memory.
    task_mm: "task_struct"."mm";
    /// Credentials.
    task_cred: "task_struct"."real_cred";
    /// Set while the parent waits in vfork(2).
    task_vfork_done: "task_struct"."vfork_done";
    /// Pid structure.
    task_thread_pid: "task_struct"."thread_pid";
    /// Number of live threads.
    signal_live: "signal_struct"."live";
    /// User id.
    cred_uid: "cred"."uid";
    /// Level of its namespace.
    pid_level: "pid"."level";
    /// Numbers by level.
    pid_numbers: "pid"."numbers";
    /// Start of the arguments.
    mm_arg_start: "mm_struct"."arg_start";
    /// End of the arguments.
    mm_arg_end: "mm_struct"."arg_end";
    /// The executable.
    mm_exe_file: "mm_struct"."exe_file";
    /// Current table of files.
    files_fdt: "files_struct"."fdt";
    /// Size of the table.
    fdt_max: "fdtable"."max_fds";
    /// Files by descriptor.
    fdt_fd: "fdtable"."fd";
    /// Inode.
    file_inode: "file"."f_inode";
    /// `O_*`.
    file_flags: "file"."f_flags";
    /// `FMODE_*`.
    file_mode: "file"."f_mode";
    /// Data of the transport.
    file_private: "file"."private_data";
    /// Name in the file system.
    file_dentry: "file"."f_path.dentry";
    /// References: a plain count up to 6.12, one less than the count since.
    file_count: "file"."f_ref.refcnt" or "f_count";
    /// Component name.
    dentry_name: "dentry"."d_name.name";
    /// File system.
    inode_sb: "inode"."i_sb";
    /// Magic number of a file system.
    sb_magic: "super_block"."s_magic";
    /// Type and permissions.
    inode_mode: "inode"."i_mode";
    /// Owner.
    inode_uid: "inode"."i_uid";
    /// Number.
    inode_ino: "inode"."i_ino";
    /// Device number.
    inode_rdev: "inode"."i_rdev";
    /// The pipe's next slot to write.
    pipe_head: "pipe_inode_info"."head";
    /// The pipe's next slot to read.
    pipe_tail: "pipe_inode_info"."tail";
    /// Slots.
    pipe_ring: "pipe_inode_info"."ring_size";
    /// Slots that writers may use.
    pipe_usage: "pipe_inode_info"."max_usage";
    /// Number of open files that can read.
    pipe_readers: "pipe_inode_info"."readers";
    /// Number of open files that can write.
    pipe_writers: "pipe_inode_info"."writers";
    /// Array of slots.
    pipe_bufs: "pipe_inode_info"."bufs";
    /// Bytes of a slot.
    pipe_buf_len: "pipe_buffer"."len";
    /// The open file of a read or write.
    kiocb_file: "kiocb"."ki_filp";
    /// Bytes that a write was asked to write.
    iter_count: "iov_iter"."count";
    /// Sender of a signal.
    siginfo_fields: "kernel_siginfo"."_sifields";
    /// The `struct sock` behind it.
    socket_sk: "socket"."sk";
    /// Address family.
    sock_family: "sock"."__sk_common.skc_family";
    /// TCP state.
    sock_state: "sock"."__sk_common.skc_state";
    /// IPv4 address of the peer.
    sock_daddr: "sock"."__sk_common.skc_daddr";
    /// Local IPv4 address.
    sock_saddr: "sock"."__sk_common.skc_rcv_saddr";
    /// Port of the peer, network byte order.
    sock_dport: "sock"."__sk_common.skc_dport";
    /// Local port, host byte order.
    sock_lport: "sock"."__sk_common.skc_num";
    /// IPv6 address of the peer.
    sock_daddr6: "sock"."__sk_common.skc_v6_daddr", optional = "peers over IPv6 have no address";
    /// Local IPv6 address.
    sock_saddr6: "sock"."__sk_common.skc_v6_rcv_saddr", optional = "local IPv6 addresses are not reported";
    /// Socket type (`SOCK_*`).
    sock_type: "sock"."sk_type";
    /// Protocol.
    sock_protocol: "sock"."sk_protocol";
    /// Pending error.
    sock_err: "sock"."sk_err";
    /// `enum sock_flags`.
    sock_flags: "sock"."__sk_common.skc_flags";
    /// Size of the send buffer.
    sock_sndbuf: "sock"."sk_sndbuf";
    /// Receive queue.
    sock_receive_queue: "sock"."sk_receive_queue";
    /// Pid of the process that made the other socket, or listens for it.
    sock_peer_pid: "sock"."sk_peer_pid";
    /// Inode of a socket.
    socket_inode: "socket_alloc"."vfs_inode";
    /// The other socket.
    unix_peer: "unix_sock"."peer";
    /// Bytes of a buffer.
    skb_len: "sk_buff"."len";
    /// The socket that sent a buffer; in a listener's queue, the socket that accept(2) will return.
    skb_sk: "sk_buff"."sk";
    /// Data of the protocol.
    skb_cb: "sk_buff"."cb";
    /// Bytes of a buffer that were received already.
    unix_cb_consumed: "unix_skb_parms"."consumed";
    /// Files that come with a buffer.
    unix_cb_files: "unix_skb_parms"."fp";
    /// List of files of a message that is being sent or received.
    scm_files: "scm_cookie"."fp";
    /// Number of files in the list.
    scm_count: "scm_fp_list"."count";
    /// Array of the files.
    scm_list: "scm_fp_list"."fp";
    /// Files registered with an io_uring: of nodes since 6.13, of tagged pointers since 5.15.
    ring_files: "io_ring_ctx"."file_table.data.nodes" or "file_table.files", optional = "holders by an io_uring are not reported";
    /// Number of registered files.
    ring_count: "io_ring_ctx"."file_table.data.nr" or "nr_user_files", optional = "holders by an io_uring are not reported";
    /// The tty of an open file.
    ttyfile_tty: "tty_file_private"."tty", optional = "sessions on a pty are not observed";
    /// The other side of a pty.
    tty_link: "tty_struct"."link", optional = "sessions on a pty are not observed";
    /// Number of open files.
    tty_count: "tty_struct"."count", optional = "sessions on a pty are not observed";
    /// Number of a pty.
    tty_index: "tty_struct"."index", optional = "sessions on a pty are not observed";
    /// Data of the line discipline.
    tty_disc_data: "tty_struct"."disc_data", optional = "unread output of a pty is not counted";
    /// Owner of the flip buffers.
    tty_port: "tty_struct"."port", optional = "unread output of a pty is not counted";
    /// First flip buffer.
    port_buf_head: "tty_port"."buf.head", optional = "unread output of a pty is not counted";
    /// Next flip buffer.
    flip_next: "tty_buffer"."next", optional = "unread output of a pty is not counted";
    /// Bytes that were put into a flip buffer.
    flip_used: "tty_buffer"."used", optional = "unread output of a pty is not counted";
    /// Bytes that the line discipline has read from a flip buffer.
    flip_read: "tty_buffer"."read", optional = "unread output of a pty is not counted";
    /// Where the line discipline puts the next byte.
    ntty_head: "n_tty_data"."read_head", optional = "unread output of a pty is not counted";
    /// Where the line discipline takes the next byte from.
    ntty_tail: "n_tty_data"."read_tail", optional = "unread output of a pty is not counted";
    /// Next byte to queue.
    tcp_write_seq: "tcp_sock"."write_seq";
    /// Next byte to send.
    tcp_snd_nxt: "tcp_sock"."snd_nxt";
    /// First byte that the peer has not acknowledged.
    tcp_snd_una: "tcp_sock"."snd_una";
    /// Bytes that the peer has acknowledged.
    tcp_bytes_acked: "tcp_sock"."bytes_acked";
    /// When the peer last sent data, jiffies modulo 2^32.
    tcp_heard: "inet_connection_sock"."icsk_ack.lrcvtime", optional = "a client that leaves is known only by its FIN";
    /// First argument of a system call or function.
    regs_arg0: "pt_regs"."di" or "regs", optional = "no kprobe and no syscall backend";
    /// Second argument of a system call or function.
    regs_arg1: "pt_regs"."si" or "regs", optional = "no kprobe and no syscall backend";
    /// Third argument of a system call or function.
    regs_arg2: "pt_regs"."dx" or "regs", optional = "no kprobe and no syscall backend";
    /// Fourth argument of a system call; a function has it elsewhere on x86-64.
    regs_arg3: "pt_regs"."r10" or "regs", optional = "no syscall backend";
    /// Result of a function.
    regs_result: "pt_regs"."ax" or "regs", optional = "no kprobe backend";
}
