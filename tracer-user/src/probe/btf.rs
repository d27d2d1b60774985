//! Reads offsets of struct members from the kernel's type information (BTF).
//!
//! aya parses BTF, too, but does not give the offsets of members. The format is described in the
//! kernel's Documentation/bpf/btf.rst: a header, a sequence of type records, a table of strings.

use std::collections::{HashMap, HashSet};

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The bytes are not BTF, or end too early.
    #[error("not BTF, or damaged, at byte {0}")]
    Malformed(usize),
    /// The kernel has no such struct or union.
    #[error("the kernel has no struct `{0}`")]
    NoStruct(String),
    /// The struct has no such member.
    #[error("struct `{of}` has no member `{member}`")]
    NoMember {
        /// The struct.
        of: String,
        /// The member's path.
        member: String,
    },
    /// Several structs have that name, and disagree.
    #[error("the kernel has several structs `{0}` that disagree")]
    Ambiguous(String),
    /// The member is a bit field or past 4 GiB.
    #[error("member `{0}` is not at a whole byte")]
    NotBytes(String),
}

#[derive(Clone, Copy)]
struct Member {
    name: u32,
    ty: u32,
    bits: u32,
}

enum Type {
    /// Struct or union.
    Composite {
        size: u32,
        members: Vec<Member>,
    },
    /// A typedef, const, volatile, restrict or type tag: stands for another type.
    Alias(u32),
    /// Function prototype with this many parameters.
    Prototype(u32),
    Other,
}

/// The types of one kernel. Names are borrowed from the bytes and not copied: strings may overlap, so
/// the copies from a damaged file could take any amount of memory.
pub struct Btf<'a> {
    types: Vec<Type>,
    composites: HashMap<&'a str, Vec<u32>>,
    functions: HashMap<&'a str, u32>,
    strings: &'a [u8],
}

const MAGIC: u16 = 0xeb9f;
/// Limit of nesting. Anonymous members nest only a few levels; a cycle means that the file is damaged.
const MAX_DEPTH: u32 = 16;
/// Bytes of the longest name in a kernel, its NUL included (`KSYM_NAME_LEN`, include/linux/kallsyms.h).
const MAX_NAME: usize = 512;

const PTR: u32 = 2;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const TYPE_TAG: u32 = 18;

struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn u32(&mut self) -> Result<u32, BtfError> {
        let end = self.at.checked_add(4).ok_or(BtfError::Malformed(self.at))?;
        let word = self
            .bytes
            .get(self.at..end)
            .ok_or(BtfError::Malformed(self.at))?;
        self.at = end;
        Ok(u32::from_le_bytes(
            word.try_into().map_err(|_| BtfError::Malformed(self.at))?,
        ))
    }

    fn skip(&mut self, count: u32, each: u32) -> Result<(), BtfError> {
        let len = count as usize * each as usize;
        self.at = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len())
            .ok_or(BtfError::Malformed(self.at))?;
        Ok(())
    }
}

