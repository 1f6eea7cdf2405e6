//! What the table of settings is printed as: the reference page, the file that `fanfare init` writes, and the
//! manual's part.
//!
//! Nothing about a setting is written here: what is said of one stands in its row.

use super::Settings;
use super::channels::RULE_OPTIONS;
use super::keys::command_words;
use super::table::{LATER, SECTIONS, SETTINGS, Setting};
use std::fmt::Write as _;

const WIDTH: usize = 100;

/// `docs/config.md`.
pub fn reference_page() -> String {
    let mut page = String::from(PAGE_HEAD);
    for (section, about) in SECTIONS {
        let title = if section.is_empty() { "The top of the file".to_owned() } else { format!("`[{section}]`") };
        let _ = write!(page, "\n## {title}\n\n{}\n", wrapped(&squeezed(about)));
        let _ = write!(page, "\n| setting | default | allowed | what it does |\n|---|---|---|---|\n");
        for setting in SETTINGS.iter().filter(|setting| setting.section() == *section) {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                setting.name(),
                code(&setting.default_shown(), setting.default.is_none()),
                cell(&setting.allowed()),
                cell(&squeezed(setting.doc)),
            );
        }
        if section.is_empty() {
            page.push_str(PAGE_HOSTS);
        }
    }
    page.push_str(PAGE_RULES);
    page.push_str("\nA rule's options:\n\n| option | default | allowed | what it does |\n|---|---|---|---|\n");
    for option in RULE_OPTIONS {
        let row = [cell(option.default), cell(option.allowed), cell(&squeezed(option.doc))].join(" | ");
        let _ = writeln!(page, "| `{}` | {row} |", option.key);
    }
    let commands = format!("`{}`", command_words().collect::<Vec<_>>().join("`, `"));
    let _ = write!(page, "{}", PAGE_KEYS.replace("COMMANDS", &commands));
    page.push_str("\n## What comes later\n\nThese are known and refused, so that nobody takes them for working:\n\n");
    for (key, what) in LATER {
        let _ = writeln!(page, "- `{key}`: {what}");
    }
    page
}

/// A file with every setting in it, commented out with its default, rules to begin with, and a key for the application:
/// `backend` is its value, in TOML.
pub fn commented_file(backend: &str) -> String {
    let mut file = String::from(FILE_HEAD);
    for (section, about) in SECTIONS {
        if !section.is_empty() {
            let _ = write!(file, "\n{}[{section}]\n", comment(about));
        }
        for setting in SETTINGS.iter().filter(|setting| setting.section() == *section) {
            let _ = write!(file, "\n{}", comment(setting.doc));
            let _ = match setting.default {
                // What depends on the machine cannot stand there as the default.
                Some(default) => writeln!(file, "# Default: {default}. Another would be: {} = 4", setting.name()),
                None => writeln!(file, "#{} = {}", setting.name(), setting.default_shown()),
            };
        }
    }
    let _ = writeln!(file, "{FILE_KEYS}backend = {backend}");
    file.push_str(FILE_RULES);
    for option in RULE_OPTIONS {
        let _ = writeln!(file, "{}#     {}", comment(&format!("  {}: {}", option.key, option.doc)), option.allowed);
    }
    file.push_str(FILE_EXAMPLES);
    file
}

/// The part of the manual page that tells the settings, in roff.
pub fn manual() -> String {
    let mut page = String::from(
        ".SH SETTINGS\nOf a flag, a variable of the environment and a line of the file the first that is given counts.\n",
    );
    for (section, about) in SECTIONS {
        let title = if section.is_empty() { "Top level" } else { section };
        let _ = write!(page, ".SS {title}\n{}\n", roff(&squeezed(about)));
        for setting in SETTINGS.iter().filter(|setting| setting.section() == *section) {
            let _ = write!(
                page,
                ".TP\n.B {}\n{}\n.br\nAllowed: {}. Default: {}. Flag \\-\\-{}, variable {}.\n",
                roff(setting.key),
                roff(&squeezed(setting.doc)),
                roff(&setting.allowed()),
                roff(&setting.default_shown()),
                roff(&setting.flag()),
                roff(&setting.variable()),
            );
        }
    }
    page.push_str(".SS channels\nThe rules, each a table [[channels]]; the first whose pattern matches a channel's name governs it.\n");
    for option in RULE_OPTIONS {
        let (doc, allowed) = (roff(&squeezed(option.doc)), roff(option.allowed));
        let _ = write!(
            page,
            ".TP\n.B {}\n{doc}\n.br\nAllowed: {allowed}. Default: {}.\n",
            option.key,
            roff(option.default)
        );
    }
    page
}

impl Setting {
    /// What `--help` says of its flag, where these are the defaults.
    pub fn help(&self, defaults: &Settings) -> String {
        let default = self.default.map_or_else(|| as_flag(&defaults.shown(self)), str::to_owned);
        format!("{} [default: {default}]", squeezed(self.doc).trim_end_matches('.'))
    }
}

