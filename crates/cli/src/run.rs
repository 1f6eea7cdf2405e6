//! A server's life in this process, for `dev` and `serve`: start, greet, read the settings again on SIGHUP, drain on
//! SIGTERM.

use crate::failure::Failure;
use crate::feed;
use crate::notify::Notify;
use crate::signals::{Event, Signals};
use crate::start::start;
use crate::words::{Greeting, Words};
use fanfare::Running;
use fanfare::settings::{Problems, Setting, Settings};

/// Fewer files than this are fewer connections than anybody expects of a server.
const FILES_FEW: u64 = 4096;

/// The differences between the two commands.
pub(crate) struct Plan<'p> {
    pub(crate) settings: Settings,
    /// An API key among those of the settings that nobody knows yet.
    pub(crate) new_key: Option<String>,
    /// The pages besides the protocols.
    pub(crate) pages: Option<axum::Router>,
    /// Whether the demo feed is published, if the rules have its channel.
    pub(crate) feed: bool,
    /// The lines that are printed when connections are accepted.
    pub(crate) greeting: &'p dyn Fn(&Running, &Settings) -> Greeting,
    /// Reads the settings again, where there is a file that they come from.
    pub(crate) again: Option<&'p dyn Fn() -> Result<Settings, Problems>>,
}

/// Runs until SIGTERM, SIGINT or the end of its terminal; a second signal ends it at once, with status 1.
pub(crate) fn run(plan: Plan<'_>) -> Result<(), Failure> {
    let words = Words::of(&plan.settings, plan.new_key.as_deref())?;
    live(plan, &words).map_err(|failure| words.tell(failure))
}

fn live(plan: Plan<'_>, words: &Words) -> Result<(), Failure> {
    let Plan { settings, new_key, pages, feed, greeting, again } = plan;
    words.warn(&settings);
    raise_file_limit();
    let mut signals = Signals::watch(again.is_some())?;
    let running = start(&settings, pages)?;
    if feed && settings.config.rules.of(feed::CHANNEL).is_some() {
        feed::begin(running.handle());
    }
    words.greet(&running, &greeting(&running, &settings), &settings, new_key.as_deref());
    let notify = Notify::from_env();
    notify.ready();
    let why = loop {
        match (signals.wait(), again) {
            (Event::End(why), _) => break why,
            (Event::Reload, Some(again)) => {
                notify.reloading();
                reload(&running, &settings, again(), words);
                notify.ready();
            }
            (Event::Reload, None) => tracing::info!("SIGHUP: there is nothing to reload, as no file was named"),
        }
    };
    notify.stopping(settings.config.shutdown_delay + settings.config.drain_max());
    tracing::info!("stopping on {why}: clients are asked to come back; a second signal ends it at once");
    signals.exit_at_the_next(why, words.log());
    running.drain_blocking()?;
    Ok(())
}

/// Puts new rules and keys in force, or keeps the old ones and says why. Everything is logged.
fn reload(running: &Running, started_with: &Settings, read: Result<Settings, Problems>, words: &Words) {
    // Old addresses with new rules may be a danger that neither configuration is by itself.
    let settings = match read.and_then(|new| new.check_reload(started_with).map(|()| new)) {
        Ok(settings) => settings,
        Err(problems) => {
            problems.0.iter().for_each(|problem| tracing::error!("{}", problem.in_one_line()));
            return tracing::error!("not reloaded: the old settings stay in force");
        }
    };
    words.keep_secret(&settings);
    // First the changes that can be refused, so that all of them are taken or none.
    if let Err(error) = running.reload_api_keys(&settings.config.api_keys) {
        return tracing::error!("not reloaded, the old settings stay in force: {error}");
    }
    running.reload_rules(&settings.config.rules);
    running.reload_limits(&settings.config);
    if !running.reload_auth(&settings.config.auth) {
        tracing::warn!("[auth] needs a restart: the server was started without keys of tokens");
    }
    if !running.reload_hooks(&settings.config.hooks) {
        tracing::warn!("[hooks] needs a restart: the server was started without hooks");
    }
    if let Some(tls) = &settings.config.tls {
        running.reload_tls(tls);
    }
    let rules = counted(settings.config.rules.iter().count(), "rule");
    let keys = counted(settings.api_keys.len(), "API key");
    tracing::info!("reloaded: {rules} and {keys} of the file are in force");
    for warning in settings.warnings() {
        tracing::warn!("{}", warning.in_one_line());
    }
    let differing = settings.differing(started_with);
    if differing.contains(&"hooks.secret") {
        tracing::warn!("hooks.secret needs a restart: until then requests are signed with the secrets of the start");
    }
    for setting in differing.into_iter().filter_map(Setting::of) {
        let written = |settings: &Settings| format!("{} ({})", settings.shown(setting), settings.source(setting));
        let (key, new, old) = (setting.key, written(&settings), written(started_with));
        tracing::warn!("{key} = {new} needs a restart: until then it is {old}");
    }
}

/// As many connections as the system lets this process have: the usual soft limit is 1,024 files.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    let files = match setrlimit(Resource::Nofile, limit) {
        Ok(()) => {
            if limit.maximum != before {
                let shown = |files: Option<u64>| files.map_or("unlimited".to_owned(), |files| files.to_string());
                tracing::debug!(from = shown(before), to = shown(limit.maximum), "the limit of open files was raised");
            }
            limit.maximum
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            before
        }
    };
    if let Some(files) = files.filter(|files| *files < FILES_FEW) {
        tracing::warn!(
            "at most {files} files may be open, and each connection is one: raise the hard limit (ulimit -Hn, LimitNOFILE=)"
        );
    }
}

/// `1 shard`, `2 shards`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
