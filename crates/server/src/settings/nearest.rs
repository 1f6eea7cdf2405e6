//! The known word that an unknown one was probably meant to be.

/// The nearest of `known`, if it is near enough to be a slip of the fingers.
pub(crate) fn nearest<'k>(found: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let found = found.to_lowercase();
    let allowed = (found.chars().count() / 3).clamp(1, 4);
    let distances = known.into_iter().map(|word| (strsim::damerau_levenshtein(&found, &word.to_lowercase()), word));
    distances.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// `did you mean "x"?`, or the list of known words.
pub(super) fn hint<'k>(found: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    match nearest(found, known.clone()) {
        Some(word) => format!("did you mean {word:?}?"),
        None => format!("known names are: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["listen", "shards", "origins", "message_bytes_max"];
        let rows = [
            ("lisen", Some("listen")),
            ("shard", Some("shards")),
            ("Origin", Some("origins")),
            ("message_byte_max", Some("message_bytes_max")),
            ("mesage_bytes", None),
            ("port", None),
            ("x", None),
        ];
        for (found, expected) in rows {
            assert_eq!(nearest(found, known), expected, "{found}");
        }
    }
}
