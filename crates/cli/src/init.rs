//! `fanfare init`: writes a configuration to begin with, and a key for the application beside it. Every setting is in
//! it, commented out with its default; the rules are few, and let nobody do more than they say.
//!
//! The key has a file of its own, which only its owner reads: so the configuration holds no secret and can be kept
//! with the application's source. On the standard output there is one text only, and the key stands in it.

use crate::failure::Failure;
use crate::flags::{FILE, random_key};
use crate::output::print;
use crate::stderr::tell;
use fanfare::settings::commented_file;
use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to write it, with a key in a file of the same name that ends in .key; `-` for the standard output
    #[arg(value_name = "FILE", default_value = FILE)]
    file: String,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    if args.file == "-" {
        let text = commented_file(&format!("{:?}", random_key()?));
        print(&text)?;
        if !std::io::stdout().is_terminal() {
            tell(format_args!("it holds a new API key: keep others from reading it"));
        }
        return Ok(());
    }
    let file = Path::new(&args.file);
    let key = key_beside(file);
    let name = key.file_name().unwrap_or_default().to_string_lossy();
    // The configuration first: where it is there already, nothing is written at all.
    write_new(file, 0o666, &commented_file(&format!("{{ key_file = {name:?} }}"))).map_err(|error| Failure {
        sentence: format!("cannot write {}: {error}", args.file),
        hint: Some(match error.kind() {
            ErrorKind::AlreadyExists => "name another file, or print it: fanfare init -".to_owned(),
            _ => "check the path, and the permission to write there".to_owned(),
        }),
        status: 1,
    })?;
    print(&format!("{}\n", args.file))?;
    match write_new(&key, 0o600, &format!("{}\n", random_key()?)) {
        Ok(()) => {
            print(&format!("{}\n", key.display()))?;
            tell(format_args!("{} is your application's API key: only you can read it", key.display()));
        }
        // Of an earlier configuration: an application may know it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            tell(format_args!("{} is your application's API key: it existed already and is unchanged", key.display()));
        }
        Err(error) => {
            let failure = Failure::users(format!("cannot write the API key to {}: {error}", key.display()));
            return Err(failure.hint("write 16 characters or more there by yourself, or change [api_keys]"));
        }
    }
    let program = std::env::args_os().next().map(|program| program.to_string_lossy().into_owned());
    tell(next_commands(&args.file, &key, program.as_deref()).trim_end());
    Ok(())
}

fn key_beside(file: &Path) -> PathBuf {
    let key = file.with_extension("key");
    // A configuration with this name is that file.
    if key == file { file.with_extension("key.key") } else { key }
}

/// `create_new`: an existing file is never overwritten, even if two processes write at once.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

/// The next commands, to be pasted into a shell. `program` is how this one was called.
fn next_commands(file: &str, key: &Path, program: Option<&str>) -> String {
    let program = quoted(program.unwrap_or("fanfare"));
    let config = if file == FILE { String::new() } else { format!(" --config {}", quoted(file)) };
    let key = quoted(&key.to_string_lossy());
    format!(
        "\nstart the server:\n  {program} serve{config}\npublish to it, in another terminal:\n  \
         FANFARE_API_KEY=\"$(cat {key})\" {program} publish news:hello '{{\"text\":\"It works\"}}'\n"
    )
}

/// As a shell takes it; plain where it can be.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_to_paste_name_what_was_written_and_are_quoted_for_a_shell() {
        let rows = [
            ("fanfare.toml", Some("fanfare"), "fanfare serve\n", "\"$(cat fanfare.key)\" fanfare publish "),
            ("etc/a.toml", None, "fanfare serve --config etc/a.toml\n", "\"$(cat etc/a.key)\" fanfare publish "),
            ("it's.toml", Some("./f"), r"./f serve --config 'it'\''s.toml'", r#""$(cat 'it'\''s.key')" ./f publish "#),
            ("a.key", Some("f"), "f serve --config a.key\n", "\"$(cat a.key.key)\" f publish "),
        ];
        for (file, program, serve, publish) in rows {
            let text = next_commands(file, &key_beside(Path::new(file)), program);
            assert!(text.contains(serve) && text.contains(publish), "{file}: {text}");
        }
    }
}
