//! docs/config.md is what the table of settings says. `UPDATE_DOCS=1` writes it.

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
