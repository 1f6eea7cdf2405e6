//! Replaces the rules and API keys of a running server by those of a configuration that was read again. The rules and
//! keys of the code stay below them.
//!
//! In: rules, keys. Out: each shard checks its live subscriptions by the new rules, and the log has the result once.
//! Keys are exchanged as a whole, between two requests. A request is checked by the keys at the moment when its head is
//! read, and then continues to its end. Connections and subscriptions do not depend on a key.

use crate::api::{CurrentApi, Endpoint};
use crate::config::Config;
use crate::config::api_key::ApiKey;
use crate::config::hooks::HooksConfig;
use crate::control::{Control, Judging};
use crate::embed::Handlers;
use crate::embed::handle::Handle;
use crate::error::ServeError;
use crate::hooks::HttpHooks;
use crate::random::fill_random;
use crate::server::start::hooks_of;
use crate::watch::SHARD_PATIENCE;
use fanfare_hub::{Quotas, Rule, Rules};
use std::sync::Arc;
use std::time::Duration;

/// The parts of a running server that a reload needs.
pub(crate) struct Reloader {
    pub(crate) handle: Handle,
    pub(crate) config: Arc<Config>,
    pub(crate) api: CurrentApi,
    pub(crate) code: Code,
    pub(crate) hooks: Option<Arc<HttpHooks>>,
    pub(crate) handlers: Arc<Handlers>,
}

/// The rules and keys of the embedding program: they stay after every reload.
#[derive(Clone, Default)]
pub(crate) struct Code {
    pub(crate) rules: Arc<[Rule]>,
    pub(crate) keys: Arc<[ApiKey]>,
}

impl Code {
    /// The configuration's rules, and those of the code below them whose pattern it does not have.
    pub(crate) fn with_rules(&self, rules: &Rules) -> Rules {
        let others = self.rules.iter().filter(|rule| rules.iter().all(|other| other.pattern != rule.pattern));
        Rules::new(rules.iter().chain(others).cloned().collect())
    }

    /// The endpoint of the API with these keys and those of the code.
    pub(crate) fn endpoint(
        &self,
        keys: &[ApiKey],
        config: &Config,
        handle: &Handle,
    ) -> Result<Arc<Endpoint>, ServeError> {
        let keys: Vec<ApiKey> = keys.iter().chain(&*self.keys).cloned().collect();
        let mut salt = [0; 32];
        fill_random(&mut salt)?;
        // The hub itself logs a store that was too slow.
        let patience = Duration::from_millis(config.limits.store_timeout_ms).saturating_add(SHARD_PATIENCE);
        let limits = (&config.limits).into();
        let endpoint = Endpoint::new(handle.clone(), &keys, limits, config.head_timeout, patience, salt);
        match endpoint.same_keys() {
            Some((first, second)) => Err(ServeError::SameApiKey { first: first.to_owned(), second: second.to_owned() }),
            None => Ok(Arc::new(endpoint)),
        }
    }
}

impl Reloader {
    pub(crate) fn rules(&self, rules: &Rules) {
        let controls = self.handle.controls();
        let judging = Arc::new(Judging::new(self.code.with_rules(rules), controls.len()));
        for control in controls {
            let _ = control.send(Control::Reload(judging.clone())); // a shard that has failed is found by `join`
        }
    }

    pub(crate) fn quotas(&self, quotas: Quotas) {
        for control in self.handle.controls() {
            let _ = control.send(Control::Quotas(quotas)); // as above
        }
    }

    /// `has_keys`: tokens are checked by the configuration.
    pub(crate) fn hooks(&self, http: &HttpHooks, has_keys: bool, config: &HooksConfig) {
        http.reload(config);
        let hooks = Arc::new(hooks_of(&self.handlers, has_keys, Some(http), config));
        for control in self.handle.controls() {
            let _ = control.send(Control::Hooks(hooks.clone())); // as above
        }
    }

    pub(crate) fn api_keys(&self, keys: &[ApiKey]) -> Result<(), ServeError> {
        let endpoint = self.code.endpoint(keys, &self.config, &self.handle)?;
        self.api.replace(endpoint);
        Ok(())
    }
}
