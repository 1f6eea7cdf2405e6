//! `fanfare token`: makes a token with a secret of the configuration, and says of a token what is in it and whether a
//! server with this configuration takes it.
//!
//! Stdout has the token alone, or what is in it; no secret is ever printed. A token that the server would refuse is not
//! made: it is judged as the server judges it.

use crate::failure::Failure;
use crate::flags::{ConfigFile, FILE, SettingFlags, refused};
use crate::output::print;
use fanfare::auth::{AuthConfig, Inspected, Minting, TokenAlgorithm, TokenKey, inspect};
use fanfare::hub::{Action, Limits};
use fanfare::settings::{Problem, Problems, parse_time};
use serde_json::Value;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A longer text on stdin is no token.
const STDIN_BYTES_MAX: u64 = 1 << 20;

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 made, 1 not made (stderr says why).

  fanfare token --user ada --expires 1h
  fanfare token --user ada --channel 'chat:*=subscribe,publish' --subscribe inbox:ada --info '{\"name\":\"Ada\"}'
  fanfare token inspect \"$TOKEN\""
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Subcommand>,
    #[command(flatten)]
    mint: Mint,
}

#[derive(clap::Subcommand)]
enum Subcommand {
    /// Tells what is in a token, and whether it is good by the keys of the configuration
    Inspect(Inspect),
}

#[derive(clap::Args)]
struct Mint {
    #[command(flatten)]
    file: ConfigFile,
    /// The user (`sub`) [default: none, where the configuration lets anonymous clients in]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// How long it is good for
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    expires: Duration,
    /// Grants actions on the channels of a pattern, where their rules say `grant`: subscribe, publish, signal, enter,
    /// history_read, presence_read [default actions: subscribe]
    #[arg(long, value_name = "PATTERN[=ACTION,…]")]
    channel: Vec<String>,
    /// Subscribes its sessions to a channel
    #[arg(long, value_name = "CHANNEL")]
    subscribe: Vec<String>,
    /// What others see of the user in presence
    #[arg(long, value_name = "JSON")]
    info: Option<String>,
    /// One more claim: JSON, or a text as it is
    #[arg(long, value_name = "NAME=VALUE")]
    claim: Vec<String>,
    /// The key of [auth.keys] that signs it [default: the first one that is a secret]
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Signs with the secret of this file, and reads no configuration
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    secret_file: Option<PathBuf>,
    /// The algorithm for `--secret-file`
    #[arg(long, value_name = "ALGORITHM", requires = "secret_file", default_value = "HS256", value_parser = ["HS256", "HS384", "HS512"])]
    algorithm: String,
}

#[derive(clap::Args)]
struct Inspect {
    #[command(flatten)]
    file: ConfigFile,
    /// The token; `-` reads it from stdin, where no other user of this machine sees it
    #[arg(value_name = "TOKEN")]
    token: String,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Some(Subcommand::Inspect(args)) => inspected(&args),
        None => mint(&args.mint).map(|()| ExitCode::SUCCESS),
    }
}

/// The part of a configuration that tokens need: mistakes elsewhere do not matter.
fn auth_of(file: &str) -> Result<(AuthConfig, Limits), Failure> {
    let partial = SettingFlags::<false>::default().load_partial(file).map_err(|problems| refused(&problems))?;
    let about_auth = |problem: &&Problem| problem.key == "auth" || problem.key.starts_with("auth.");
    let wrong: Vec<Problem> = partial.problems.errors().filter(about_auth).cloned().collect();
    if !wrong.is_empty() {
        return Err(refused(&Problems(wrong)));
    }
    Ok((partial.settings.config.auth, partial.settings.config.limits))
}

