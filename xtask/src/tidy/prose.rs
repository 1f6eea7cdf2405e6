//! Checks of texts for people: the width of lines, words that plain prose avoids, and references that a reader of this
//! repository cannot follow.
//!
//! Tables, links, transcripts (fenced blocks) and generated parts may be wider than [`COLUMNS_MAX`]: breaking them
//! would make them harder to read. rustfmt checks code. Of programs, settings and scripts only comments are checked; of
//! the SDK, which no formatter checks, every line is.

/// The width of a line of prose.
const COLUMNS_MAX: usize = 120;

/// Names of documents that are not in the repository.
const OUTSIDE: [&str; 3] = [concat!("DESIGN", ".md"), concat!("STYLE", ".md"), concat!("DEVELOPERS", ".md")];

/// Words that make a sentence hard to read where a plain one does the same. Write "a client that asks", for example.
const AVOIDED: [&str; 3] = [concat!("who", "ever"), concat!("whom", "ever"), concat!("whoso", "ever")];

/// How a file marks the lines that people read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// All lines are prose.
    All,
    /// Comments begin with `//`.
    Slashes,
    /// Comments begin with `#`.
    Hashes,
}

impl Lines {
    /// Those of the file with this name; `None` for a file that is not checked.
    fn of(name: &str) -> Option<Lines> {
        let file = name.rsplit('/').next().unwrap_or(name);
        match file.rsplit_once('.').map_or(file, |(_, extension)| extension) {
            "ts" | "tsx" | "mjs" if name.starts_with("sdk/") => Some(Lines::All),
            "md" => Some(Lines::All),
            "rs" | "js" | "mjs" | "ts" | "tsx" => Some(Lines::Slashes),
            "toml" | "sh" | "yml" | "yaml" | "py" | "service" | "Dockerfile" | "gitignore" | "dockerignore" => {
                Some(Lines::Hashes)
            }
            _ => (name.starts_with("packaging/") || name.starts_with(".ci/")).then_some(Lines::Hashes),
        }
    }

    fn are_read(self, line: &str) -> bool {
        match self {
            Lines::All => true,
            Lines::Slashes => line.starts_with("//"),
            Lines::Hashes => line.starts_with('#') && !line.starts_with("#!"),
        }
    }
}

/// Lines of prose and comments that are too wide.
pub(crate) fn width(name: &str, text: &str) -> Vec<String> {
    let Some(lines) = Lines::of(name) else { return Vec::new() };
    let (mut fenced, mut generated) = (false, false);
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let comment = line.trim_start();
        let words = comment.trim_start_matches(['/', '!', '*', '#', ' ']);
        if !lines.are_read(comment) {
            fenced = false;
            continue;
        }
        if words.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        generated = (generated || line.starts_with("<!-- generated")) && !line.starts_with("<!-- /generated");
        let exempt = fenced || generated || words.starts_with('|') || line.contains("](") || line.contains("://");
        let columns = line.chars().map(columns_of).sum::<usize>();
        if !exempt && columns > COLUMNS_MAX {
            faults.push(format!("{name}:{}: {columns} columns, at most {COLUMNS_MAX}", number + 1));
        }
    }
    faults
}

/// Lines with a word that plain prose avoids: in prose, comments, messages and names.
pub(crate) fn avoided(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        let mut words = lower.split(|letter: char| !letter.is_alphanumeric());
        if let Some(word) = words.find(|word| AVOIDED.contains(word)) {
            faults.push(format!("{name}:{}: \"{word}\": name the person or the part instead", number + 1));
        }
    }
    faults
}

/// References to documents that no reader has.
pub(crate) fn outside(name: &str, text: &str) -> Vec<String> {
    let found = |line: &str| OUTSIDE.into_iter().find(|document| line.contains(document));
    let faults = text.lines().enumerate().filter_map(|(number, line)| Some((number, found(line)?)));
    faults
        .map(|(number, document)| {
            format!("{name}:{}: refers to {document}, which is not in this repository", number + 1)
        })
        .collect()
}

