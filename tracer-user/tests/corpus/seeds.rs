//! What fuzzing begins with: the golden recordings, and a kernel's BTF in miniature.

use std::{collections::BTreeSet, fs, path::Path};

use lastbyte::{
    model::{Model, Update},
    probe::{Btf, resolve},
    store::recording::Reader,
};
use tracer_ebpf::Layout;

use crate::{
    ONE_AT_A_TIME, corpus,
    fuzz::story::{self, Author},
};

const GOLDEN: [&str; 3] = ["ordinary", "orphaned", "truncated"];

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.rec"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The recording as a story, and what the model makes of it.
fn retold(name: &str) -> (Vec<u8>, BTreeSet<&'static str>) {
    let file = golden(name);
    let mut reader = Reader::new(&file[..]).expect("a recording");
    let (mut author, mut model, mut updates) = (Author::new(), Model::new(), Vec::new());
    while let Some(record) = reader.next().expect("a whole recording") {
        author.write(&record, record.bytes());
        model.apply(record, &mut updates);
    }
    (author.finish(), words(&updates))
}

/// Verdicts and kinds of findings.
fn words(updates: &[Update]) -> BTreeSet<&'static str> {
    let word = |update: &Update| match update {
        Update::Finding(it) => Some(it.kind().name()),
        Update::SessionClosed(it) => Some(it.verdict.name()),
        _ => None,
    };
    updates.iter().filter_map(word).collect()
}

#[test]
fn a_story_tells_what_its_recording_told() {
    let _alone = ONE_AT_A_TIME.lock();
    for name in GOLDEN {
        let (story, told) = retold(name);
        let (mut model, mut updates) = (Model::new(), Vec::new());
        story::tell(&story, |bytes| {
            model.apply(bytes.record(), &mut updates);
        });
        assert!(!told.is_empty());
        assert_eq!(words(&updates), told, "{name}");
    }
}

#[test]
fn the_small_kernel_has_everything() {
    let _alone = ONE_AT_A_TIME.lock();
    let bytes = kernel();
    let btf = Btf::parse(&bytes).expect("well-formed");
    let (_, missing) = resolve(&btf).expect("sizes");
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(btf.parameters("pipe_release"), Some(2));
}

#[test]
#[ignore = "writes the seeds anew; for after a change of the golden recordings or the story's form"]
fn write() {
    let _alone = ONE_AT_A_TIME.lock();
    for target in ["model", "decode", "btf"] {
        fs::create_dir_all(corpus(target)).unwrap();
    }
    for name in GOLDEN {
        fs::write(
            corpus("model").join(format!("golden-{name}")),
            retold(name).0,
        )
        .unwrap();
        fs::write(corpus("decode").join(format!("golden-{name}")), kinds(name)).unwrap();
    }
    for (name, bytes) in [
        ("small-kernel", kernel()),
        ("structs-within-themselves", within_themselves()),
        ("names-that-overlap", overlapping()),
        ("count-beyond-the-end", beyond_the_end()),
    ] {
        fs::write(corpus("btf").join(name), bytes).unwrap();
    }
}

/// Structs of which each has all as anonymous members: 12 to the 16th paths.
fn within_themselves() -> Vec<u8> {
    let mut types = Types::default();
    let members: Vec<(&str, u32)> = (1..=12).map(|ty| ("", ty)).collect();
    for _ in 0..12 {
        types.composite(STRUCT, "task_struct", &members);
    }
    types.finish()
}

/// Structs that are named by the tails of one long name.
fn overlapping() -> Vec<u8> {
    let mut types = Types::default();
    let long = types.string(&"x".repeat(2000));
    for at in 0..150 {
        types.composite(STRUCT, "", &[]);
        let len = types.types.len();
        types.types[len - 3] = long + at;
    }
    types.finish()
}

/// A struct with more members than there are bytes.
fn beyond_the_end() -> Vec<u8> {
    let mut types = Types::default();
    types.composite(STRUCT, "task_struct", &[]);
    types.types[1] |= 0xffff;
    types.finish()
}

