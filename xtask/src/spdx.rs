//! Licence expressions: may we use something under `MIT OR (Apache-2.0 AND Unicode-3.0)`?
//!
//! In: the `license` field of a package and the allow list. Out: yes, no, or an error that shows what cannot be read.
//! SPDX 2.3 annex D, as far as crates use it, and the old `MIT/Apache-2.0`, where the stroke means OR. `AND` binds
//! tighter than `OR`. `X WITH Y` is one licence: it is allowed if the list holds just that.

use anyhow::{Result, bail, ensure};

pub(crate) fn allows(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let verdict = parser.any_of()?;
    ensure!(parser.words.is_empty(), "`{expression}`: nothing expected at `{}`", parser.words.join(" "));
    Ok(verdict)
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Parser<'_> {
    fn any_of(&mut self) -> Result<bool> {
        let mut verdict = self.all_of()?;
        while self.take("OR") {
            verdict |= self.all_of()?;
        }
        Ok(verdict)
    }

    fn all_of(&mut self) -> Result<bool> {
        let mut verdict = self.licence()?;
        while self.take("AND") {
            verdict &= self.licence()?;
        }
        Ok(verdict)
    }

    fn licence(&mut self) -> Result<bool> {
        if self.take("(") {
            let verdict = self.any_of()?;
            ensure!(self.take(")"), "a parenthesis is not closed");
            return Ok(verdict);
        }
        let mut name = self.name()?;
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.name()?);
        }
        Ok(self.allowed.contains(&name))
    }

    fn name(&mut self) -> Result<String> {
        match self.words.split_first() {
            Some((word, rest)) if !["OR", "AND", "WITH", "(", ")"].contains(word) => {
                self.words = rest;
                Ok((*word).to_owned())
            }
            Some((word, _)) => bail!("a licence is expected where `{word}` stands"),
            None => bail!("a licence is expected at the end"),
        }
    }

    fn take(&mut self, expected: &str) -> bool {
        match self.words.split_first() {
            Some((word, rest)) if *word == expected => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let allowed: Vec<String> = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned).to_vec();
        let rows = [
            ("one that is allowed", "MIT", true),
            ("one that is not", "GPL-3.0", false),
            ("either", "GPL-3.0 OR MIT", true),
            ("both", "MIT AND GPL-3.0", false),
            ("stroke", "Unlicense/MIT", true),
            ("stroke with spaces", "Apache-2.0 / MIT", true),
            ("parentheses", "(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("AND binds tighter", "MIT OR Apache-2.0 AND GPL-3.0", true),
            ("AND binds tighter, the other way", "GPL-3.0 AND MIT OR GPL-3.0", false),
            ("an exception is a licence of its own", "Apache-2.0 WITH LLVM-exception", false),
            ("an exception beside others", "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
        ];
        for (name, expression, expected) in rows {
            assert_eq!(allows(expression, &allowed).unwrap(), expected, "{name}: {expression}");
        }
    }

    #[test]
    fn an_unreadable_expression_is_an_error_and_never_a_yes() {
        for expression in ["", "OR", "MIT OR", "(MIT", "MIT)", "MIT MIT", "MIT WITH"] {
            assert!(allows(expression, &["MIT".to_owned()]).is_err(), "{expression}");
        }
    }
}
