//! House checks beyond the compiler's: links, headers, prose, layers, rooms, hashers, lock files, large binaries,
//! slips.
//!
//! In: the files git knows and `cargo metadata`. Out: every fault found, each with its file (and line), as one error.
//! Each check is a pure function of a file's text, tested beside it; this module only reads and collects.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::planted::slip as planted;
use crate::workspace::Workspace;

mod files;
mod hashers;
mod layers;
mod links;
mod prose;
mod rooms;

pub(crate) fn main(workspace: &Workspace) -> Result<()> {
    let names = workspace.files()?;
    let mut texts = BTreeMap::new();
    let mut faults = Vec::new();
    for name in &names {
        let bytes = std::fs::read(workspace.path(name)).with_context(|| format!("cannot read {name}"))?;
        faults.extend(files::binary(name, &bytes));
        if let Ok(text) = String::from_utf8(bytes) {
            texts.insert(name.as_str(), text);
        }
    }
    let tests = layers::test_modules(&texts);
    for (name, text) in &texts {
        faults.extend(files::header(name, text));
        faults.extend(files::package_lock(name, text));
        faults.extend(prose::width(name, text));
        faults.extend(prose::outside(name, text));
        faults.extend(prose::avoided(name, text));
        faults.extend(layers::source(name, text, &tests));
        faults.extend(hashers::source(name, text, &tests));
        faults.extend(rooms::source(name, text, &tests));
        if let Some(note) = files::length(name, text) {
            println!("note: {note}");
        }
    }
    faults.extend(links::all(&texts, &names));
    faults.extend(layers::dependencies(&workspace.metadata()?));
    faults.extend(rooms::tables(&texts));
    faults.extend(planted::faults(&texts));
    ensure!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
    println!("{} files are tidy", names.len());
    Ok(())
}
