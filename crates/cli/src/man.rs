//! `fanfare man`: the manual page, in roff, from the same definitions as `--help` and the reference page.

use crate::failure::Failure;
use crate::output::print;
use std::fmt::Write as _;

pub(crate) fn run(command: clap::Command) -> Result<(), Failure> {
    print(&page(command)).map(drop)
}

fn page(mut command: clap::Command) -> String {
    command.build();
    let version = env!("CARGO_PKG_VERSION");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = format!(
        ".TH FANFARE 1 \"\" \"fanfare {version}\" \"\"\n.SH NAME\nfanfare \\- {}\n.SH SYNOPSIS\n.B fanfare\nCOMMAND [OPTIONS]\n.SH COMMANDS\n",
        roff(&about)
    );
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(page, ".TP\n.B fanfare {}\n{}.\n", roff(sub.get_name()), roff(about.trim_end_matches('.')));
        for arg in sub.get_positionals() {
            let name = arg
                .get_value_names()
                .and_then(|names| names.first())
                .map_or(arg.get_id().as_str(), |name| name.as_str());
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let _ = write!(page, ".RS\n.TP\n.I {}\n{}.\n.RE\n", roff(name), roff(&help));
        }
        // Those of the settings have a section of their own.
        let own = sub.get_opts().filter(|arg| fanfare::settings::Setting::of(arg.get_id().as_str()).is_none());
        for arg in own.filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version")) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let _ = write!(
                page,
                ".RS\n.TP\n.B \\-\\-{}\n{}.\n.RE\n",
                roff(arg.get_long().unwrap_or_default()),
                roff(&help)
            );
        }
    }
    page.push_str(&fanfare::settings::manual());
    page.push_str(
        ".SH SIGNALS\nSIGHUP reads the file again. SIGTERM and SIGINT stop the server: its clients are asked to come back. A second one ends it at once.\n\
         .SH EXIT STATUS\n0 done, 1 something that you can fix, 2 something that we did wrong. Of why: 0 allowed, 1 not.\n",
    );
    page
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('`', "")
}
