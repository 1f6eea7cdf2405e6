//! Unified diffs: read, and applied in process.
//!
//! In: the text of a patch, as `git diff` writes it, and the files that it changes. Out: the changed texts, or the file
//! and the hunk that does not fit. The lines of a hunk, context included, must be there word for word: at its line, or
//! if the file has changed above it, at one other place only.

use anyhow::{Context, Result, bail, ensure};

/// The changes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileDiff {
    pub(crate) path: String,
    hunks: Vec<Hunk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hunk {
    /// Where it began when the patch was made; the first line is 1.
    line: usize,
    old: Vec<String>,
    new: Vec<String>,
}

/// The first line of the diff in this text: the header is before it.
pub(crate) fn begins(line: &str) -> bool {
    line.starts_with("diff --git ") || line.starts_with("--- ")
}

/// Reads what follows the header.
pub(crate) fn parse(text: &str) -> Result<Vec<FileDiff>> {
    let mut files: Vec<FileDiff> = Vec::new();
    let mut lines = text.lines().skip_while(|line| !begins(line)).peekable();
    while let Some(line) = lines.next() {
        if let Some(old) = line.strip_prefix("--- ") {
            let new = lines.next().and_then(|line| line.strip_prefix("+++ b/"));
            let path = new.filter(|new| old.strip_prefix("a/") == Some(*new));
            let path = path.context("after `--- a/FILE` comes `+++ b/FILE`: a slip changes files and adds none")?;
            files.push(FileDiff { path: path.to_owned(), hunks: Vec::new() });
        } else if line.starts_with("@@ ") {
            let file = files.last_mut().with_context(|| format!("`{line}` before any file is named"))?;
            let ((line, old_len), new_len) = ranges(line).with_context(|| format!("`{line}` is no head of a hunk"))?;
            let mut hunk = Hunk { line, old: Vec::new(), new: Vec::new() };
            while hunk.old.len() < old_len || hunk.new.len() < new_len {
                let line = lines.next().with_context(|| format!("{}: a hunk is cut short", file.path))?;
                // Editors take away the space of an empty line.
                let (kind, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
                match kind {
                    " " => {
                        hunk.old.push(rest.to_owned());
                        hunk.new.push(rest.to_owned());
                    }
                    "-" => hunk.old.push(rest.to_owned()),
                    "+" => hunk.new.push(rest.to_owned()),
                    _ => bail!("{}: `{line}` is no line of a hunk", file.path),
                }
            }
            ensure!(hunk.old != hunk.new, "{}: a hunk changes nothing", file.path);
            file.hunks.push(hunk);
        }
    }
    ensure!(!files.is_empty(), "there is no diff in it");
    if let Some(file) = files.iter().find(|file| file.hunks.is_empty()) {
        bail!("{}: it is named and not changed", file.path);
    }
    Ok(files)
}

/// `@@ -12,7 +12,6 @@ …`: the old line and length, and the new length. A length that is missing is 1.
fn ranges(head: &str) -> Option<((usize, usize), usize)> {
    let mut words = head.split(' ').skip(1);
    let range = |word: &str, sign: char| {
        let (line, len) = word.strip_prefix(sign)?.split_once(',').unwrap_or((&word[1..], "1"));
        Some((line.parse().ok()?, len.parse().ok()?))
    };
    let (old, new): ((usize, usize), (usize, usize)) = (range(words.next()?, '-')?, range(words.next()?, '+')?);
    Some((old, new.1))
}

impl FileDiff {
    /// The text with all hunks applied.
    pub(crate) fn apply(&self, text: &str) -> Result<String> {
        let lines: Vec<&str> = text.lines().collect();
        let mut out: Vec<&str> = Vec::with_capacity(lines.len());
        let mut at = 0;
        let mut moved = 0;
        for (number, hunk) in self.hunks.iter().enumerate() {
            let expected = (hunk.line as isize - 1 + moved).max(0) as usize;
            let fits = |start: &usize| lines[*start..].iter().take(hunk.old.len()).eq(hunk.old.iter());
            let starts = at..(lines.len() + 1).saturating_sub(hunk.old.len());
            let places: Vec<usize> = match starts.contains(&expected) && fits(&expected) {
                true => vec![expected],
                false => starts.filter(fits).collect(),
            };
            let [found] = places[..] else {
                let why = if places.is_empty() { "does not apply" } else { "fits several places" };
                bail!("{}: hunk {} (of line {}) {why}", self.path, number + 1, hunk.line);
            };
            moved = found as isize - (hunk.line as isize - 1);
            out.extend(&lines[at..found]);
            out.extend(hunk.new.iter().map(String::as_str));
            at = found + hunk.old.len();
        }
        out.extend(&lines[at..]);
        let mut text = out.join("\n");
        text.push('\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "one\ntwo\nthree\n\nfive\nsix\n";

    fn patched(diff: &str, text: &str) -> Result<String, String> {
        let files = parse(diff).map_err(|error| error.to_string())?;
        files[0].apply(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_patch_of_git_is_read_and_applied() {
        let diff = "Something breaks.\n\ndiff --git a/x.rs b/x.rs\nindex 1..2 100644\n--- a/x.rs\n+++ b/x.rs\n\
                    @@ -1,3 +1,2 @@ fn a()\n one\n-two\n three\n@@ -4,2 +3,3 @@\n\n+four and a half\n five\n";
        assert_eq!(patched(diff, OLD).unwrap(), "one\nthree\n\nfour and a half\nfive\nsix\n");
        assert_eq!(parse(diff).unwrap()[0].path, "x.rs");
    }

    #[test]
    fn a_hunk_may_have_moved_to_one_other_place() {
        let diff = "--- a/x.rs\n+++ b/x.rs\n@@ -2,1 +2,1 @@\n-b\n+c\n";
        let rows = [
            ("at its line", "b\nb\na\n", Ok("b\nc\na\n")),
            ("moved", "a\na\na\nb\n", Ok("a\na\na\nc\n")),
            ("to one of two places", "b\na\na\nb\n", Err("x.rs: hunk 1 (of line 2) fits several places")),
        ];
        for (row, text, expected) in rows {
            assert_eq!(patched(diff, text), expected.map(str::to_owned).map_err(str::to_owned), "{row}");
        }
    }

    #[test]
    fn a_patch_that_does_not_fit_names_the_file_and_the_hunk() {
        let diff = "--- a/x.rs\n+++ b/x.rs\n@@ -1,1 +1,1 @@\n-one\n+1\n@@ -5,2 +5,1 @@\n-five\n-seven\n+12\n";
        assert_eq!(patched(diff, OLD).unwrap_err(), "x.rs: hunk 2 (of line 5) does not apply");
        assert!(patched(diff, "").unwrap_err().contains("hunk 1"));
    }

    #[test]
    fn texts_that_are_no_patch_of_a_file_are_refused() {
        let rows = [
            ("nothing", "only words\n"),
            ("a new file", "--- /dev/null\n+++ b/x.rs\n@@ -0,0 +1 @@\n+a\n"),
            ("another file", "--- a/x.rs\n+++ b/y.rs\n@@ -1 +1 @@\n-a\n+b\n"),
            ("a file that goes", "--- a/x.rs\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"),
            ("a hunk cut short", "--- a/x.rs\n+++ b/x.rs\n@@ -1,3 +1,2 @@\n one\n-two\n"),
            ("no hunk", "--- a/x.rs\n+++ b/x.rs\n"),
            ("no change", "--- a/x.rs\n+++ b/x.rs\n@@ -1 +1 @@\n a\n"),
            ("a hunk of no file", "diff --git a/x b/x\n@@ -1 +1 @@\n-a\n+b\n"),
            ("a wrong head", "--- a/x.rs\n+++ b/x.rs\n@@ -x +1 @@\n-a\n+b\n"),
        ];
        for (row, diff) in rows {
            assert!(parse(diff).is_err(), "{row}: {:?}", parse(diff));
        }
    }
}
