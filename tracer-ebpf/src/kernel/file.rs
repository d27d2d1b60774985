//! Open files and their inodes. What a file of each kind leads to is in that kind's module.

use super::{constant, field, read};

pub const FMODE_READ: u32 = 1;
pub const FMODE_WRITE: u32 = 2;
const S_IFMT: u16 = 0o170_000;
const S_IFCHR: u16 = 0o020_000;
/// File system of descriptors that are not files (include/uapi/linux/magic.h).
const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;

/// A `struct file`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct File(pub u64);

impl File {
    /// Whether the pointer is an error number (`IS_ERR`, include/linux/err.h).
    #[inline(always)]
    pub fn is_error(self) -> bool {
        self.0 > u64::MAX - 4096
    }

    /// `FMODE_*`.
    #[inline(always)]
    pub fn mode(self) -> u32 {
        field!(self.0, file_mode: u32)
    }

    /// Of a pipe: whether each write to it is a packet. A read of a packet discards what it has no
    /// room for (`O_DIRECT`, pipe(2)).
    #[inline(always)]
    pub fn is_packetized(self) -> bool {
        field!(self.0, file_flags: u32) & constant!(o_direct) != 0
    }

    #[inline(always)]
    fn inode(self) -> u64 {
        field!(self.0, file_inode: u64)
    }

    /// User id of its owner.
    #[inline(always)]
    pub fn owner(self) -> u32 {
        field!(self.inode(), inode_uid: u32)
    }

    /// Inode number.
    #[inline(always)]
    pub fn ino(self) -> u64 {
        field!(self.inode(), inode_ino: u64)
    }

    /// `S_IF*`.
    #[inline(always)]
    pub fn kind(self) -> u16 {
        field!(self.inode(), inode_mode: u16) & S_IFMT
    }

    /// Device number of a character device, in the kernel's own encoding (`MKDEV`,
    /// include/linux/kdev_t.h); 0 for any other file.
    #[inline(always)]
    pub fn device(self) -> u32 {
        if self.0 == 0 || self.kind() != S_IFCHR {
            return 0;
        }
        field!(self.inode(), inode_rdev: u32)
    }

    /// References to it: one for each descriptor in any process, and those of system calls that are
    /// using it.
    #[inline(always)]
    pub fn refs(self) -> u32 {
        (field!(self.0, file_count: u64) as u32)
            .wrapping_add(1)
            .wrapping_sub(constant!(one_ref))
    }

    /// Address of the data that its kind keeps with it.
    #[inline(always)]
    pub fn private(self) -> u64 {
        field!(self.0, file_private: u64)
    }

    /// Address of its base name.
    #[inline(always)]
    pub fn name(self) -> u64 {
        field!(field!(self.0, file_dentry: u64), dentry_name: u64)
    }

    /// Address of the `struct io_ring_ctx`, if the file is an io_uring.
    #[inline(always)]
    pub fn ring(self) -> Option<u64> {
        let sb = field!(self.inode(), inode_sb: u64);
        if self.0 == 0 || field!(sb, sb_magic: u64) != ANON_INODE_FS_MAGIC {
            return None;
        }
        (read::<[u8; 11]>(self.name(), 0) == *b"[io_uring]\0").then(|| self.private())
    }

    /// The file that a `struct kiocb` reads or writes.
    #[inline(always)]
    pub fn of_call(kiocb: u64) -> Self {
        Self(field!(kiocb, kiocb_file: u64))
    }
}
