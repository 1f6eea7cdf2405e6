//! The slips of `sim/planted/`: a name, a header in plain text, and a patch.
//!
//! In: the files of the folder. Out: [`Slip`]s, or the first file that is none. The first line of a header says what
//! breaks, for `--list`. Two fields may stand in it: `seed: N`, the seed that found it last and is tried first, and
//! `seeds: N`, within how many it must be found. A slip that no seed can find names the tests that find it instead:
//! `test: ` and the arguments of `cargo test`, with `--` before the names of tests.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::diff::{self, FileDiff};
use crate::workspace::Workspace;

pub(crate) const FOLDER: &str = "sim/planted/";
const EXTENSION: &str = ".patch";

/// Within how many seeds a slip must be found that says nothing about it.
const SEEDS: u64 = 4_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slip {
    pub(crate) name: String,
    /// The first line of the header: the broken behaviour.
    pub(crate) breaks: String,
    /// Everything above the diff.
    pub(crate) header: String,
    pub(crate) finder: Finder,
    pub(crate) files: Vec<FileDiff>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finder {
    Seeds { first: Option<u64>, count: u64 },
    Test { cargo: Vec<String>, names: Vec<String> },
}

impl Slip {
    /// `file` is the path of the patch.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self> {
        Self::parsed(file, text).with_context(|| file.to_owned())
    }

    fn parsed(file: &str, text: &str) -> Result<Self> {
        let name = file.strip_prefix(FOLDER).and_then(|name| name.strip_suffix(EXTENSION)).context("no NAME.patch")?;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(!name.is_empty() && name.chars().all(is_plain), "a name is written like-this.patch");
        let header: Vec<&str> = text.lines().take_while(|line| !diff::begins(line)).collect();
        let breaks = header.first().map(|line| line.trim()).unwrap_or_default();
        ensure!(breaks.ends_with('.'), "the first line is a sentence that says what breaks");
        let finder = Finder::parse(&header)?;
        let files = diff::parse(text)?;
        let header = header.join("\n") + "\n";
        Ok(Self { name: name.to_owned(), breaks: breaks.to_owned(), header, finder, files })
    }

    /// Where its patch is.
    pub(crate) fn file(&self) -> String {
        format!("{FOLDER}{}{EXTENSION}", self.name)
    }

    /// The files after the patch: path and text.
    pub(crate) fn apply(&self, read: impl Fn(&str) -> Result<String>) -> Result<Vec<(String, String)>> {
        let changed = |file: &FileDiff| Ok((file.path.clone(), file.apply(&read(&file.path)?)?));
        self.files.iter().map(changed).collect()
    }
}

impl Finder {
    fn parse(header: &[&str]) -> Result<Self> {
        let (mut first, mut count, mut test) = (None, None, None);
        for line in header {
            let Some((field, value)) = line.split_once(": ") else { continue };
            let number = || value.trim().parse().with_context(|| format!("`{line}`: a whole number is expected"));
            match field {
                "seed" => first = Some(number()?),
                "seeds" => count = Some(number()?),
                "test" => test = Some(value),
                _ => {}
            }
        }
        let Some(test) = test else { return Ok(Self::Seeds { first, count: count.unwrap_or(SEEDS) }) };
        if first.is_some() || count.is_some() {
            bail!("`test:` stands for slips that no seed finds: without `seed:` and `seeds:`");
        }
        let (cargo, names) = test.split_once(" -- ").unwrap_or((test, ""));
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Ok(Self::Test { cargo: words(cargo), names: words(names) })
    }
}

/// All slips by name.
pub(crate) fn all(workspace: &Workspace) -> Result<Vec<Slip>> {
    let mut slips = Vec::new();
    for file in workspace.files()?.iter().filter(|file| file.starts_with(FOLDER)) {
        let text = std::fs::read_to_string(workspace.path(file)).with_context(|| format!("cannot read {file}"))?;
        slips.push(Slip::parse(file, &text)?);
    }
    ensure!(!slips.is_empty(), "{FOLDER} holds no patch");
    Ok(slips)
}

/// Patches that do not apply to these texts, and files that are no patch. One line a fault.
pub(crate) fn faults(texts: &BTreeMap<&str, String>) -> Vec<String> {
    let read = |path: &str| texts.get(path).cloned().with_context(|| format!("{path}: there is no such file"));
    let check = |(file, text): (&&str, &String)| {
        let slip = match Slip::parse(file, text) {
            Ok(slip) => slip,
            Err(error) => return Some(format!("{error:#}")),
        };
        let error = slip.apply(read).err()?;
        Some(format!("{file}: {error:#}: `cargo xtask sim --renew {}` makes it anew", slip.name))
    };
    texts.iter().filter(|(file, _)| file.starts_with(FOLDER)).filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "--- a/x.rs\n+++ b/x.rs\n@@ -1 +1 @@\n-a\n+b\n";

    fn slip(header: &str) -> Result<Slip> {
        Slip::parse("sim/planted/a-slip.patch", &format!("{header}\n{DIFF}"))
    }

    #[test]
    fn a_header_says_what_breaks_and_how_it_is_found() {
        let found = slip("It breaks.\n\nEasy to miss: it is small.\nseed: 7\nseeds: 200\n").unwrap();
        assert_eq!((found.name.as_str(), found.breaks.as_str()), ("a-slip", "It breaks."));
        assert_eq!(found.finder, Finder::Seeds { first: Some(7), count: 200 });
        assert_eq!(slip("It breaks.\n").unwrap().finder, Finder::Seeds { first: None, count: SEEDS });
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let test = Finder::Test { cargo: words(&["-p", "x", "--lib"]), names: words(&["a::b"]) };
        assert_eq!(slip("It breaks.\ntest: -p x --lib -- a::b\n").unwrap().finder, test);
    }

    #[test]
    fn a_file_that_is_no_slip_is_named() {
        for header in ["", "no sentence", "It breaks.\nseed: soon\n", "It breaks.\nseed: 1\ntest: -p x\n"] {
            let error = slip(header).unwrap_err();
            assert!(error.to_string().starts_with("sim/planted/a-slip.patch"), "{header}: {error}");
        }
        assert!(Slip::parse("sim/planted/A_Slip.patch", DIFF).is_err());
        assert!(Slip::parse("sim/planted/readme.md", DIFF).is_err());
    }

    #[test]
    fn a_patch_that_does_not_apply_to_the_tree_is_a_fault() {
        let patch = format!("It breaks.\n{DIFF}");
        let fault = |what| format!("sim/planted/s.patch: {what}: `cargo xtask sim --renew s` makes it anew");
        let rows = [
            ("fits", "a\n", Vec::<String>::new()),
            ("does not", "c\n", vec![fault("x.rs: hunk 1 (of line 1) does not apply")]),
        ];
        for (row, file, expected) in rows {
            let texts = BTreeMap::from([("sim/planted/s.patch", patch.clone()), ("x.rs", file.to_owned())]);
            assert_eq!(faults(&texts), expected, "{row}");
        }
        let gone = faults(&BTreeMap::from([("sim/planted/s.patch", patch)]));
        assert_eq!(gone, [fault("x.rs: there is no such file")]);
    }
}
