//! The kinds of values of settings: how each is read, its allowed range, and how it is printed.
//!
//! A value is printed as TOML, and reads back as the same value.

use super::Settings;
use super::units::{self, Wrong};
use super::written::{Raw, Written};
use crate::config::address::Address;
use crate::config::base_path::{BasePath, BasePathError};
use crate::config::cookie::{Cookie, CookieError};
use crate::config::hosts::{HostError, HostPattern, Hosts};
use crate::config::namespace::NamespacePattern;
use crate::config::origin::{Origin, OriginError, Origins};
use crate::config::proxies::{TrustedProxy, TrustedProxyError};
use crate::config::url::without_secrets;
use crate::config::{AdminOn, Parser};
use fanfare_hub::{Pattern, Rate};
use std::path::PathBuf;
use std::time::Duration;

/// The longest time of a rate.
const RATE_WINDOW_MS_MAX: u64 = 3_600_000;

/// Where a value lives.
pub(super) type At<T> = fn(&mut Settings) -> &mut T;

pub(super) enum ValueKind {
    Addresses(At<Vec<Address>>),
    /// The same, where none is allowed.
    AnyAddresses(At<Vec<Address>>),
    Count {
        min: u64,
        max: u64,
        at: Number,
    },
    Bytes {
        min: u64,
        max: u64,
        at: At<usize>,
    },
    Time {
        min: u64,
        max: u64,
        at: Millis,
    },
    /// So many in a time, or none.
    Rate {
        min: u64,
        max: u64,
        of_bytes: bool,
        at: At<Option<Rate>>,
    },
    Switch(At<bool>),
    Word {
        words: &'static [&'static str],
        at: At<String>,
    },
    /// A list of words.
    Words {
        words: &'static [&'static str],
        at: At<Vec<String>>,
    },
    Origins(At<Origins>),
    Hosts(At<Hosts>),
    Proxies(At<Vec<TrustedProxy>>),
    Namespaces(At<Vec<NamespacePattern>>),
    /// Patterns of channels.
    Patterns(At<Vec<Pattern>>),
    BasePath(At<BasePath>),
    Parser(At<Parser>),
    Cookie(At<Option<Cookie>>),
    Admin(At<AdminOn>),
    /// A text as it is.
    Text(At<String>),
    /// An address of HTTP. Its query and its user may be secrets, and are not shown.
    Url(At<String>),
    Texts(At<Vec<String>>),
    /// A file to read; what is in it is judged when everything is known.
    File(At<Option<PathBuf>>),
}

pub(super) enum Number {
    Usize(At<usize>),
    U32(At<u32>),
}

pub(super) enum Millis {
    U64(At<u64>),
    Duration(At<Duration>),
}

