//! The tables of docs/protocol.md are printed from the source: this test fails where they differ, and writes them
//! anew under `UPDATE_DOCS=1 cargo test -p fanfare-wire docs`.

use crate::websocket::close::CLOSE_CODES;
use fanfare_hub::{DISCONNECTS, ERRORS};
use std::fmt::Write as _;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn tables() -> [(&'static str, String); 3] {
    let mut errors = String::from("| code | HTTP | retryable | meaning |\n|---|---|---|---|\n");
    for row in ERRORS {
        let _ = writeln!(errors, "| `{}` | {} | {} | {} |", row.word, row.status, yes(row.retryable), row.meaning);
    }
    let mut disconnects = String::from("| code | reason | come back | meaning |\n|---|---|---|---|\n");
    for row in DISCONNECTS {
        let reconnect = yes(row.reason.reconnect());
        let _ = writeln!(disconnects, "| {} | `{}` | {reconnect} | {} |", row.code, row.word, row.meaning);
    }
    let mut codes = String::from("| code | name | come back | meaning |\n|---|---|---|---|\n");
    for row in CLOSE_CODES {
        let _ = writeln!(codes, "| {} | `{}` | {} | {} |", row.code, row.name, yes(row.reconnect), row.meaning);
    }
    [("errors", errors), ("disconnects", disconnects), ("close codes", codes)]
}

/// The page with its tables replaced.
fn printed(page: &str) -> String {
    let mut page = page.to_owned();
    for (name, table) in tables() {
        let begin = format!("<!-- generated: {name} -->\n");
        let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{PATH} has no {begin:?}"));
        let (_, after) =
            rest.split_once("<!-- /generated -->").unwrap_or_else(|| panic!("{name} has no end in {PATH}"));
        page = format!("{before}{begin}{table}<!-- /generated -->{after}");
    }
    page
}

#[test]
fn the_tables_of_the_documentation_are_those_of_the_source() {
    let page = std::fs::read_to_string(PATH).unwrap();
    let printed = printed(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PATH, printed).unwrap();
        return;
    }
    assert!(page == printed, "docs/protocol.md is out of date: UPDATE_DOCS=1 cargo test -p fanfare-wire docs");
}