/// TOML as it would be written after a flag.
fn as_flag(toml: &str) -> String {
    match toml.trim_matches(['[', ']']).replace('"', "") {
        none if none.is_empty() => "none".to_owned(),
        _ => toml
            .strip_prefix('[')
            .and_then(|list| list.strip_suffix(']'))
            .unwrap_or(toml)
            .replace('"', "")
            .replace(", ", ","),
    }
}

/// Prose in lines of at most 118 columns.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| line.len() + word.len() < 118) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn code(text: &str, is_code: bool) -> String {
    if is_code { format!("`{}`", cell(text)) } else { cell(text) }
}

fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('`', "");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

/// Wrapped lines of a comment. Leading spaces of the text are kept for all of them.
fn comment(text: &str) -> String {
    let indent = &text[..text.len() - text.trim_start().len()];
    let mut out = String::new();
    let mut line = format!("#{indent}");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = format!("#{indent}");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
    out
}

const PAGE_HEAD: &str = r#"# Configuration

<!-- Made from the table of settings, crates/server/src/settings:
`UPDATE_DOCS=1 cargo test -p fanfare --test config_md` writes it. -->

`fanfare serve` reads one TOML file: `fanfare.toml` in the working directory, or what `--config` or `FANFARE_CONFIG`
names. `fanfare init` writes one to begin with, `fanfare check` tells what is wrong with one, `fanfare config` prints
what is in force and where each value comes from, `fanfare why` tells which rule decides something, and why.

A value is taken from the first of these that has it:

1. a **flag**: `--limits-message-bytes-max 128KiB`. The key with dashes for dots and underscores.
2. the **environment**: `FANFARE__LIMITS__MESSAGE_BYTES_MAX=128KiB`. The key in capitals with `FANFARE__` in front and
   two underscores for each dot. Lists have commas. A variable that is empty is not set; one that is not UTF-8 is
   refused.
3. the **file**: `message_bytes_max = "128KiB"` below `[limits]`.
4. the **default**.

Rules and API keys with restrictions stand in the file only. What is not known is refused, in all three places, with the
nearest name that is.

In the file, `${NAME}` in a string is the variable `NAME` of the environment; `$${` is a plain `${`. `serve` needs all
of them to be set, and to something. Without one `fanfare check` tells it beside everything else that is wrong,
`fanfare config` prints the rest, and `fanfare why` answers as long as it is not a rule that needs it: so neither
needs the secrets of production.

Bytes are written `65536`, `"64KiB"` (of 1,024) or `"64kB"` (of 1,000), times `"500ms"`, `"10s"`, `"5m"`, `"24h"`,
`"7d"`, rates `"20/s"` or `"100/10s"`.

SIGHUP reads the file again, and the files that it names (`key_file`). If all of it is good its **rules** and **API
keys** are in force at once: subscriptions that the rules would refuse are ended, a key that is gone opens no further
request, and the others notice nothing. All other settings need a restart; the log names each that has changed, with
the value that stays in force and where that stands. If something is wrong, nothing changes, and the log says what.
Variables of the environment are those with which the process was started.
"#;

const PAGE_HOSTS: &str = r#"
### Hosts and origins

A browser tells in `Origin` which page asks, and in `Host` which name it asked for. `origins` judges the first, for
WebSockets; `hosts` judges the second, for every request: WebSockets, pages, the API, probes, on `listen` and on
`admin.listen`, over HTTP/1 and HTTP/2 (`:authority`). A refusal names the option and what was sent: 403 for an
origin, 421 for a host.

- **Origins** are equal where scheme, host and port are. A port that is left out is the scheme's usual one (80 for
  http and ws, 443 for https and wss), case and a dot at the end do not matter. Any scheme can be listed:
  `capacitor://localhost`, `tauri://localhost`, `chrome-extension://ID`. List `null` only if you must: every sandboxed
  frame of any page sends it.
- **The same host**: a page may always connect to the host and port that served it. `Host` has no scheme, and a proxy
  may have ended TLS, so where `Host` has no port it is the usual one of the page's scheme: with `Host: app.example`
  the pages `https://app.example` and `http://app.example` are both of this host. `Host: app.example:443` is that of
  the first only.
- **Hosts** compare without their port. Addresses and `localhost` are always served, since no attacker can point them
  elsewhere, and so are the hosts of `origins`; an `origins` of `"*"` names none. A request of HTTP/1.0 without `Host`
  is served: no browser sends one.
- **Behind a proxy** that hands the client's `Host` on to a loopback address, list the name:
  `hosts = ["app.example"]`, or `origins = ["https://app.example"]`. A Unix socket needs neither.
