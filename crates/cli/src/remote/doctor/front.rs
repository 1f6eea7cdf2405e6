//! The first answer: from Fanfare or another program, in which version of HTTP, below which path, at which time. Then
//! origins and CORS, and the HTTP API.

use super::Doctor;
use super::http::{Ask, Fetched, Head, RESET, UNANSWERED};
use super::kinds::kind;
use super::refusal::Refusal;
use super::report::{Finding, Report, excerpt};
use fanfare_client::NATIVE_PATH;
use std::time::{SystemTime, UNIX_EPOCH};

const PAGE: &str = "page";

impl Doctor {
    /// The address of WebSockets, asked as a page: Fanfare says in words that it is for WebSockets. `false`: this is
    /// no Fanfare, or serves nobody here, and the report says why.
    pub(super) async fn front(&self, report: &mut Report) -> bool {
        let ask = Ask::get(self.way.path(NATIVE_PATH));
        let tried = ask.to_string();
        let answer = match self.way.fetch(&ask).await {
            Ok(answer) => answer,
            Err(error) => {
                let kind = match error.as_str() {
                    "no answer" => &kind::no_answer,
                    // Nobody said anything, so nothing is known about who is there.
                    UNANSWERED | RESET => &kind::ended_unanswered,
                    error if error.contains("TLS") && !self.way.is_tls() => &kind::speaks_tls,
                    _ => &kind::not_fanfare,
                };
                report.find(Finding::new(kind, "address", tried, error));
                return false;
            }
        };
        let head = &answer.head;
        report.http.push(head.version);
        report.proxies = proxies(head);
        report.clock_offset_ms = clock(&answer);
        if head.version == "1.0" {
            report.find(Finding::new(&kind::http_1_0, "address", tried.clone(), "an answer in HTTP/1.0"));
        }
        let refusal = self.judged(&answer);
        if head.status == 426 && refusal.is_fanfares() {
            return true;
        }
        if !self.way.is_tls() && String::from_utf8_lossy(&answer.body).contains("TLS") && head.status == 400 {
            report.find(Finding::new(&kind::speaks_tls, "address", tried, refusal.seen()));
            return false;
        }
        if head.status == 404
            && let Some(elsewhere) = self.elsewhere(refusal.is_fanfares()).await
        {
            report.find(Finding::new(&kind::wrong_path, "address", tried, format!("{}; {elsewhere}", refusal.seen())));
            return false;
        }
        let (_, finding) = refusal.judge("address", tried, &kind::not_fanfare);
        report.find(finding);
        false
    }

