//! The command line and the variables that stand in for flags: read, or refused in a sentence.
//!
//! A variable that is empty is one that is not set. Arguments that are not UTF-8 are refused by name, and so is every
//! variable that the command reads, also where a flag stands in its place. Help and version go to stdout, like all
//! output; errors go to stderr with status 1.

use crate::failure::Failure;
use crate::flags;
use crate::output::print;
use crate::stderr;
use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, Command, Parser};
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::process::ExitCode;

/// Reads it, or prints the help or the error and gives the status to end with.
pub(crate) fn parse<C: Parser>() -> Result<C, ExitCode> {
    let line: Vec<OsString> = std::env::args_os().collect();
    let mut command = without_empty_variables(C::command());
    let read = command.try_get_matches_from_mut(&line).and_then(|mut matches| C::from_arg_matches_mut(&mut matches));
    let bad = bad_variables(&command, &line);
    let mut error = match read {
        Ok(_) if !bad.is_empty() => return Err(no_utf8(&line, &bad).report()),
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    Err(match error.kind() {
        ErrorKind::InvalidUtf8 => no_utf8(&line, &bad).report(),
        _ if error.use_stderr() => {
            flags::point_to_the_right_one(&mut error, line.iter().map(|word| word.to_string_lossy().into_owned()));
            stderr::last(move || drop(error.print()));
            ExitCode::FAILURE // clap's own errors are the user's to fix: status 1, where clap says 2
        }
        _ => shown(&error).map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS),
    })
}

/// The variables that the command of this line reads and that are no text.
fn bad_variables(command: &Command, line: &[OsString]) -> Vec<String> {
    let named = line.get(1).and_then(|word| command.find_subcommand(word));
    let variables = named.into_iter().flat_map(Command::get_arguments).filter_map(Arg::get_env);
    let bad = variables.filter(|name| std::env::var_os(name).is_some_and(|value| value.to_str().is_none()));
    bad.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Help or the version.
fn shown(error: &clap::Error) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        let _ = error.print(); // in colours, where a person reads it
        return Ok(());
    }
    print(&error.render().to_string()).map(drop)
}

fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => arg.env(Resettable::Reset),
        _ => arg,
    });
    command.mut_subcommands(without_empty_variables)
}

/// Names the argument that is no text.
fn no_utf8(line: &[OsString], variables: &[String]) -> Failure {
    let arguments = line.iter().enumerate().skip(1).filter(|(_, word)| word.to_str().is_none());
    let arguments = arguments.map(|(at, word)| format!("argument {at}, {}", escaped(word)));
    let variables = variables.iter().map(|name| format!("the variable {name}")); // its value may be a secret
    let found: Vec<String> = arguments.chain(variables).collect();
    Failure::users(format!("not UTF-8: {}", found.join("; ")))
        .hint("write it in UTF-8, and check the locale (LANG, LC_ALL)")
}

/// `"a\xffb"`.
fn escaped(word: &OsStr) -> String {
    format!("\"{}\"", word.as_encoded_bytes().escape_ascii())
}
