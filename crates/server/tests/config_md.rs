//! docs/config.md matches the table of settings (`UPDATE_DOCS=1` writes it), and no page names a setting that does not
//! exist.

use fanfare::settings::{SECTIONS, SETTINGS, Setting};
use std::path::Path;

#[test]
fn the_reference_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    let page = fanfare::settings::reference_page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/config.md is old: UPDATE_DOCS=1 cargo test -p fanfare --test config_md");
}

/// Every page for readers and every packaged file, by path from the root.
fn pages() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed = |folder: &str| {
        let files = std::fs::read_dir(top.join(folder)).expect("a folder");
        files
            .map(|file| format!("{folder}/{}", file.expect("a file").file_name().to_string_lossy()))
            .collect::<Vec<_>>()
    };
    let mut names = [listed("docs"), listed("packaging")].concat();
    names.extend(["README.md", "README.zh-CN.md", "ARCHITECTURE.md", "Dockerfile"].map(str::to_owned));
    names.retain(|name| top.join(name).is_file());
    names.into_iter().map(|name| (name.clone(), std::fs::read_to_string(top.join(name)).expect("text"))).collect()
}

/// Whether this is a setting, or a table whose names are free.
fn is_known(key: &str) -> bool {
    let is_free = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
    Setting::of(key).is_some()
        || is_free("api_keys")
        || is_free("auth.keys")
        || key == "auth.keys"
        || key == "hooks.secret"
        || SETTINGS.iter().any(|setting| setting.section() == key)
}

#[test]
fn every_setting_that_a_page_names_is_in_the_table() {
    let is_of_variable = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let is_of_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    let (mut wrong, mut found) = (Vec::new(), 0);
    for (page, text) in pages() {
        for (number, line) in text.lines().enumerate() {
            let variables = line.split("FANFARE__").skip(1).map(|rest| {
                let name = rest.split(|c| !is_of_variable(c)).next().unwrap_or_default();
                name.to_lowercase().replace("__", ".")
            });
            // The whole text, or the part before a value: `admin.listen = "main"`.
            let quoted = line.split('`').skip(1).step_by(2).filter_map(|quoted| {
                let end = quoted.find(|c| !is_of_key(c)).unwrap_or(quoted.len());
                let is_whole = matches!(quoted[end..].trim_start().chars().next(), None | Some('='));
                let key = &quoted[..end];
                let (section, name) = key.split_once('.')?;
                let is_section = SECTIONS.iter().any(|(known, _)| *known == section) && !section.is_empty();
                // `limits.rs` is a file, and `auth.token` is of the clients of Socket.IO.
                let is_setting = is_section && !matches!(name, "" | "rs") && key != "auth.token";
                (is_whole && is_setting).then(|| key.to_owned())
            });
            for key in variables.chain(quoted) {
                // `FANFARE__…`: the pattern of all variables' names, and each name.
                if key.is_empty() || key == "section.key" {
                    continue;
                }
                found += 1;
                if !is_known(&key) {
                    wrong.push(format!("{page}:{}: {key}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such settings:\n{}", wrong.join("\n"));
    assert!(found > 15, "only {found} were found: does this still look at the pages?");
}
