//! Dependencies point one way. Each module of the library and of the eBPF programs is a layer, and says which others it
//! may use, and what it must not name at all. Every path counts: in a grouped or renamed import, behind
//! `super`, in a body, in an attribute, in the tokens of a macro.

mod escapes;
mod paths;
mod rules;
mod source;
mod user;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rules::Rules;
use source::Crate;

#[test]
fn the_library_keeps_to_its_layers() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = sources(&package.join("src"));
    let library = Crate::read("lib.rs", &files);
    let dependencies = dependencies(&package.join("Cargo.toml"));
    let rules = Rules {
        layers: user::LAYERS,
        dependencies: &dependencies,
    };
    let mut problems = rules.problems(&library);
    let known = library.files();
    let unknown = files
        .keys()
        .filter(|file| !known.contains(file.as_str()) && *file != "main.rs");
    problems.extend(unknown.map(|file| format!("{file}: no module declares it")));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// The text of every source file, by its path below the folder.
fn sources(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(&below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// The crates that a package depends on, as code names them.
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let table = manifest["dependencies"].as_table().expect("a table");
    table.keys().map(|name| name.replace('-', "_")).collect()
}
