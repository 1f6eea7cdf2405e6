//! Prints the table of settings as the reference page, as the file that `fanfare init` writes, and as the settings part
//! of the manual.
//!
//! This file describes no setting: the text about a setting is in its row of the table.

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
    page.push_str(
        "\n## What comes later\n\nThe server knows these keys and refuses them, because they do not work yet:\n\n",
    );
    for (key, what) in LATER {
        let _ = writeln!(page, "- `{key}`: {what}");
    }
    page
}

/// A file with every setting, commented out with its default, with rules to begin with, and with a key for the
/// application: `backend` is the key's value, in TOML.
pub fn commented_file(backend: &str) -> String {
    let mut file = String::from(FILE_HEAD);
    for (section, about) in SECTIONS {
        if !section.is_empty() {
            let _ = write!(file, "\n{}[{section}]\n", comment(about));
        }
        for setting in SETTINGS.iter().filter(|setting| setting.section() == *section) {
            let _ = write!(file, "\n{}", comment(setting.doc));
            let _ = match setting.default {
                // A default that depends on the machine cannot be written as a value.
                Some(default) => writeln!(file, "# Default: {default}. Another would be: {} = 4", setting.name()),
                None => writeln!(file, "#{} = {}", setting.name(), setting.default_shown()),
            };
        }
        match *section {
            "auth" => file.push_str(FILE_TOKENS),
            "hooks" => file.push_str(FILE_HOOKS),
            _ => {}
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

/// The part of the manual page that describes the settings, in roff.
pub fn manual() -> String {
    let mut page = String::from(
        ".SH SETTINGS\nA flag overrides the environment variable, and the variable overrides the line of the file.\n",
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
    page.push_str(".SS channels\nThe rules, each a table [[channels]]. The first rule whose pattern matches a channel's name governs it.\n");
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
    /// The help text of its flag, with these defaults.
    pub fn help(&self, defaults: &Settings) -> String {
        let default = self.default.map_or_else(|| as_flag(&defaults.shown(self)), str::to_owned);
        format!("{} [default: {default}]", squeezed(self.doc).trim_end_matches('.'))
    }
}

/// The TOML value in the form that a flag takes.
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

`fanfare serve` reads one TOML file: `fanfare.toml` in the working directory, or the file that `--config` or
`FANFARE_CONFIG` names.

- `fanfare init` writes a file to begin with.
- `fanfare check` lists the mistakes in a file.
- `fanfare config` prints every value in force and its source.
- `fanfare why` prints the rule that decides an action, and the reason.

A value comes from the first of these sources that has it:

1. a **flag**: `--limits-message-bytes-max 128KiB`. The name is the key with dashes for dots and underscores.
2. the **environment**: `FANFARE__LIMITS__MESSAGE_BYTES_MAX=128KiB`. The name is `FANFARE__` and the key in capitals,
   with two underscores for each dot. Commas separate the items of a list. An empty variable counts as not set. A
   variable that is not UTF-8 is an error.
3. the **file**: `message_bytes_max = "128KiB"` below `[limits]`.
4. the **default**.

Only the file can hold rules, and API keys with restrictions. An unknown name is an error in all three sources; the
message suggests the nearest known name.

In a string of the file, `${NAME}` stands for the environment variable `NAME`; `$${` is a plain `${`. `serve` needs
every such variable to be set and not empty. If one is missing, `fanfare check` reports it beside the other mistakes,
`fanfare config` prints the other values, and `fanfare why` answers unless a rule needs the variable. So these commands
work without the secrets of production.

| kind | how it is written |
|---|---|
| bytes | `65536`, `"64KiB"` (of 1,024) or `"64kB"` (of 1,000) |
| time | `"500ms"`, `"10s"`, `"5m"`, `"24h"`, `"7d"` |
| rate | `"20/s"` or `"100/10s"`; of bytes `"1MB/s"`. In `[limits]` also `"off"` |

On SIGHUP the server reads the file again, and the files that it names (`key_file`). If they have no mistake, the new
**rules**, **API keys** and **keys of tokens** are in force at once, and so are `issuer`, `audience`, `leeway`,
`token_bytes_max` and `anonymous` of `[auth]`, and of `[limits]` those of users, of new connections and of overload,
all rates, and all of `[hooks]` but `ask`, where the server was started with hooks (and notices).
Subscriptions that the new rules refuse are ended, and a removed key is refused from the next request or token on;
sessions that a token began go on. Other clients do not notice. All other settings need a restart: the log names each
changed setting, the value that stays in force and its source. If there is a mistake, nothing changes, and the log names
the mistake. Environment variables keep the values that they had when the process started.
"#;

const PAGE_HOSTS: &str = r#"
### Hosts and origins

A browser sends the page's origin in `Origin` and the name that it asked for in `Host`. The server checks `Origin`
against `origins` for each WebSocket, stream, poll and send. It checks `Host` against `hosts` for every request: pages,
the API and probes too, on `listen` over HTTP/1 and HTTP/2 (`:authority`), and on `admin.listen`, which speaks HTTP/1
only. The status of a refusal is 403 for an origin and 421 for a host; its text names the option and the value that was
sent.

- **Origins** are equal if scheme, host and port are equal. A missing port is the scheme's default (80 for http and ws,
  443 for https and wss). Case and a dot at the end do not matter. Any scheme can be listed: `capacitor://localhost`,
  `tauri://localhost`, `chrome-extension://ID`. List `null` only if you must: every sandboxed frame of any page sends
  it.
- **The same host**: a page may always connect to the host and port that served it. `Host` has no scheme, and a proxy
  may have ended TLS. So if `Host` has no port, the default port of the page's scheme counts: `Host: app.example` is the
  same host for the pages `https://app.example` and `http://app.example`, but `Host: app.example:443` only for the
  first.
- **Answers** to a page of another origin have the headers of CORS if the page may connect, and preflights are answered.
  Cookies are for origins that the list names; not for `null`, which every sandboxed frame is, not for pages that only
  `"*"` lets in, and not for a page of the same host with the other scheme. The HTTP API has no such headers: its keys
  belong to the application, and no page may have one. The pages of an embedding program set their own.
- **Hosts** are compared without their port. Addresses and `localhost` are always served, because an attacker cannot
  point them elsewhere. The hosts of `origins` are always served too; an `origins` of `"*"` names no host. An HTTP/1.0
  request without `Host` is served: browsers do not send such requests.
- **Behind a proxy** ([how](proxies.md)) that passes the client's `Host` on to a loopback address, list the name:
  `hosts = ["app.example"]`, or `origins = ["https://app.example"]`. A Unix socket needs neither.
- `fanfare dev` has `hosts = ["localhost"]`: it serves no other name on any address. To use the name of the machine,
  list it.
- **Probes** by address, by `localhost` or without a `Host` (HTTP/1.0) are always served. A probe by another name is
  checked like any request.
- **In your own program** the settings are `Config::hosts` and `Config::origins`. `into_service()` has no listener:
  there the default serves any host, and a list is checked. `Api::router()` checks neither; the server around it may do
  so.
"#;

const PAGE_RULES: &str = r#"
## `[[channels]]`

A rule says who may use the channels that match a pattern, and how much history they keep. **The first rule whose
pattern matches a channel's name governs it**; later rules are ignored. A channel that no rule matches cannot be used.

```toml
[[channels]]
match     = "news:**"           # ** is the rest, * is one segment
subscribe = "anyone"
publish   = "server"            # only the application, by its API

[[channels]]
match     = "chat:*"
subscribe = "anyone"
publish   = "subscriber"
signal    = "subscriber"
history   = { size = 100, bytes = "1MB", ttl = "10m" }
presence  = true
rate      = "20/s"
```

| word | allowed callers |
|---|---|
| `anyone` | every client, with or without a user |
| `authenticated` | every client with a user: by its [token](auth.md), or by the embedding program's `on_connect` |
| `subscriber` | every client that this rule allows to subscribe |
| `grant` | every client whose [token](auth.md) grants this action on this channel |
| `hook` | the clients that a [hook](hooks.md) allows, or `on_subscribe` or `on_publish` of the embedding program; for `subscribe` and `publish` only |
| `server` | only the application, by its API. The application is always allowed; the word says that no client is |
| `{ claim = "role", in = ["admin"] }` | every client with this claim in its [token](auth.md#rules-that-ask-for-claims): one of the values, or a list with one of them |
| `nobody` | no client |

A list allows a caller that any of its conditions allows. `fanfare check` refuses a rule that no name reaches. It warns
of a loose rule above a stricter one that matches some of the same names, and of `server` if the application has no API
key.

A channel can belong to one user. `{user}` stands for the caller's user id; every other caller is denied, and so is a
caller without a user. `{claims.team}` stands for the caller's claim `team` in the same way.

```toml
[[channels]]
match     = "inbox:{user}"
subscribe = "authenticated"
publish   = "server"

[[channels]]
match         = "team:{claims.team}:*"
subscribe     = "authenticated"
publish       = { claim = "role", in = ["editor", "admin"] }
history_read  = "authenticated"
presence_read = { claim = "role", in = ["admin"] }
presence      = true
```

Reading is part of a subscription unless `history_read` or `presence_read` says otherwise. A subscription that asks for
`recent` or `presence` without the right to read them is refused. One with `since` begins at the newest publication,
with `recovered: false`: recovery reads the history too.

`read` says how far back the allowed clients read:

| `read` | `history`, and `recent` of a subscription | `since` of a subscription, after a cut |
|---|---|---|
| `all` | all that the history holds | what was missed, as far as the history reaches |
| `since_join` | what was published since this client subscribed | the same, in the same session: within `session.grace`, with the ticket. A new session has joined anew, and gets `recovered: false` |
| `none` | refused, with `denied` and the option `read` | `recovered: false`, also in the same session |

With `since_join` a client that was cut and names the channel in its next `connect` is still subscribed. `unsubscribe`,
a denial and the end of the session end that. A client of `/events`, and one of the chat protocol, begins a session with
each connection. A client that only reads too slowly gets what it was subscribed for, under every word. After a reload
that brings `since_join`, a subscription counts from the place that it has reached. The application reads everything,
and can show it to a client: by `subscribe` with `recent`.

Users are known by their [tokens](auth.md), or by the handlers of a program that
[embeds Fanfare](../README.md#within-your-rust-program). Without keys in `[auth.keys]`, and without such a program, such
a rule allows no client, and `check` and `serve` warn of it.
"#;

const PAGE_KEYS: &str = r#"
## The secret of `[hooks]`

Requests to your application are signed, so that it can tell them from forged ones: see [hooks.md](hooks.md).

| option | meaning |
|---|---|
| `secret` | `whsec_` and 24 to 64 bytes in base64, or a list of such texts: each signs every request. `echo "whsec_$(openssl rand -base64 32)"` makes one |
| `secret_file` | a file with a secret in each line; a relative path begins at the configuration's own folder |

`FANFARE__HOOKS__SECRET=…` sets it by the environment. A secret is never printed.

## `[auth.keys]`

The keys that tokens are signed with; [auth.md](auth.md) has the claims and the places for a token. A token is taken if
it is signed with one of the keys, so you can replace a key while both work.

```toml
[auth.keys]
main = { secret_file = "/run/secrets/jwt" }
old  = { algorithm = "ES256", kid = "2025-11", public_key_file = "old.pem" }
```

| option | meaning |
|---|---|
| `secret`, `secret_file` | a secret that issuer and server share, of 32 bytes or more; a relative path begins at the configuration's own folder |
| `public_key`, `public_key_file` | a public key in PEM: RSA of 2,048 bits or more, P-256, P-384 or Ed25519 |
| `algorithm` | the one algorithm of its tokens. Default: HS256 for a secret, RS256 for RSA, ES256, ES384 or EdDSA by the curve. Also HS384, HS512, RS384, RS512, PS256, PS384, PS512 |
| `kid` | the `kid` of its tokens. A key without one is for tokens whose `kid` no other key has |

`main = "text"` is short for a secret or a public key. `FANFARE__AUTH__KEYS__MAIN=…` sets the key `main` by the
environment, in place of that of the file; in a PEM text `\n` may stand for a line break.

## `[api_keys]`

An application sends its key to the HTTP API as `Authorization: Bearer KEY`. Each key has a name, which appears in logs
and errors. The key itself is never printed.

```toml
[api_keys]
backend = "${BACKEND_API_KEY}"
metrics = { key_file = "/run/secrets/metrics", commands = ["info", "channels"] }
news    = { key_file = "/run/secrets/news", commands = ["publish"], channels = ["news:**"] }
```

| option | meaning |
|---|---|
| `key` | the key: at least 16 visible ASCII characters. All keys of a list are the same caller, so you can replace a key while both work |
| `key_file` | a file that holds the key; a relative path begins at the configuration's own folder |
| `commands` | the allowed commands; by default all. Any of COMMANDS |
| `channels` | patterns of the allowed channels; by default all. `disconnect`, `reconnect`, `unban`, `bans`, `connections`, `users`, `user_status` and `info` concern every channel: with `channels` they are denied unless `commands` names them |

`FANFARE__API_KEYS__BACKEND=…` sets the key `backend` by the environment. If the file has that key too, the variable
replaces only the key's text: `commands` and `channels` of the file stay.
"#;

const FILE_HEAD: &str = "\
# The configuration of a Fanfare server. `fanfare check` lists its mistakes, `fanfare config` prints the values in force.
# A line that begins with # and no space is a setting with its default: remove the # to change it.
#
# A flag (--listen) overrides the environment (FANFARE__LISTEN), and the environment overrides this file. ${NAME} in a
# string stands for the environment variable NAME.
";

const FILE_TOKENS: &str = r##"
# The keys that tokens are signed with, each with a name: a secret of 32 bytes or more, or a public key in PEM.
#
#     [auth.keys]
#     main = { secret_file = "/run/secrets/jwt" }
"##;

const FILE_HOOKS: &str = r##"
# The secret that requests are signed with: `echo "whsec_$(openssl rand -base64 32)"` makes one.
#
#     secret_file = "/run/secrets/hooks"
"##;

const FILE_KEYS: &str = r##"
# The keys with which an application uses the HTTP API. Each has a name. `fanfare init` made this one;
# `openssl rand -hex 16` makes another. A key may be here in quotes, in a file of its own, or in the environment
# ("${BACKEND_API_KEY}"). It may be limited to some commands and channels:
#
#     news = { key_file = "/run/secrets/news", commands = ["publish"], channels = ["news:**"] }
[api_keys]

"##;

const FILE_RULES: &str = "
# A rule says who may use the channels that match a pattern, and how much history they keep. The first rule whose
# `match` fits a channel's name governs it. A channel without a rule cannot be used. The options and their values:
#
";

const FILE_EXAMPLES: &str = r#"
# Everybody may subscribe; only the application may publish, with its API key.
[[channels]]
match     = "news:**"
subscribe = "anyone"
publish   = "server"
history   = { size = 1000, ttl = "24h" }

# Everybody may chat, in any room. (Clients of the chat protocol also need [chat] enabled = true.)
[[channels]]
match     = "chat:*"
subscribe = "anyone"
publish   = "subscriber"
signal    = "subscriber"
history   = { size = 100, ttl = "10m" }
presence  = true
rate      = "20/s"
"#;