impl ValueKind {
    pub(super) fn placeholder(&self) -> &'static str {
        match self {
            ValueKind::Addresses(_) | ValueKind::AnyAddresses(_) => "ADDRESS",
            ValueKind::Count { .. } => "N",
            ValueKind::Bytes { .. } => "BYTES",
            ValueKind::Time { .. } => "TIME",
            ValueKind::Rate { .. } => "RATE",
            ValueKind::Switch(_) => "true|false",
            ValueKind::Word { .. } | ValueKind::Words { .. } | ValueKind::Parser(_) => "WORD",
            ValueKind::Origins(_) => "ORIGIN",
            ValueKind::Hosts(_) => "HOST",
            ValueKind::Proxies(_) => "PROXY",
            ValueKind::Namespaces(_) => "NAMESPACE",
            ValueKind::Patterns(_) => "PATTERN",
            ValueKind::BasePath(_) => "PATH",
            ValueKind::Cookie(_) => "COOKIE",
            ValueKind::Admin(_) => "ADDRESS",
            ValueKind::File(_) => "FILE",
            ValueKind::Url(_) => "URL",
            ValueKind::Text(_) | ValueKind::Texts(_) => "TEXT",
        }
    }

    pub(super) fn allowed(&self) -> String {
        match self {
            ValueKind::Addresses(_) => "ADDRESS:PORT (\"127.0.0.1:8080\", \"[::1]:8080\") or unix:PATH, or a list of them".to_owned(),
            ValueKind::AnyAddresses(_) => "a list of addresses (\"127.0.0.1:8080\"), or [] (none)".to_owned(),
            ValueKind::Proxies(_) => {
                "a list of addresses (\"10.0.0.7\"), networks (\"10.0.0.0/8\"), \"loopback\" and \"unix\", or [] (none)".to_owned()
            }
            ValueKind::Patterns(_) => "a list of patterns of channels (\"chat:*\"), or [] (none)".to_owned(),
            ValueKind::Namespaces(_) => "a list of names (\"/admin\") and patterns (\"/room-*\"), or [] (none)".to_owned(),
            ValueKind::BasePath(_) => "a path (\"/realtime\"), or \"/\" (none)".to_owned(),
            ValueKind::Cookie(_) => {
                "a cookie's name, with its attributes where they are not the usual ones (\"io\", \"io; Path=/; Secure\"), or \"\" (none)".to_owned()
            }
            ValueKind::Count { min, max, .. } => format!("a whole number from {min} to {max}"),
            ValueKind::Bytes { min, max, .. } => {
                format!("{} to {}, like \"64KiB\", \"1MB\" or 65536", units::show_bytes(*min), units::show_bytes(*max))
            }
            ValueKind::Time { min, max, .. } => {
                format!("{} to {}, like \"10s\", \"500ms\" or \"5m\"", units::show_millis(*min), units::show_millis(*max))
            }
            ValueKind::Rate { min, max, of_bytes, .. } => {
                let shown = |n: u64| if *of_bytes { units::show_bytes(n) } else { n.to_string() };
                let like = if *of_bytes { "\"1MB/s\" or \"10MiB/10s\"" } else { "\"20/s\" or \"100/10s\"" };
                format!("{} to {} in 1ms to {}, like {like}, or \"off\"", shown(*min), shown(*max), units::show_millis(RATE_WINDOW_MS_MAX))
            }
            ValueKind::Switch(_) => "true or false".to_owned(),
            ValueKind::Word { words, .. } => words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "),
            ValueKind::Words { words, .. } => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                format!("a list of {}, or [] (none)", words.join(", "))
            }
            ValueKind::Parser(_) => Parser::NAMED.map(|(name, _)| format!("{name:?}")).join(", "),
            ValueKind::Admin(_) => {
                "ADDRESS:PORT (\"127.0.0.1:8081\") or unix:PATH, \"main\" (the server's own addresses), \"off\"".to_owned()
            }
            ValueKind::File(_) => "a path".to_owned(),
            ValueKind::Text(_) => "a text".to_owned(),
            ValueKind::Url(_) => "an address (\"https://app.example/fanfare\"), or \"\" (none)".to_owned(),
            ValueKind::Texts(_) => "a list of texts".to_owned(),
            ValueKind::Origins(_) => {
                "a list of origins (\"https://app.example\", \"capacitor://localhost\", \"null\"), \"localhost\" (any port of this machine), \"*\" (any page)".to_owned()
            }
            ValueKind::Hosts(_) => {
                "a list of hosts (\"app.example\", \"*.app.example\"), \"*\" (any host), or [] (by listener)".to_owned()
            }
        }
    }

    /// True where the value is zero and the range begins above it.
    pub(super) fn is_zero_in_vain(&self, settings: &mut Settings) -> bool {
        match self {
            ValueKind::Count { min: 1.., at: Number::Usize(at), .. } | ValueKind::Bytes { min: 1.., at, .. } => {
                *at(settings) == 0
            }
            ValueKind::Count { min: 1.., at: Number::U32(at), .. } => *at(settings) == 0,
            ValueKind::Time { min: 1.., at: Millis::U64(at), .. } => *at(settings) == 0,
            ValueKind::Time { min: 1.., at: Millis::Duration(at), .. } => at(settings).is_zero(),
            _ => false,
        }
    }

    /// Reads a value and puts it in its place.
    pub(super) fn set(&self, written: &Written, settings: &mut Settings) -> Result<(), Wrong> {
        match self {
            ValueKind::AnyAddresses(at) => *at(settings) = addresses(written)?,
            ValueKind::Proxies(at) => {
                let parse = |text: String| {
                    text.parse::<TrustedProxy>().map_err(|TrustedProxyError { found, problem }| Wrong {
                        problem: format!("{found:?} is not a proxy"),
                        hint: problem,
                    })
                };
                *at(settings) = texts(written)?.into_iter().map(parse).collect::<Result<_, Wrong>>()?;
            }
            ValueKind::Patterns(at) => {
                let parse = |text: String| {
                    Pattern::new(&text).map_err(|error| Wrong {
                        problem: format!("{text:?} is not a pattern of channels: {error}"),
                        hint: "write it like `match` in a rule: \"chat:*\", or \"**\" for all channels".to_owned(),
                    })
                };
                *at(settings) = texts(written)?.into_iter().map(parse).collect::<Result<_, Wrong>>()?;
            }
            ValueKind::Namespaces(at) => {
                let parse = |text: String| {
                    text.parse::<NamespacePattern>().map_err(|error| Wrong {
                        problem: error.to_string(),
                        hint: "write it as clients do: \"/admin\"; `*` stands for any text: \"/room-*\"".to_owned(),
                    })
                };
                *at(settings) = texts(written)?.into_iter().map(parse).collect::<Result<_, Wrong>>()?;
            }
            ValueKind::BasePath(at) => match &written.raw {
                Raw::Text(text) => {
                    *at(settings) = text.parse().map_err(|BasePathError { found, problem }| Wrong {
                        problem: format!("{found:?} is not a path to serve below"),
                        hint: problem.to_owned(),
                    })?;
                }
                _ => return Err(kind_of(written, "write the path in quotes")),
            },
            ValueKind::Addresses(at) => {
                let addresses = addresses(written)?;
                if addresses.is_empty() {
                    let problem = "no client could connect".to_owned();
                    return Err(Wrong { problem, hint: "leave `listen` out for the default".to_owned() });
                }
                *at(settings) = addresses;
            }
            ValueKind::Count { min, max, at } => {
                let number = count(written)?;
                let number = within(number, *min, *max, |n| n.to_string())?;
                match at {
                    Number::Usize(at) => *at(settings) = number as usize,
                    Number::U32(at) => *at(settings) = number as u32, // `max` of the row is less
                }
            }
            ValueKind::Bytes { min, max, at } => {
                let bytes = match &written.raw {
                    Raw::Text(text) => i128::from(units::bytes(text)?),
                    Raw::Number(number) => *number,
                    _ => return Err(kind_of(written, "write it like \"64KiB\" or 65536")),
                };
                *at(settings) = within(bytes, *min, *max, units::show_bytes)? as usize;
            }
            ValueKind::Time { min, max, at } => {
                let ms = within(i128::from(time(written)?), *min, *max, units::show_millis)?;
                match at {
                    Millis::U64(at) => *at(settings) = ms,
                    Millis::Duration(at) => *at(settings) = Duration::from_millis(ms),
                }
            }
            ValueKind::Rate { min, max, of_bytes, at } => {
                let Raw::Text(text) = &written.raw else {
                    return Err(kind_of(written, "write the rate in quotes, like \"100/10s\""));
                };
                let rate = units::quota(text, *of_bytes)?;
                if let Some(rate) = rate {
                    let show = |n: u64| if *of_bytes { units::show_bytes(n) } else { n.to_string() };
                    within(i128::from(rate.count()), *min, *max, show)?;
                    within(i128::from(rate.window_ms()), 1, RATE_WINDOW_MS_MAX, units::show_millis)?;
                }
                *at(settings) = rate;
            }
            ValueKind::Switch(at) => *at(settings) = switch(written)?,
            ValueKind::Word { words, at } => *at(settings) = word(written, words.iter().copied())?.to_owned(),
            ValueKind::Words { words, at } => {
                let texts = texts(written)?;
                if let Some(odd) = texts.iter().find(|text| !words.contains(&text.as_str())) {
                    let problem = format!("{odd:?} is not one of the words");
                    return Err(Wrong { problem, hint: super::nearest::hint(odd, words.iter().copied()) });
                }
                *at(settings) = texts;
            }
            ValueKind::Parser(at) => {
                let name = word(written, Parser::NAMED.iter().map(|(name, _)| *name))?;
                if let Some((_, parser)) = Parser::NAMED.iter().find(|(known, _)| *known == name) {
                    *at(settings) = *parser;
                }
            }
            ValueKind::Origins(at) => *at(settings) = origins(&texts(written)?)?,
            ValueKind::Hosts(at) => *at(settings) = hosts(&texts(written)?)?,
            ValueKind::Admin(at) => match &written.raw {
                Raw::Text(text) if text == "off" => *at(settings) = AdminOn::Off,
                Raw::Text(text) if text == "main" => *at(settings) = AdminOn::MainPort,
                Raw::Text(text) => {
                    let address = text.parse::<Address>();
                    let wrong = |_| Wrong { problem: format!("{text:?} is not an address"), hint: address_hint(text) };
                    *at(settings) = AdminOn::Address(address.map_err(wrong)?);
                }
                _ => return Err(kind_of(written, "write one address, \"main\" or \"off\", in quotes")),
            },
            ValueKind::Cookie(at) => match &written.raw {
                Raw::Text(text) if text.is_empty() => *at(settings) = None,
                Raw::Text(text) => {
                    let wrong = |CookieError { found, problem }| Wrong {
                        problem: format!("{found:?} is no cookie"),
                        hint: problem.to_owned(),
                    };
                    *at(settings) = Some(text.parse().map_err(wrong)?);
                }
                _ => return Err(kind_of(written, "write the cookie in quotes")),
            },
            ValueKind::Text(at) | ValueKind::Url(at) => match &written.raw {
                Raw::Text(text) => *at(settings) = text.clone(),
                _ => return Err(kind_of(written, "write the text in quotes")),
            },
            ValueKind::Texts(at) => *at(settings) = texts(written)?,
            ValueKind::File(at) => match &written.raw {
                Raw::Text(path) if path.is_empty() => *at(settings) = None,
                Raw::Text(path) => *at(settings) = Some(path.into()),
                _ => return Err(kind_of(written, "write the path in quotes")),
            },
        }
        Ok(())
    }

    /// Whether two settings have the same value here, also where it is not shown whole.
    pub(super) fn is_same(&self, one: &mut Settings, other: &mut Settings) -> bool {
        match self {
            ValueKind::Url(at) => at(one) == at(other),
            kind => kind.show(one) == kind.show(other),
        }
    }

    /// The value as TOML.
    pub(super) fn show(&self, settings: &mut Settings) -> String {
        match self {
            ValueKind::Addresses(at) | ValueKind::AnyAddresses(at) => list(at(settings).iter().map(Address::to_string)),
            ValueKind::Proxies(at) => list(at(settings).iter().map(TrustedProxy::to_string)),
            ValueKind::Patterns(at) => list(at(settings).iter().map(|pattern| pattern.as_str().to_owned())),
            ValueKind::Namespaces(at) => list(at(settings).iter().map(NamespacePattern::to_string)),
            ValueKind::BasePath(at) => format!("{:?}", at(settings).to_string()),
            ValueKind::Count { at: Number::Usize(at), .. } => at(settings).to_string(),
            ValueKind::Count { at: Number::U32(at), .. } => at(settings).to_string(),
            ValueKind::Bytes { at, .. } => format!("{:?}", units::show_bytes(*at(settings) as u64)),
            ValueKind::Time { at: Millis::U64(at), .. } => format!("{:?}", units::show_millis(*at(settings))),
            ValueKind::Time { at: Millis::Duration(at), .. } => {
                let ms = u64::try_from(at(settings).as_millis()).unwrap_or(u64::MAX);
                format!("{:?}", units::show_millis(ms))
            }
            ValueKind::Rate { of_bytes, at, .. } => format!("{:?}", units::show_quota(*at(settings), *of_bytes)),
            ValueKind::Switch(at) => at(settings).to_string(),
            ValueKind::Word { at, .. } => format!("{:?}", at(settings)),
            ValueKind::Parser(at) => format!("{:?}", at(settings).name()),
            ValueKind::Admin(at) => match at(settings) {
                AdminOn::Off => "\"off\"".to_owned(),
                AdminOn::MainPort => "\"main\"".to_owned(),
                AdminOn::Address(address) => format!("{:?}", address.to_string()),
            },
            ValueKind::Text(at) => format!("{:?}", at(settings)),
            ValueKind::Texts(at) | ValueKind::Words { at, .. } => list(at(settings).iter().cloned()),
            ValueKind::Url(at) => format!("{:?}", without_secrets(at(settings))),
            ValueKind::Cookie(at) => {
                format!("{:?}", at(settings).as_ref().map_or_else(String::new, Cookie::to_string))
            }
            ValueKind::File(at) => {
                format!("{:?}", at(settings).as_ref().map_or_else(String::new, |path| path.display().to_string()))
            }
            ValueKind::Origins(at) => match at(settings) {
                Origins::SameHost => list([]),
                Origins::Localhost => list(["localhost".to_owned()]),
                Origins::List(origins) => list(origins.iter().map(Origin::to_string)),
                Origins::Any => list(["*".to_owned()]),
            },
            ValueKind::Hosts(at) => match at(settings) {
                Hosts::ByListener => list([]),
                Hosts::List(hosts) => list(hosts.iter().map(HostPattern::to_string)),
                Hosts::Any => list(["*".to_owned()]),
            },
        }
    }
}