impl<'a> Btf<'a> {
    /// Parses a whole BTF blob such as `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// When the bytes are not well-formed BTF of this machine's byte order.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let mut head = Bytes { bytes, at: 0 };
        if head.u32()? & 0xffff != u32::from(MAGIC) {
            return Err(BtfError::Malformed(0));
        }
        let header_len = head.u32()? as usize;
        let [type_off, type_len, str_off, str_len] =
            [head.u32()?, head.u32()?, head.u32()?, head.u32()?];
        let section = |off: u32, len: u32| {
            let start = header_len.checked_add(off as usize)?;
            bytes.get(start..start.checked_add(len as usize)?)
        };
        let types = section(type_off, type_len).ok_or(BtfError::Malformed(8))?;
        let strings = section(str_off, str_len).ok_or(BtfError::Malformed(16))?;
        let mut btf = Self {
            types: vec![Type::Other],
            composites: HashMap::new(),
            functions: HashMap::new(),
            strings,
        };
        let mut at = Bytes {
            bytes: types,
            at: 0,
        };
        while at.at < types.len() {
            btf.read_type(&mut at)?;
        }
        Ok(btf)
    }

    fn read_type(&mut self, at: &mut Bytes<'_>) -> Result<(), BtfError> {
        let (name, info, size_or_type) = (at.u32()?, at.u32()?, at.u32()?);
        let (count, kind, kind_flag) = (info & 0xffff, info >> 24 & 0x1f, info >> 31 == 1);
        let id = self.types.len() as u32;
        let ty = match kind {
            STRUCT | UNION => {
                // Not allocated beforehand: a damaged count may be far larger than the file.
                let mut members = Vec::new();
                for _ in 0..count {
                    let (name, ty, offset) = (at.u32()?, at.u32()?, at.u32()?);
                    // With the flag, the upper byte is the width of a bit field.
                    let bits = if kind_flag {
                        offset & 0x00ff_ffff
                    } else {
                        offset
                    };
                    members.push(Member { name, ty, bits });
                }
                let name = self.string(name);
                if !name.is_empty() {
                    self.composites.entry(name).or_default().push(id);
                }
                Type::Composite {
                    size: size_or_type,
                    members,
                }
            }
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => Type::Alias(size_or_type),
            FUNC => {
                self.functions.insert(self.string(name), size_or_type);
                Type::Other
            }
            // int, array, enum, function prototype, var, section, declaration tag, enum64.
            1 => at.skip(1, 4).map(|()| Type::Other)?,
            3 => at.skip(3, 4).map(|()| Type::Other)?,
            6 => at.skip(count, 8).map(|()| Type::Other)?,
            13 => at.skip(count, 8).map(|()| Type::Prototype(count))?,
            14 | 17 => at.skip(1, 4).map(|()| Type::Other)?,
            15 | 19 => at.skip(count, 12).map(|()| Type::Other)?,
            // Forward declaration, float.
            PTR | 7 | 16 => Type::Other,
            _ => return Err(BtfError::Malformed(at.at)),
        };
        self.types.push(ty);
        Ok(())
    }

    fn string(&self, offset: u32) -> &'a str {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let rest = &rest[..rest.len().min(MAX_NAME)];
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
        std::str::from_utf8(&rest[..end]).unwrap_or_default()
    }

    /// Whether the kernel has a function that programs can attach to by this name.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// How many parameters a function has; `None` when there is none of that name.
    #[must_use]
    pub fn parameters(&self, name: &str) -> Option<u32> {
        match self.types.get(*self.functions.get(name)? as usize)? {
            Type::Prototype(count) => Some(*count),
            _ => None,
        }
    }

    /// Size in bytes of a struct.
    ///
    /// # Errors
    /// When there is none of that name or several disagree.
    pub fn size_of(&self, of: &str) -> Result<u32, BtfError> {
        self.agreed(of, |id| match &self.types[id as usize] {
            Type::Composite { size, .. } => Ok(*size),
            _ => Err(BtfError::NoStruct(of.to_owned())),
        })
    }

    /// Offset in bytes of a member. Dots in `path` descend into members. Members of anonymous members
    /// are found as well.
    ///
    /// # Errors
    /// When the struct or the member does not exist, is ambiguous or not at a whole byte.
    pub fn offset_of(&self, of: &str, path: &str) -> Result<u32, BtfError> {
        let bits = self.agreed(of, |id| {
            let (mut id, mut bits) = (id, 0u32);
            for part in path.split('.') {
                let member = self.find(id, part).ok_or_else(|| BtfError::NoMember {
                    of: of.to_owned(),
                    member: path.to_owned(),
                })?;
                bits = bits
                    .checked_add(member.bits)
                    .ok_or_else(|| BtfError::NotBytes(path.to_owned()))?;
                id = member.ty;
            }
            Ok(bits)
        })?;
        if bits % 8 == 0 {
            Ok(bits / 8)
        } else {
            Err(BtfError::NotBytes(path.to_owned()))
        }
    }

    /// Asks every struct of a name. A definition without the member does not count.
    fn agreed(
        &self,
        of: &str,
        ask: impl Fn(u32) -> Result<u32, BtfError>,
    ) -> Result<u32, BtfError> {
        let ids = self
            .composites
            .get(of)
            .ok_or_else(|| BtfError::NoStruct(of.to_owned()))?;
        let mut answer = None;
        let mut refusal = None;
        for id in ids {
            match ask(*id) {
                Ok(value) if answer.is_some_and(|other| other != value) => {
                    return Err(BtfError::Ambiguous(of.to_owned()));
                }
                Ok(value) => answer = Some(value),
                Err(error) => refusal = Some(error),
            }
        }
        answer.ok_or_else(|| refusal.unwrap_or_else(|| BtfError::NoStruct(of.to_owned())))
    }

    fn find(&self, id: u32, name: &str) -> Option<Member> {
        self.find_within(id, name, 0, &mut HashSet::new())
    }

    /// Searches the structs that are not in `seen`, which do not have the member. Without it, a type
    /// that is an anonymous member in many places would be walked once for each path to it.
    fn find_within(
        &self,
        id: u32,
        name: &str,
        depth: u32,
        seen: &mut HashSet<u32>,
    ) -> Option<Member> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.types.get(id as usize)? {
            Type::Alias(other) => self.find_within(*other, name, depth + 1, seen),
            Type::Other | Type::Prototype(_) => None,
            Type::Composite { .. } if !seen.insert(id) => None,
            Type::Composite { members, .. } => members.iter().find_map(|member| {
                let its = self.string(member.name);
                if its == name {
                    return Some(*member);
                }
                if !its.is_empty() {
                    return None;
                }
                let inner = self.find_within(member.ty, name, depth + 1, seen)?;
                Some(Member {
                    bits: inner.bits.checked_add(member.bits)?,
                    ..inner
                })
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skipped::skipped;

    #[test]
    fn nothing_is_read_from_bytes_that_are_not_btf() {
        assert!(matches!(
            Btf::parse(b"not BTF at all, whatever it is"),
            Err(BtfError::Malformed(0))
        ));
        assert!(Btf::parse(&[]).is_err());
    }

    #[test]
    fn this_kernel_has_what_its_headers_promise() {
        let bytes = match std::fs::read("/sys/kernel/btf/vmlinux") {
            Ok(bytes) => bytes,
            Err(error) => {
                let why = format!("cannot read the kernel's BTF: {error}");
                return skipped("this_kernel_has_what_its_headers_promise", &why);
            }
        };
        let btf = Btf::parse(&bytes).expect("the kernel's own BTF");
        // Stable since the beginning: the first member, and an anonymous union's member.
        assert_eq!(btf.offset_of("list_head", "next").expect("next"), 0);
        assert_eq!(btf.offset_of("list_head", "prev").expect("prev"), 8);
        assert_eq!(
            btf.offset_of("kernel_siginfo", "si_errno")
                .expect("in an anonymous struct"),
            4
        );
        assert_eq!(btf.size_of("list_head").expect("size"), 16);
        assert!(matches!(
            btf.offset_of("list_head", "nope"),
            Err(BtfError::NoMember { .. })
        ));
        assert!(matches!(
            btf.size_of("no_such_struct"),
            Err(BtfError::NoStruct(_))
        ));
        for cut in [1, 5, 24, 25, bytes.len() / 2, bytes.len() - 1] {
            assert!(Btf::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    /// BTF of structs, each a name's offset in `strings` and its members: name, type, bits.
    fn of_structs(structs: &[(u32, Vec<[u32; 3]>)], strings: &[u8]) -> Vec<u8> {
        let mut types = Vec::new();
        for (name, members) in structs {
            types.extend([*name, STRUCT << 24 | members.len() as u32, 8]);
            types.extend(members.iter().flatten());
        }
        let len = 4 * types.len() as u32;
        let head = [0x0001_eb9f, 24, 0, len, len, strings.len() as u32];
        let words = head.into_iter().chain(types);
        let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn structs_that_contain_themselves_are_searched_once() {
        // Each of 64 has all 64 as anonymous members: 64 to the 16th paths.
        let members: Vec<[u32; 3]> = (1..=64).map(|ty| [0, ty, 0]).collect();
        let structs = vec![(1, members); 64];
        let bytes = of_structs(&structs, b"\0loop\0");
        let btf = Btf::parse(&bytes).expect("well-formed");
        assert!(matches!(
            btf.offset_of("loop", "nope"),
            Err(BtfError::NoMember { .. })
        ));
    }

    #[test]
    fn a_name_is_no_longer_than_the_kernels() {
        let mut strings = vec![b'x'; 2000];
        strings.insert(0, 0);
        strings.push(0);
        // All share the tail of one string.
        let structs: Vec<_> = (1..=2000).map(|name| (name, Vec::new())).collect();
        let bytes = of_structs(&structs, &strings);
        let btf = Btf::parse(&bytes).expect("well-formed");
        assert_eq!(btf.composites.len(), MAX_NAME - 1);
        assert_eq!(btf.size_of(&"x".repeat(MAX_NAME - 1)).expect("there"), 8);
        assert!(btf.size_of(&"x".repeat(MAX_NAME)).is_err());
    }
}
