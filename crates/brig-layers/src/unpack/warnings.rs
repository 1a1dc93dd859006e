//! Warnings about an image. There may be thousands of one kind: each kind is reported once, with the number
//! and the first of them.

/// The warnings, by kind.
#[derive(Debug, Default)]
pub struct Warnings {
    kinds: Vec<(String, u64, String)>,
}

impl Warnings {
    /// Adds a warning of this kind.
    pub fn add(&mut self, kind: &str, what: &str) {
        match self.kinds.iter_mut().find(|(known, ..)| known == kind) {
            Some((_, count, _)) => *count += 1,
            None => self.kinds.push((kind.to_owned(), 1, what.to_owned())),
        }
    }

    /// One line for each kind.
    pub fn lines(&self) -> Vec<String> {
        let line = |(kind, count, first): &(String, u64, String)| match count {
            1 => format!("{kind}: {first}"),
            count => format!("{kind}: {count}, the first is {first}"),
        };
        self.kinds.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once() {
        let mut warnings = Warnings::default();
        for name in ["a", "b", "c"] {
            warnings.add("devices left out", name);
        }
        warnings.add("others", "d");
        assert_eq!(warnings.lines(), ["devices left out: 3, the first is a", "others: d"]);
    }
}
