//! `fanfare completions`: the script by which a shell completes commands and flags.

use crate::failure::Failure;
use crate::output::{write, written};

#[derive(clap::Args)]
#[command(after_help = "bash: add this to ~/.bashrc
  source <(fanfare completions bash)
zsh: write it to a file named _fanfare in a folder of $fpath
  fanfare completions zsh > ~/.zfunc/_fanfare
fish:
  fanfare completions fish > ~/.config/fish/completions/fanfare.fish")]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: Args, mut command: clap::Command) -> Result<(), Failure> {
    // First into memory: clap_complete panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "fanfare", &mut script);
    written(write(&script)).map(drop)
}
