//! The parts of a signed token (RFC 7515 §3.1, RFC 7519 §7.2): its header, the signed text, its claims, its signature.
//!
//! In: the text of a token. Out: its parts, decoded, or why it is none. No key is used here. `jku`, `jwk`, `x5u` and
//! `x5c` are not read: a token must not say where its key comes from. A header with `crit` is refused, for this server
//! knows no extension that could be critical.

use super::error::{TokenError, shortened};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::borrow::Cow;

/// A token, decoded and unproven.
pub(super) struct Jws<'t> {
    pub(super) header: Header,
    /// What is signed.
    pub(super) message: &'t [u8],
    pub(super) claims: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// The header, as far as it is read.
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
}

#[derive(Deserialize)]
struct Written<'t> {
    #[serde(borrow)]
    alg: Option<Cow<'t, str>>,
    #[serde(borrow)]
    kid: Option<Cow<'t, str>>,
    #[serde(borrow)]
    typ: Option<Cow<'t, str>>,
    #[serde(borrow)]
    crit: Option<&'t serde_json::value::RawValue>,
}

impl<'t> Jws<'t> {
    pub(super) fn parse(token: &'t str, bytes_max: usize) -> Result<Self, TokenError> {
        let not = |problem| TokenError::NotJwt { problem };
        if token.len() > bytes_max {
            return Err(TokenError::TooLong { len: token.len(), max: bytes_max });
        }
        let (message, signature) = token.rsplit_once('.').ok_or(not("it is not three parts with dots between them"))?;
        let (header, claims) = message.split_once('.').ok_or(not("it is not three parts with dots between them"))?;
        if claims.contains('.') {
            return Err(not("it has more than three parts (an encrypted one has five)"));
        }
        let decode = |part: &str, problem| URL_SAFE_NO_PAD.decode(part).map_err(|_| not(problem));
        let header = decode(header, "its first part is not base64url")?;
        let Written { alg, kid, typ, crit } =
            serde_json::from_slice(&header).map_err(|_| not("its first part is not a header in JSON"))?;
        if crit.is_some() {
            return Err(TokenError::Header { name: "crit" });
        }
        let alg = alg.ok_or(not("its header has no `alg`"))?.into_owned();
        if alg.eq_ignore_ascii_case("none") {
            return Err(TokenError::Unsigned { found: alg });
        }
        // RFC 8725 §3.11: a token for another purpose is none for this one.
        if let Some(typ) = typ
            && !["jwt", "at+jwt", "application/jwt", "application/at+jwt"].iter().any(|it| typ.eq_ignore_ascii_case(it))
        {
            return Err(TokenError::Type { found: shortened(&typ) });
        }
        let kid = kid.map(Cow::into_owned);
        Ok(Jws {
            header: Header { alg, kid },
            message: message.as_bytes(),
            claims: decode(claims, "its second part is not base64url")?,
            signature: decode(signature, "its third part is not base64url")?,
        })
    }
}