fn list(texts: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", texts.into_iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", "))
}

/// One of the words.
fn word(written: &Written, words: impl Iterator<Item = &'static str> + Clone) -> Result<&str, Wrong> {
    match &written.raw {
        Raw::Text(text) if words.clone().any(|word| word == text) => Ok(text),
        Raw::Text(text) => {
            let problem = format!("{text:?} is not one of the words");
            Err(Wrong { problem, hint: super::nearest::hint(text, words) })
        }
        _ => Err(kind_of(written, "write one of the words, in quotes")),
    }
}

pub(super) fn kind_of(written: &Written, hint: &str) -> Wrong {
    Wrong { problem: format!("it is {}", written.kind()), hint: hint.to_owned() }
}

fn addresses(written: &Written) -> Result<Vec<Address>, Wrong> {
    if let Raw::Number(port) = &written.raw {
        return Err(kind_of(written, &address_hint(&port.to_string())));
    }
    let mut addresses: Vec<Address> = Vec::new();
    for text in texts(written)? {
        let address = text
            .parse::<Address>()
            .map_err(|_| Wrong { problem: format!("{text:?} is not an address"), hint: address_hint(&text) })?;
        if addresses.contains(&address) {
            let problem = format!("{text:?} is listed twice");
            return Err(Wrong { problem, hint: "name each address once".to_owned() });
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// One text, a list of them, or a loose text with commas.
pub(super) fn texts(written: &Written) -> Result<Vec<String>, Wrong> {
    const HINT: &str = "write texts in quotes: [\"a\", \"b\"]";
    match &written.raw {
        Raw::Text(text) if written.loose && is_list_of_file(text) => Err(Wrong {
            problem: "it is a list as the file has it".to_owned(),
            hint: "here a list is its texts with commas between: a,b (without brackets and quotes)".to_owned(),
        }),
        Raw::Text(text) if written.loose => {
            Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
        }
        Raw::Text(text) => Ok(vec![text.clone()]),
        Raw::List(list) => list
            .iter()
            .map(|one| match &one.raw {
                Raw::Text(text) => Ok(text.clone()),
                _ => Err(Wrong { problem: format!("the list holds {}", one.kind()), hint: HINT.to_owned() }),
            })
            .collect(),
        _ => Err(kind_of(written, HINT)),
    }
}

/// `["a", "b"]` as one text. An address such as `[::1]:8080` is no list.
fn is_list_of_file(text: &str) -> bool {
    let inner = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.map(str::trim).is_some_and(|inner| inner.is_empty() || inner.starts_with(['"', '\'']))
}

pub(super) fn count(written: &Written) -> Result<i128, Wrong> {
    match &written.raw {
        Raw::Number(number) => Ok(*number),
        Raw::Text(text) if written.loose => text.trim().parse().map_err(|_| Wrong {
            problem: "it is not a whole number".to_owned(),
            hint: "write digits only, like 100".to_owned(),
        }),
        Raw::Text(text) if text.trim().parse::<i128>().is_ok() => {
            Err(kind_of(written, &format!("write it without quotes: {}", text.trim())))
        }
        _ => Err(kind_of(written, "write a whole number without quotes, like 100")),
    }
}

pub(super) fn switch(written: &Written) -> Result<bool, Wrong> {
    match &written.raw {
        Raw::Switch(on) => Ok(*on),
        Raw::Text(text) if written.loose && text == "true" => Ok(true),
        Raw::Text(text) if written.loose && text == "false" => Ok(false),
        _ => Err(kind_of(written, "write true or false, without quotes")),
    }
}

pub(super) fn time(written: &Written) -> Result<u64, Wrong> {
    match &written.raw {
        Raw::Text(text) => units::millis(text),
        Raw::Number(0) => Ok(0),
        Raw::Number(number) => Err(Wrong {
            problem: "it has no unit".to_owned(),
            hint: format!("write \"{number}s\" for seconds or \"{number}ms\" for milliseconds"),
        }),
        _ => Err(kind_of(written, "write it like \"10s\" or \"500ms\"")),
    }
}

pub(super) fn within(found: i128, min: u64, max: u64, show: impl Fn(u64) -> String) -> Result<u64, Wrong> {
    match u64::try_from(found) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        Ok(value) if value > max => {
            Err(Wrong { problem: "it is too large".to_owned(), hint: format!("the maximum is {}", show(max)) })
        }
        _ if found > i128::from(max) => {
            Err(Wrong { problem: "it is too large".to_owned(), hint: format!("the maximum is {}", show(max)) })
        }
        _ => Err(Wrong { problem: "it is too small".to_owned(), hint: format!("the minimum is {}", show(min)) }),
    }
}

fn address_hint(text: &str) -> String {
    let host_port = text.rsplit_once(':');
    if text.starts_with("http://") || text.starts_with("https://") {
        return "write the address alone, without http://".to_owned();
    }
    if text.starts_with('/') {
        return format!("a socket file is written \"unix:{text}\"");
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("write \"127.0.0.1:{text}\" for this machine only, or \"0.0.0.0:{text}\" for everybody");
    }
    match host_port {
        Some(("localhost" | "", port)) => {
            format!("write \"127.0.0.1:{port}\" and \"[::1]:{port}\": names are not looked up")
        }
        Some(("*", port)) => format!("write \"0.0.0.0:{port}\" and \"[::]:{port}\""),
        Some((_, port)) if port.parse::<u32>().is_ok_and(|port| port > 65_535) => "a port is at most 65535".to_owned(),
        Some(_) => "write numbers, like \"127.0.0.1:8080\" or \"[::1]:8080\": names are not looked up".to_owned(),
        None => format!("it has no port: write \"{text}:8080\""),
    }
}

/// A word that stands for many is not one of a list.
fn alone(word: &str) -> Wrong {
    Wrong {
        problem: format!("{word:?} is in a list with others"),
        hint: format!("write \"{word}\" alone, or leave it out"),
    }
}

fn origins(texts: &[String]) -> Result<Origins, Wrong> {
    match texts {
        [] => return Ok(Origins::SameHost),
        [one] if one == "*" => return Ok(Origins::Any),
        [one] if one == "localhost" => return Ok(Origins::Localhost),
        _ => {}
    }
    let origin = |text: &String| {
        if text == "*" || text == "localhost" {
            return Err(alone(text));
        }
        let wrong = |error: OriginError| Wrong { problem: format!("{text:?} is not an origin"), hint: error.problem };
        text.parse::<Origin>().map_err(wrong)
    };
    texts.iter().map(origin).collect::<Result<_, _>>().map(Origins::List)
}

fn hosts(texts: &[String]) -> Result<Hosts, Wrong> {
    match texts {
        [] => return Ok(Hosts::ByListener),
        [one] if one == "*" => return Ok(Hosts::Any),
        _ => {}
    }
    let host = |text: &String| {
        if text == "*" {
            return Err(alone(text));
        }
        let wrong = |error: HostError| Wrong { problem: format!("{text:?} is not a host"), hint: error.problem };
        text.parse::<HostPattern>().map_err(wrong)
    };
    texts.iter().map(host).collect::<Result<_, _>>().map(Hosts::List)
}