- `fanfare dev` has `hosts = ["localhost"]`, which serves no other name on any address: list the name of the machine
  to use one.
- **Probes** by address, by `localhost` or without a `Host` (HTTP/1.0) are always served; a probe by another name is
  judged as any request is.
- **In a program of your own** the settings are `Config::hosts` and `Config::origins`. `into_service()` has no
  listener, so there the default serves any host and a list is judged; `Api::router()` judges neither, which the
  server around it may do.
"#;

const PAGE_RULES: &str = r#"
## `[[channels]]`

The rules: who may do what with which channels, and what is kept. **The first rule whose pattern matches a channel's
name governs it**, and no other is looked at. A channel that no rule matches cannot be used.

```toml
[[channels]]
match     = "news:**"           # ** is the rest, * is one segment
subscribe = "anyone"
publish   = "server"            # the application alone, by its API

[[channels]]
match     = "chat:*"
subscribe = "anyone"
publish   = "subscriber"
signal    = "subscriber"
history   = { size = 100, bytes = "1MB", ttl = "10m" }
presence  = true
rate      = "20/s"
```

| word | who it lets in |
|---|---|
| `anyone` | everybody, known or not |
| `authenticated` | every caller with a user. Only a program that embeds Fanfare knows users so far; tokens come later |
| `subscriber` | whom this same rule lets subscribe |
| `hook` | whom the embedding program's `on_subscribe` or `on_publish` lets in |
| `server` | only the application, by its API. It may in any case: the word says that nobody else does |
| `nobody` | no client |

A list lets in whom any of its words does. `fanfare check` refuses a rule that no name reaches, and warns of a loose
rule above a stricter one that it crosses, and of `server` where the application has no API key.

A channel can be one user's: `{user}` is the caller's user id, and whoever is another, or nobody, is denied.

```toml
[[channels]]
match     = "inbox:{user}"
subscribe = "authenticated"
publish   = "server"
```

Users are named by the handlers of a program that [embeds Fanfare](../README.md#within-your-rust-program) and reads
this file (`Builder::config_file`). `fanfare serve` knows none yet: there such a rule lets no client in, and `check`
and `serve` warn of it.
"#;

const PAGE_KEYS: &str = r#"
## `[api_keys]`

With a key an application uses the HTTP API, as `Authorization: Bearer KEY`. Each has a name, which stands in logs and
errors; the key itself is never printed.

```toml
[api_keys]
backend = "${BACKEND_API_KEY}"
metrics = { key_file = "/run/secrets/metrics", commands = ["info", "channels"] }
news    = { key_file = "/run/secrets/news", commands = ["publish"], channels = ["news:**"] }
```

| option | what it is |
|---|---|
| `key` | the key: at least 16 visible ASCII characters. A list of keys is one caller: so a key is replaced while both work |
| `key_file` | a file that holds it; a relative path begins at the configuration's own folder |
| `commands` | what it may do; without it, everything. Any of COMMANDS |
| `channels` | patterns of the channels it may name; without it, every channel. `disconnect` and `info` concern every channel: with `channels` they are denied unless `commands` names them |

`FANFARE__API_KEYS__BACKEND=…` sets the key `backend` by the environment. Of a key that the file has too it replaces
the text alone: `commands` and `channels` of the file stay.
"#;

const FILE_HEAD: &str = "\
# The configuration of a Fanfare server. `fanfare check` tells what is wrong with it, `fanfare config` what is in force.
# Every line that begins with # and no space is a setting with its default: take the # away to change it.
#
# A flag (--listen) stands before the environment (FANFARE__LISTEN), that before this file. ${NAME} in a string is the
# variable NAME of the environment.
";

const FILE_KEYS: &str = r##"
# Keys with which an application uses the HTTP API, each with a name. `fanfare init` has made this one; another is made by
# openssl rand -hex 16. It may stand here in quotes, in a file of its own, or in the environment ("${BACKEND_API_KEY}"),
# and may be for some commands and channels only:
#
#     news = { key_file = "/run/secrets/news", commands = ["publish"], channels = ["news:**"] }
[api_keys]

"##;

const FILE_RULES: &str = "
# The rules: who may do what with which channels, and what is kept. The first rule whose `match` fits a channel's name
# governs it; a channel without a rule cannot be used. What an option does, and what may stand there:
#
";

const FILE_EXAMPLES: &str = r#"
# Everybody may listen, the application alone may speak, with its API key.
[[channels]]
match     = "news:**"
subscribe = "anyone"
publish   = "server"
history   = { size = 1000, ttl = "24h" }

# Everybody may chat, in any room. (Clients of the chat protocol need [chat] enabled = true as well.)
[[channels]]
match     = "chat:*"
subscribe = "anyone"
publish   = "subscriber"
signal    = "subscriber"
history   = { size = 100, ttl = "10m" }
presence  = true
rate      = "20/s"
"#;
