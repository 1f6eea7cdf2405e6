//! Links in Markdown: the file must be there, and the heading too.
//!
//! In: the texts of all files. Out: a fault for each link to a file of this repository that git does not know, and
//! for each `#anchor` without a heading. Addresses on the web are not looked up. Code, fenced or in backticks, holds
//! no links. Anchors are made from headings as GitHub does.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn all(texts: &BTreeMap<&str, String>, names: &[String]) -> Vec<String> {
    let mut places: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for name in names {
        let folders = name.match_indices('/').map(|(at, _)| &name[..at]);
        places.extend(folders);
    }
    let mut faults = Vec::new();
    for (name, text) in texts.iter().filter(|(name, _)| name.ends_with(".md")) {
        for (line, target) in targets(text) {
            if let Some(fault) = judge(name, &target, texts, &places) {
                faults.push(format!("{name}:{line}: {fault}"));
            }
        }
    }
    faults
}

fn judge(from: &str, target: &str, texts: &BTreeMap<&str, String>, places: &BTreeSet<&str>) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { from.to_owned() } else { resolve(from, path)? };
    if !file.is_empty() && !places.contains(file.as_str()) {
        return Some(format!("`{target}`: there is no {file}"));
    }
    let anchor = anchor.filter(|_| file.ends_with(".md"))?;
    let known = texts.get(file.as_str()).is_some_and(|text| anchors(text).contains(anchor));
    (!known).then(|| format!("`{target}`: {file} has no heading #{anchor}"))
}

/// The path from the root. Above the root lies the forge (`../../security/advisories/new`), which is not checked.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Every link target with its line, in order.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        // [name]: target
        if let Some(target) = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            found.extend(first_word(target.1).map(|target| (number, target)));
            continue;
        }
        // [text](target "title"), also ![alt](target)
        for (at, _) in line.match_indices("](") {
            found.extend(first_word(&line[at + 2..]).map(|target| (number, target)));
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let target = match text.strip_prefix('<') {
        Some(bracketed) => bracketed.split('>').next()?,
        None => text.split([')', ' ', '\t']).next()?,
    };
    (!target.is_empty()).then(|| target.to_owned())
}

/// The lines outside fenced code, numbered from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mark = line.trim_start();
        match fence {
            Some(open) if mark.starts_with(open) => fence = None,
            Some(_) => {}
            None if mark.starts_with("```") => fence = Some("```"),
            None if mark.starts_with("~~~") => fence = Some("~~~"),
            None => lines.push((at + 1, line)),
        }
    }
    lines
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let level = line.chars().take_while(|c| *c == '#').count();
        if !(1..=6).contains(&level) || !line[level..].starts_with(' ') {
            continue;
        }
        let slug: String = line[level..]
            .trim()
            .chars()
            .flat_map(char::to_lowercase)
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        // A second heading of the same name gets -1, a third -2.
        let mut unique = slug.clone();
        let mut count = 0;
        while !anchors.insert(unique.clone()) {
            count += 1;
            unique = format!("{slug}-{count}");
        }
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&'static str, &str)]) -> Vec<String> {
        let texts: BTreeMap<&str, String> = files.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        all(&texts, &names)
    }

    #[test]
    fn good_links_pass() {
        let readme = "# A b\n[x](docs/x.md) and [y](./docs/) ![z](docs/z.png \"title\")\n[here](#a-b)\n[ref]: docs/x.md#a-heading-in-中文\n\
            [web](https://example.org/no) [mail](mailto:a@example.org) [forge](../../security)\n";
        let x = "## A heading, in 中文!\n[up](../README.md#a-b) [root](/docs/x.md) [odd](<../README.md>)\n";
        assert_eq!(check(&[("README.md", readme), ("docs/x.md", x), ("docs/z.png", "")]), Vec::<String>::new());
    }

    #[test]
    fn dead_links_are_named_with_their_line() {
        let readme = "\n[x](docs/none.md)\n[y](#none)\n[z]: docs/x.md#none\n";
        assert_eq!(
            check(&[("README.md", readme), ("docs/x.md", "# X")]),
            [
                "README.md:2: `docs/none.md`: there is no docs/none.md",
                "README.md:3: `#none`: README.md has no heading #none",
                "README.md:4: `docs/x.md#none`: docs/x.md has no heading #none",
            ]
        );
    }

    #[test]
    fn code_holds_no_links() {
        let text = "```md\n[a](none)\n```\nand `[b](none)` too, but [c](none)\n";
        assert_eq!(check(&[("a.md", text)]), ["a.md:4: `none`: there is no none"]);
    }

    #[test]
    fn equal_headings_are_numbered() {
        let anchors = anchors("# Same\n## Same\n#hashtag\n");
        assert_eq!(anchors.into_iter().collect::<Vec<_>>(), ["same", "same-1"]);
    }
}