/// The first record of each kind in the recording, with its size before it.
fn kinds(name: &str) -> Vec<u8> {
    let file = golden(name);
    let mut reader = Reader::new(&file[..]).expect("a recording");
    let (mut seen, mut out) = (BTreeSet::new(), Vec::new());
    while let Some(record) = reader.next().expect("a whole recording") {
        if seen.insert(record.header().kind) {
            out.extend(record.header().size.to_le_bytes());
            out.extend(record.bytes());
        }
    }
    out
}

/// Every struct and member that lastbyte asks for, in the BTF of a kernel that has nothing else.
fn kernel() -> Vec<u8> {
    let mut types = Types::default();
    let number = types.int();
    let mut structs: BTreeSet<&str> = Layout::MEMBERS.iter().map(|member| member.of).collect();
    structs.extend(["upid", "pipe_buffer"]);
    for of in structs {
        let paths: BTreeSet<&str> = Layout::MEMBERS
            .iter()
            .filter(|member| member.of == of)
            .map(|member| member.paths[0])
            .collect();
        let members = members(&mut types, number, &paths);
        types.composite(STRUCT, of, &members);
    }
    types.function("pipe_release", &[number, number]);
    types.finish()
}

/// What these paths lead through.
fn members<'a>(types: &mut Types, number: u32, paths: &BTreeSet<&'a str>) -> Vec<(&'a str, u32)> {
    let roots: BTreeSet<&str> = paths.iter().map(|path| first(path).0).collect();
    let mut members = Vec::new();
    for (at, root) in roots.into_iter().enumerate() {
        let inner: BTreeSet<&str> = paths
            .iter()
            .filter(|path| first(path).0 == root)
            .filter_map(|path| first(path).1)
            .collect();
        let ty = match inner.is_empty() {
            true => number,
            false => {
                let inner = self::members(types, number, &inner);
                types.composite(STRUCT, "", &inner)
            }
        };
        // Some are in an anonymous union, some behind a typedef, as the kernel's are.
        members.push(match at % 3 {
            0 => (root, ty),
            1 => (
                "",
                types.composite(UNION, "", &[(root, ty), ("other", number)]),
            ),
            _ => (root, types.typedef("alias", ty)),
        });
    }
    members
}

/// A path's first part, and the rest.
fn first(path: &str) -> (&str, Option<&str>) {
    path.split_once('.')
        .map_or((path, None), |(first, rest)| (first, Some(rest)))
}

const INT: u32 = 1;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;

/// Writes BTF (Documentation/bpf/btf.rst of the kernel).
#[derive(Default)]
struct Types {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

impl Types {
    fn string(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn head(&mut self, name: &str, kind: u32, count: usize, size_or_type: u32) -> u32 {
        let name = self.string(name);
        self.types
            .extend([name, kind << 24 | count as u32, size_or_type]);
        self.count += 1;
        self.count
    }

    fn int(&mut self) -> u32 {
        let id = self.head("int", INT, 0, 4);
        self.types.push(32);
        id
    }

    fn typedef(&mut self, name: &str, ty: u32) -> u32 {
        self.head(name, TYPEDEF, 0, ty)
    }

    fn composite(&mut self, kind: u32, name: &str, members: &[(&str, u32)]) -> u32 {
        let id = self.head(name, kind, members.len(), 8 * members.len() as u32);
        for (at, (name, ty)) in members.iter().enumerate() {
            let name = self.string(name);
            let bits = if kind == UNION { 0 } else { 64 * at as u32 };
            self.types.extend([name, *ty, bits]);
        }
        id
    }

    fn function(&mut self, name: &str, parameters: &[u32]) {
        let prototype = self.head("", FUNC_PROTO, parameters.len(), 0);
        for ty in parameters {
            self.types.extend([0, *ty]);
        }
        self.head(name, FUNC, 0, prototype);
    }

    fn finish(self) -> Vec<u8> {
        let len = 4 * self.types.len() as u32;
        let strings = self.strings.len() as u32;
        let head = [0x0001_eb9f, 24, 0, len, len, strings];
        let words = head.iter().chain(&self.types);
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(self.strings);
        bytes
    }
}