/// East Asian characters take two columns.
fn columns_of(letter: char) -> usize {
    let wide = matches!(letter, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{1f300}'..='\u{1faff}');
    1 + usize::from(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_lines_of_prose_are_found_and_those_that_cannot_be_broken_are_not() {
        let wide = "word ".repeat(30);
        let rows = [
            ("prose", "a.md", wide.clone(), 1),
            ("a table", "a.md", format!("| {wide} |"), 0),
            ("a link", "a.md", format!("[{wide}](b.md)"), 0),
            ("a transcript", "a.md", format!("```json\n{wide}\n```\n{wide}"), 1),
            ("a generated part", "a.md", format!("<!-- generated: x -->\n{wide}\n<!-- /generated -->\n"), 0),
            ("a comment", "a.rs", format!("    /// {wide}"), 1),
            ("a sample in a comment", "a.rs", format!("/// ```\n/// {wide}\n/// ```"), 0),
            ("code, which rustfmt judges", "a.rs", format!("let a = \"{wide}\";"), 0),
            ("a script's comment", "a.mjs", format!("// {wide}"), 1),
            ("settings", "a/b.toml", format!("# {wide}"), 1),
            ("a value of settings", "b.toml", format!("a = \"{wide}\""), 0),
            ("a container", "Dockerfile", format!("# {wide}\nRUN {wide}"), 1),
            ("a service", "packaging/a.service", format!("# {wide}\nA={wide}"), 1),
            ("anything that is packaged", "packaging/postinst", format!("# {wide}"), 1),
            ("a shell script", "a.sh", format!("#!{wide}\n  # {wide}"), 1),
            ("a pipeline", ".ci/a.yml", format!("    # {wide}"), 1),
            ("Chinese, two columns each", "a.md", "字".repeat(61), 1),
            ("Chinese that fits", "a.md", "字".repeat(60), 0),
            ("the SDK's code, which no formatter judges", "sdk/js/a.ts", format!("const a = '{wide}'"), 1),
            ("the SDK's code with an address", "sdk/js/a.ts", format!("const a = 'https://{wide}'"), 0),
            ("another kind", "a.txt", wide.clone(), 0),
        ];
        for (row, name, text, expected) in rows {
            assert_eq!(width(name, &text).len(), expected, "{row}");
        }
    }

    #[test]
    fn avoided_words_are_found_wherever_they_stand() {
        for word in AVOIDED {
            let capital = word.to_uppercase();
            let rows = [
                ("prose", "a.md", format!("One.\nIt is for {word} asks.\n"), vec![2]),
                ("a capital, a comma", "a.md", format!("{capital}, then."), vec![1]),
                ("a comment", "a.rs", format!("let a = 1; // for {word} asks\n/// {word}"), vec![1, 2]),
                ("a message", "a.rs", format!("panic!(\"{word} asks\")"), vec![1]),
                ("a name of several words", "a.rs", format!("fn {word}_asks() {{}}"), vec![1]),
                ("a part of a longer word", "a.rs", format!("let a = \"{word}s\";"), vec![]),
            ];
            for (row, name, text, expected) in rows {
                let found = avoided(name, &text);
                let at = |line: &usize| format!("{name}:{line}: \"{word}\": name the person or the part instead");
                assert_eq!(found, expected.iter().map(at).collect::<Vec<_>>(), "{row}: {word}");
            }
        }
    }

    #[test]
    fn documents_outside_of_the_repository_are_found() {
        for document in OUTSIDE {
            assert_eq!(outside("a.rs", &format!("//! As {document} has it.\n\n//! More.")).len(), 1, "{document}");
        }
        assert_eq!(outside("a.md", "See ARCHITECTURE.md"), Vec::<String>::new());
    }
}
