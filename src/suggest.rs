//! "Did you mean": suggests the known word closest to an unknown one. A suggestion is only printed, never
//! acted on.

/// Maximum number of letters that are wrong, missing, superfluous or transposed.
const MAX_DISTANCE: usize = 2;

/// The known word closest to `word`, ignoring case; None if no word is close, or if `word` is so short that
/// any word would be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let distance = |known: &str| strsim::osa_distance(&word, &known.to_ascii_lowercase());
    let near = known.into_iter().map(|known| (distance(known), known));
    let most = MAX_DISTANCE.min(word.chars().count() / 2);
    let near = near.filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// `: did you mean KNOWN?`, or an empty string if no known word is close.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|known| format!(": did you mean {known}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_named_and_what_is_not_is_not() {
        let known = ["create", "start", "state", "stats", "rm"];
        assert_eq!(nearest("creat", known), Some("create"));
        assert_eq!(nearest("Crate", known), Some("create"));
        assert_eq!(nearest("satrt", known), Some("start"));
        assert_eq!(nearest("delete", known), None);
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(hint("statee", known), ": did you mean state?");
        assert_eq!(hint("frobnicate", known), "");
    }
}