    fn judged<'a>(&self, answer: &'a Fetched) -> Refusal<'a> {
        let Fetched { head, body, is_named, .. } = answer;
        Refusal { head, body, is_named: *is_named, has_token: self.token.is_some() }
    }

    /// Another path at which a Fanfare is.
    async fn elsewhere(&self, is_own: bool) -> Option<String> {
        if !self.way.base.path().is_empty() {
            let answer = self.way.fetch(&Ask::get(NATIVE_PATH.to_owned())).await.ok()?;
            if answer.head.status == 426 && self.judged(&answer).is_fanfares() {
                return Some(format!("there is a Fanfare at {NATIVE_PATH}, without the path of the address"));
            }
        }
        // Fanfare answers this probe at the root too, wherever it is.
        let health = self.way.fetch(&Ask::get("/healthz".to_owned())).await.ok()?;
        let is_healthy = health.head.status == 200 && health.is_named;
        (is_own || is_healthy)
            .then(|| "Fanfare answered, which serves another path (its option `base_path`)".to_owned())
    }

    /// Origins and CORS, as a browser meets them.
    pub(super) async fn page(&self) -> Vec<Finding> {
        let own = format!("{}://{}", if self.way.is_tls() { "https" } else { "http" }, self.way.base.authority());
        let origin = self.origin.as_ref().unwrap_or(&own);
        let mut findings = Vec::new();
        // Some proxies add headers to good answers only. The other one is there where no streams are served.
        let asked = async |path| {
            let mut ask = Ask::get(self.way.path(path));
            ask.headers.push(("Origin", origin.clone()));
            let tried = format!("{ask} with `Origin: {origin}`");
            self.way.fetch(&ask).await.map(|answer| (tried, answer))
        };
        let good = asked("/v1/address").await.ok().filter(|(_, answer)| answer.head.status == 200);
        let (tried, answer) = match good {
            Some(good) => good,
            None => match asked(NATIVE_PATH).await {
                Ok(any) => any,
                Err(_) => return findings, // the transports tell it
            },
        };
        let allowed: Vec<&str> = answer.head.all("access-control-allow-origin").collect();
        match allowed[..] {
            [one] if one == origin || (one == "*" && self.origin.is_some()) => {}
            [] => {
                // A stream says whether it is the server that refuses.
                let mut ask = Ask::get(self.way.path("/v1/poll"));
                ask.method = "POST";
                ask.body = Some("{}".to_owned());
                ask.headers.push(("Origin", origin.clone()));
                let Ok(answer) = self.way.fetch(&ask).await else { return findings };
                let refusal = self.judged(&answer);
                let is_refused = answer.head.status == 403 && refusal.is_fanfares();
                let kind = match (is_refused, &self.origin) {
                    (true, Some(_)) => &kind::origin_refused,
                    (true, None) => &kind::host_rewritten,
                    (false, _) => &kind::cors_stripped,
                };
                let seen = if is_refused { refusal.seen() } else { "no `Access-Control-Allow-Origin`".to_owned() };
                findings.push(Finding::new(kind, PAGE, tried, seen));
                return findings;
            }
            _ => {
                let seen =
                    allowed.iter().map(|value| format!("`Access-Control-Allow-Origin: {}`", excerpt(value.as_bytes())));
                findings.push(Finding::new(&kind::cors_doubled, PAGE, tried, seen.collect::<Vec<_>>().join(", ")));
                return findings;
            }
        }
        let mut ask = Ask::get(self.way.path("/v1/poll"));
        ask.method = "OPTIONS";
        ask.headers = vec![
            ("Origin", origin.clone()),
            ("Access-Control-Request-Method", "POST".to_owned()),
            ("Access-Control-Request-Headers", "content-type".to_owned()),
        ];
        let tried = format!("{ask} with `Origin: {origin}`");
        if let Ok(answer) = self.way.fetch(&ask).await {
            let head = &answer.head;
            let allows = |name, wanted: &str| head.all(name).any(|value| value.to_ascii_lowercase().contains(wanted));
            let is_good = (200..300).contains(&head.status)
                && head.get("access-control-allow-origin").is_some()
                && allows("access-control-allow-methods", "post")
                && allows("access-control-allow-headers", "content-type");
            if !is_good {
                findings.push(Finding::new(&kind::preflight_blocked, PAGE, tried, self.judged(&answer).seen()));
            }
        }
        findings
    }

    /// The description of the HTTP API, which needs no key.
    pub(super) async fn api(&self) -> Vec<Finding> {
        let ask = Ask::get(self.way.path("/api/openapi.json"));
        let tried = ask.to_string();
        let seen = match self.way.fetch(&ask).await {
            Ok(answer) if answer.head.status == 200 && answer.body.starts_with(b"{") => return Vec::new(),
            Ok(answer) => self.judged(&answer).seen(),
            Err(error) => error,
        };
        vec![Finding::new(&kind::api_absent, "api", tried, seen)]
    }
}

/// Programs that name themselves. Fanfare does not.
fn proxies(head: &Head) -> Vec<String> {
    let mut named: Vec<String> = head.all("server").map(|name| excerpt(name.as_bytes())).collect();
    let via = head.all("via").flat_map(|line| line.split(','));
    named.extend(via.filter_map(|via| via.trim().split_once(' ')).map(|(_, by)| excerpt(by.as_bytes())));
    named.sort();
    named.dedup();
    named
}

/// By the whole seconds of `Date`, if nothing better comes.
fn clock(answer: &Fetched) -> Option<i64> {
    let theirs = httpdate::parse_http_date(answer.head.get("date")?).ok()?;
    let theirs = i64::try_from(theirs.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()? + 500;
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(theirs - i64::try_from((ours - answer.took / 2).as_millis()).ok()?)
}
