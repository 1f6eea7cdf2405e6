//! `fanfare init`: writes a configuration to begin with. Every setting is in it, commented out with its default; the rules
//! are few, and let nobody do more than they say.

use crate::failure::Failure;
use crate::flags::FILE;
use std::io::{ErrorKind, Write as _};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to write it; `-` for the standard output
    #[arg(value_name = "FILE", default_value = FILE)]
    file: String,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let text = fanfare::settings::commented_file();
    if args.file == "-" {
        let _ = std::io::stdout().write_all(text.as_bytes()); // a closed pipe is no failure of ours
        return Ok(());
    }
    // `create_new`: what somebody has written is never overwritten, not even by two of us at once.
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(&args.file);
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| Failure {
        sentence: format!("cannot write {}: {error}", args.file),
        hint: Some(match error.kind() {
            ErrorKind::AlreadyExists => "name another file, or print it: fanfare init -".to_owned(),
            _ => "look at the path, and at who may write there".to_owned(),
        }),
        status: 1,
    })?;
    println!("{}", args.file);
    eprintln!("look through its rules, then: fanfare check {0} && fanfare serve --config {0}", args.file);
    Ok(())
}
