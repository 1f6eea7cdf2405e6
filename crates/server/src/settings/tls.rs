//! `[tls]`: two files that belong together, or the order of a certificate by ACME.
//!
//! Files are read here, relative to the folder of the configuration; an order is only prepared. A fault is reported
//! with the line of its setting.

use super::problem::Source;
use super::{Loading, Setting, TlsFiles};
use crate::config::tls::{Tls, TlsError};
use std::path::{Path, PathBuf};

const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
const DOMAINS: &str = "tls.acme_domains";
const CACHE: &str = "tls.acme_cache";
const AUTHORITY: &str = "tls.acme_authority";
const HSTS: &str = "tls.hsts";

impl Loading {
    /// Loads what `[tls]` names.
    pub(super) fn load_tls(&mut self) {
        if [CERTIFICATE, KEY, DOMAINS, CACHE, AUTHORITY].iter().any(|key| self.is_wrong(key)) {
            return;
        }
        let sources = self.settings.sources.clone();
        let beside_the_file = |key: &str, path: &mut Option<PathBuf>| {
            if let Some(Source::File { path: file, .. }) = sources.get(key) {
                let folder = Path::new(&**file).parent().unwrap_or(Path::new(""));
                *path = path.take().map(|path| folder.join(path));
            }
        };
        let tls = &mut self.settings.tls;
        beside_the_file(CERTIFICATE, &mut tls.certificate);
        beside_the_file(KEY, &mut tls.key);
        beside_the_file(CACHE, &mut tls.acme_cache);
        beside_the_file(AUTHORITY, &mut tls.acme_authority);
        let TlsFiles { certificate, key, .. } = &self.settings.tls;
        match (certificate, key, !self.settings.tls.acme_domains.is_empty()) {
            (None, None, false) if self.settings.config.hsts.is_zero() => {}
            (None, None, false) => {
                let hint = "let the proxy that speaks TLS send Strict-Transport-Security, or set [tls]";
                self.blame(HSTS, "this server does not speak TLS, so browsers would ignore it", hint);
            }
            (None, None, true) => self.order(),
            (_, _, true) => {
                let problem = "a certificate is both ordered and read from a file".to_owned();
                self.blame(DOMAINS, &problem, "leave out tls.certificate and tls.key, or tls.acme_domains");
            }
            (Some(certificate), Some(key), false) => match Tls::from_files(certificate, key) {
                Ok(tls) => self.settings.config.tls = Some(tls),
                Err(error) => {
                    let is_key = match &error {
                        TlsError::Unreadable { path, .. } => path == key,
                        error => matches!(error, TlsError::Key { .. }),
                    };
                    let hint = "the two files belong together: a chain in PEM, and the key of its first certificate";
                    self.blame(if is_key { KEY } else { CERTIFICATE }, &error.to_string(), hint);
                }
            },
            (certificate, _, false) => {
                let (there, missing) = if certificate.is_some() { (CERTIFICATE, KEY) } else { (KEY, CERTIFICATE) };
                self.blame(there, &format!("{there} is set, and {missing} is not"), "name both files, or neither");
            }
        }
    }

    #[cfg(feature = "acme")]
    fn order(&mut self) {
        let TlsFiles { acme_domains, acme_cache, acme_contact, acme_directory, acme_authority, .. } =
            self.settings.tls.clone();
        let Some(cache) = acme_cache else {
            let hint = "name a folder that stays, like acme_cache = \"/var/lib/fanfare/acme\"";
            return self.blame(DOMAINS, &format!("{CACHE} is not set"), hint);
        };
        let acme = crate::config::acme::Acme {
            contact: acme_contact,
            directory: acme_directory,
            authority: acme_authority,
            ..crate::config::acme::Acme::new(acme_domains, cache)
        };
        match Tls::acme(acme) {
            Ok(tls) => self.settings.config.tls = Some(tls),
            Err(error @ (TlsError::Unreadable { .. } | TlsError::Certificate { .. })) => {
                self.blame(AUTHORITY, &error.to_string(), "it is a PEM file of certificates");
            }
            Err(error) => self.blame(DOMAINS, &error.to_string(), "look at what the system lets this process use"),
        }
    }

    #[cfg(not(feature = "acme"))]
    fn order(&mut self) {
        let problem = "this program was built without ACME";
        self.blame(DOMAINS, problem, "build it with the feature `acme` of the crate fanfare, or name two files");
    }

    /// A problem of a setting as it was written.
    fn blame(&mut self, key: &'static str, problem: &str, hint: &str) {
        let at = self.settings.sources.get(key).cloned().unwrap_or(Source::Default);
        let setting = Setting::of(key);
        let shown = setting.map(|setting| self.settings.shown(setting));
        let allowed = setting.map_or_else(String::new, Setting::allowed);
        self.refuse(key, &at, shown, problem, &allowed, hint);
    }
}
