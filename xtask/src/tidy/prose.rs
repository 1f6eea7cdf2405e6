//! Checks of what people read: the width of lines, and references that a reader of this repository cannot follow.
//!
//! Tables, links, transcripts (fenced blocks) and generated parts may be wider than [`COLUMNS_MAX`]: breaking them
//! would make them harder to read. Code is left to rustfmt; of a program only its comments are looked at.

/// The width of a line of prose.
const COLUMNS_MAX: usize = 120;

/// Names of documents that are not in the repository.
const OUTSIDE: [&str; 3] = [concat!("DESIGN", ".md"), concat!("STYLE", ".md"), concat!("DEVELOPERS", ".md")];

/// Lines of prose and comments that are too wide.
pub(crate) fn width(name: &str, text: &str) -> Vec<String> {
    let Some((_, extension)) = name.rsplit_once('.') else { return Vec::new() };
    let is_prose = extension == "md";
    if !is_prose && !matches!(extension, "rs" | "js" | "mjs" | "ts" | "tsx") {
        return Vec::new();
    }
    let (mut fenced, mut generated) = (false, false);
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let comment = line.trim_start();
        let words = comment.trim_start_matches(['/', '!', '*', ' ']);
        if !is_prose && !comment.starts_with("//") {
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

/// Documents that are named and that no reader has.
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
            ("Chinese, two columns each", "a.md", "字".repeat(61), 1),
            ("Chinese that fits", "a.md", "字".repeat(60), 0),
            ("another kind", "a.txt", wide.clone(), 0),
        ];
        for (row, name, text, expected) in rows {
            assert_eq!(width(name, &text).len(), expected, "{row}");
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
