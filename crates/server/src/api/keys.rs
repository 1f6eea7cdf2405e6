//! The API keys of a server, and the search for the key that a caller shows.
//!
//! A salted digest of each key is kept with its rights. The caller's key is digested the same way and compared with
//! every stored digest to the end. So the time depends only on the number of keys: it does not show how many characters
//! were right, or which key was nearest. No part of a key is looked up by value, so an unknown key and a wrong one are
//! treated alike.

use crate::config::api_key::ApiKey;
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

/// All keys of a server.
pub(super) struct Keys {
    salt: [u8; 32],
    digests: Box<[[u8; 32]]>,
    keys: Box<[ApiKey]>,
}

impl Keys {
    /// `salt` is random, so a caller cannot compute a digest. Even a comparison that ends early would reveal no part of
    /// a key.
    pub(super) fn new(keys: &[ApiKey], salt: [u8; 32]) -> Self {
        let digests = keys.iter().map(|key| digest(&salt, key.secret().as_bytes())).collect();
        Keys { salt, digests, keys: keys.into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key with this secret.
    pub(super) fn find(&self, secret: &[u8]) -> Option<&ApiKey> {
        let shown = digest(&self.salt, secret);
        // One above the place of the key; 0 for none. No branch depends on a digest before the end.
        let mut found = 0_u32;
        for (place, digest) in (1_u32..).zip(&*self.digests) {
            found.conditional_assign(&place, digest.ct_eq(&shown));
        }
        self.keys.get((found as usize).wrapping_sub(1))
    }

    /// Two keys with one secret, by name: the first of them would never be found.
    pub(super) fn same(&self) -> Option<(&ApiKey, &ApiKey)> {
        self.keys.iter().enumerate().find_map(|(place, key)| {
            let earlier = self.keys[..place].iter().find(|earlier| earlier.secret() == key.secret())?;
            Some((earlier, key))
        })
    }
}

fn digest(salt: &[u8; 32], secret: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(salt).chain_update(secret).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_whole_secret_only() {
        let keys = [ApiKey::new("a", "the-secret-of-a1").unwrap(), ApiKey::new("b", "the-secret-of-b1").unwrap()];
        let keys = Keys::new(&keys, [7; 32]);
        assert_eq!(keys.find(b"the-secret-of-a1").map(|key| &**key.name()), Some("a"));
        assert_eq!(keys.find(b"the-secret-of-b1").map(|key| &**key.name()), Some("b"));
        for wrong in
            ["", "the-secret-of-a", "the-secret-of-a1 ", "The-secret-of-a1", "the-secret-of-c1", "the-secret-of-a11"]
        {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
        assert!(Keys::new(&[], [7; 32]).find(b"").is_none());
    }
}