fn mint(args: &Mint) -> Result<(), Failure> {
    let (config, limits, key) = match &args.secret_file {
        Some(path) => {
            let key = of_file(path, &args.algorithm)?;
            let config = AuthConfig { keys: vec![key.clone()], ..AuthConfig::default() };
            (config, Limits::default(), key)
        }
        None => {
            let (config, limits) = auth_of(&args.file.config)?;
            let key = chosen(&config, args.key.as_deref(), &args.file.config)?;
            (config, limits, key)
        }
    };
    let mut minting = Minting::new(args.expires);
    // As the server wants to see them.
    for (name, accepted) in [("iss", &config.issuers), ("aud", &config.audiences)] {
        if let Some(first) = accepted.first() {
            minting = minting.claim(name, Value::from(first.as_str()));
        }
    }
    for claim in &args.claim {
        let (name, value) = claim
            .split_once('=')
            .ok_or_else(|| Failure::users(format!("{claim:?} is no claim")).hint("write it like --claim role=admin"))?;
        minting = minting.claim(name, serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)));
    }
    if let Some(user) = &args.user {
        minting = minting.user(user);
    }
    if let Some(info) = &args.info {
        let info = serde_json::from_str(info).map_err(|error| {
            Failure::users(format!("--info is not JSON: {error}")).hint("write it like --info '{\"name\":\"Ada\"}'")
        })?;
        minting = minting.claim("info", info);
    }
    for grant in &args.channel {
        let (pattern, words) = grant.split_once('=').unwrap_or((grant, "subscribe"));
        minting = minting.grant(pattern, &actions(words)?);
    }
    for channel in &args.subscribe {
        minting = minting.subscribe(channel);
    }
    let unsigned =
        || Failure::users(format!("the key {:?} is a public one: it checks tokens and makes none", key.name()));
    let token = minting.sign(&key).ok_or_else(|| unsigned().hint("sign where the private key is"))?;
    if let Err(error) = look(&token, &config, &limits)?.verdict {
        return Err(Failure::users(format!("the server would refuse this token: {error}")));
    }
    print(&format!("{token}\n")).map(|_| ())
}

fn actions(words: &str) -> Result<Vec<Action>, Failure> {
    let one = |word: &str| {
        let found = Action::ALL.into_iter().find(|action| action.option() == word);
        found.ok_or_else(|| {
            let known = Action::ALL.map(Action::option).join(", ");
            Failure::users(format!("{word:?} is not an action: {known}"))
                .hint("write it like --channel 'chat:*=subscribe,publish'")
        })
    };
    words.split(',').map(str::trim).map(one).collect()
}

fn of_file(path: &std::path::Path, algorithm: &str) -> Result<TokenKey, Failure> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::users(format!("cannot read {shown}: {error}")))?;
    let text = text.trim_end_matches(['\n', '\r']);
    let key = TokenKey::new("file", TokenAlgorithm::find(algorithm), text);
    key.map_err(|error| {
        Failure::users(format!("{shown} holds no secret for {algorithm}: {error}"))
            .hint("make one with: (umask 077; openssl rand -base64 32 > FILE)")
    })
}

fn chosen(config: &AuthConfig, name: Option<&str>, file: &str) -> Result<TokenKey, Failure> {
    let keys = config.keys.iter();
    let found = match name {
        Some(name) => keys.clone().find(|key| key.name() == name),
        None => keys.clone().find(|key| key.algorithm().is_secret()),
    };
    found.cloned().ok_or_else(|| {
        let sentence = match name {
            Some(name) => format!("{file} has no key {name:?} in [auth.keys]"),
            None => format!("{file} has no secret in [auth.keys]"),
        };
        let known: Vec<&str> = keys.map(TokenKey::name).collect();
        let hint = match known.is_empty() {
            true => "add [auth.keys] and below it: main = { secret_file = \"…\" }; or name a file by --secret-file"
                .to_owned(),
            false => format!("its keys are: {}", known.join(", ")),
        };
        Failure::users(sentence).hint(hint)
    })
}

/// A token of the command line, or of stdin for `-`.
pub(crate) fn read_token(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.trim().to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().take(STDIN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::users(format!("cannot read stdin: {error}")))?;
    Ok(text.trim().to_owned())
}

/// Looks at a token by the keys of a configuration.
pub(crate) fn look(token: &str, config: &AuthConfig, limits: &Limits) -> Result<Inspected, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::ours(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(inspect(token, config, limits)))
}

fn inspected(args: &Inspect) -> Result<ExitCode, Failure> {
    let (config, limits) = auth_of(&args.file.config)?;
    if !config.has_keys() {
        let sentence = format!("{} has no key in [auth.keys], so no token can be checked", args.file.config);
        return Err(Failure::users(sentence).hint(format!("name another configuration by --config (default: {FILE})")));
    }
    let token = read_token(&args.token)?;
    let Inspected { header, claims, verdict, keys_missing, .. } = look(&token, &config, &limits)?;
    let mut text = match &verdict {
        Ok(()) => format!("valid by {}\n", args.file.config),
        Err(error) => format!("not valid: {error}\n"),
    };
    if let Some(why) = keys_missing {
        text += &format!("the keys of auth.jwks_url are not there: {why}\n");
    }
    for (name, part) in [("header", header), ("claims", claims)] {
        if let Some(part) = part {
            text += &format!("{name} {part:#}\n");
        }
    }
    print(&text)?;
    Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
