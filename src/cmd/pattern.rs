//! Extended regular expressions (POSIX, XBD 9.4) over container ids, for `--regex`: a match anywhere in the
//! id counts. Implemented here because the C library's takes 74 KB of binary, and ids are short and ASCII.
//!
//! The state of the matcher is the set of positions in the id where the match so far can end, so nothing is
//! ever tried twice.

use anyhow::{Context, Result, bail, ensure};

/// A compiled expression.
pub struct Pattern(Node);

enum Node {
    /// One of these characters, as a bit set.
    Char(u128),
    Begin,
    End,
    All(Vec<Node>),
    Any(Vec<Node>),
    Repeat(Box<Node>, usize, usize),
}

/// The maximum nesting depth of groups.
const MAX_GROUPS: usize = 32;
/// POSIX's RE_DUP_MAX; no id is longer.
const MAX_REPEATS: usize = 255;

impl Pattern {
    /// Parses an expression.
    pub fn parse(text: &str) -> Result<Pattern> {
        ensure!(text.is_ascii(), "contains a character that cannot occur in an id");
        let mut parser = Parser { rest: text.as_bytes(), depth: 0 };
        let node = parser.alternatives()?;
        ensure!(parser.rest.is_empty(), "unmatched )");
        Ok(Pattern(node))
    }

    /// Whether it matches anywhere in this id.
    pub fn matches(&self, id: &str) -> bool {
        let from = vec![true; id.len() + 1];
        self.0.ends(id.as_bytes(), &from).contains(&true)
    }
}

impl Node {
    /// The positions where a match can end that begins at one of the positions `from`.
    fn ends(&self, id: &[u8], from: &[bool]) -> Vec<bool> {
        let only = |place: usize| (0..from.len()).map(|at| from[at] && at == place).collect();
        match self {
            Node::Begin => only(0),
            Node::End => only(id.len()),
            Node::Char(set) => {
                let fits = |at: usize| from[at] && set >> (id[at] & 127) & 1 == 1;
                std::iter::once(false).chain((0..id.len()).map(fits)).collect()
            }
            Node::All(nodes) => {
                nodes.iter().fold(from.to_vec(), |places, node| node.ends(id, &places))
            }
            Node::Any(nodes) => {
                let mut ends = vec![false; from.len()];
                for node in nodes {
                    join(&mut ends, &node.ends(id, from));
                }
                ends
            }
            Node::Repeat(node, least, most) => {
                let mut places = from.to_vec();
                for _ in 0..*least {
                    places = node.ends(id, &places);
                }
                let mut ends = places.clone();
                for _ in *least..*most {
                    places = node.ends(id, &places);
                    if !join(&mut ends, &places) {
                        break;
                    }
                }
                ends
            }
        }
    }
}

/// Adds positions; returns whether any was new.
fn join(to: &mut [bool], places: &[bool]) -> bool {
    let mut new = false;
    for (to, place) in to.iter_mut().zip(places) {
        new |= *place && !*to;
        *to |= *place;
    }
    new
}

struct Parser<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.rest.first() == Some(&byte);
        if is_next {
            self.next();
        }
        is_next
    }

    fn alternatives(&mut self) -> Result<Node> {
        let mut any = vec![self.sequence()?];
        while self.take(b'|') {
            any.push(self.sequence()?);
        }
        Ok(Node::Any(any))
    }

    fn sequence(&mut self) -> Result<Node> {
        let mut all = Vec::new();
        while self.rest.first().is_some_and(|byte| !b"|)".contains(byte)) {
            let mut node = self.atom()?;
            while let Some((least, most)) = self.times()? {
                node = Node::Repeat(Box::new(node), least, most);
            }
            all.push(node);
        }
        Ok(Node::All(all))
    }

    fn atom(&mut self) -> Result<Node> {
        Ok(match self.next().context("unexpected end of the expression")? {
            b'.' => Node::Char(u128::MAX),
            b'^' => Node::Begin,
            b'$' => Node::End,
            b'[' => Node::Char(self.bracket()?),
            b'(' => {
                self.depth += 1;
                ensure!(self.depth <= MAX_GROUPS, "groups are nested too deeply");
                let group = self.alternatives()?;
                ensure!(self.take(b')'), "unmatched (");
                self.depth -= 1;
                group
            }
            b'\\' => Node::Char(bit(self.next().context("trailing backslash")?)),
            byte @ (b'*' | b'+' | b'?' | b'{') => {
                bail!("nothing to repeat before {}", char::from(byte))
            }
            byte => Node::Char(bit(byte)),
        })
    }

    /// Parses a repetition: `*`, `+`, `?`, `{2}`, `{2,}` or `{2,5}`.
    fn times(&mut self) -> Result<Option<(usize, usize)>> {
        let found = match self.rest.first() {
            Some(b'*') => (0, MAX_REPEATS),
            Some(b'+') => (1, MAX_REPEATS),
            Some(b'?') => (0, 1),
            Some(b'{') => {
                self.next();
                let least = self.number()?;
                let most = match self.take(b',') {
                    true if self.rest.first() == Some(&b'}') => MAX_REPEATS,
                    true => self.number()?,
                    false => least,
                };
                ensure!(self.rest.first() == Some(&b'}'), "unmatched {{");
                ensure!(least <= most, "invalid repetition: {least} is more than {most}");
                (least, most)
            }
            _ => return Ok(None),
        };
        self.next();
        Ok(Some(found))
    }

    fn number(&mut self) -> Result<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let number = std::str::from_utf8(number)?.parse().ok();
        number
            .filter(|number| *number <= MAX_REPEATS)
            .context("expected a number up to 255 after {")
    }

    /// Parses what follows a `[`: characters, ranges, `[:alpha:]`; a `]` at the beginning is one of the
    /// characters.
    fn bracket(&mut self) -> Result<u128> {
        let negated = self.take(b'^');
        let (mut set, mut first) = (0, true);
        loop {
            let byte = self.next().context("unmatched [")?;
            match byte {
                b']' if !first => break,
                b'[' if self.take(b':') => set |= self.class()?,
                from => {
                    let is_range = self.rest.first() == Some(&b'-')
                        && self.rest.get(1).is_some_and(|byte| *byte != b']');
                    let to = if is_range { self.rest[1] } else { from };
                    if is_range {
                        self.rest = &self.rest[2..];
                    }
                    ensure!(
                        from <= to,
                        "{}-{} is not a valid range",
                        char::from(from),
                        char::from(to)
                    );
                    set |= (from..=to).fold(0, |set, byte| set | bit(byte));
                }
            }
            first = false;
        }
        Ok(if negated { !set } else { set })
    }

    fn class(&mut self) -> Result<u128> {
        let end = self.rest.windows(2).position(|two| two == b":]").context("unmatched [:")?;
        let (name, rest) = (&self.rest[..end], &self.rest[end + 2..]);
        let is: fn(&u8) -> bool = match name {
            b"alnum" => u8::is_ascii_alphanumeric,
            b"alpha" => u8::is_ascii_alphabetic,
            b"digit" => u8::is_ascii_digit,
            b"lower" => u8::is_ascii_lowercase,
            b"punct" => u8::is_ascii_punctuation,
            b"upper" => u8::is_ascii_uppercase,
            b"xdigit" => u8::is_ascii_hexdigit,
            _ => bail!(
                "unknown character class, or one without characters of an id: {:?}",
                String::from_utf8_lossy(name)
            ),
        };
        self.rest = rest;
        Ok((0..128).filter(is).fold(0, |set, byte| set | bit(byte)))
    }
}

fn bit(byte: u8) -> u128 {
    1 << (byte & 127)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_posix_extended_ones_and_match_anywhere() {
        for (pattern, good, bad) in [
            ("", "a b", ""),
            ("web", "web xweb webx", "we eb"),
            ("^web$", "web", "xweb webx"),
            ("^web-[0-9]+$", "web-1 web-12", "web- web-x"),
            ("^(web|db)-[[:digit:]]{2,3}$", "web-12 db-123", "db-1 db-1234 x-12"),
            ("^a.c$", "abc a.c", "ac abbc"),
            ("^a\\.c$", "a.c", "abc"),
            ("^[^a-c]+$", "def d", "ad"),
            ("^x[]-]$", "x] x-", "x"),
            ("^(a*)*b$", "b aab", "aac"),
            ("^(a|ab)(c|bcd)$", "ac abc abcd abbcd", "ab"),
            ("^a?b{0,1}c{1,}$", "c abc bccc", "ab"),
            ("^(|a)$", "a", "b"),
            ("^a{3}$", "aaa", "aa aaaa"),
            ("^[[:upper:][:digit:]_]+$", "A_1", "a"),
        ] {
            let pattern_of = Pattern::parse(pattern).unwrap();
            for id in good.split(' ') {
                assert!(pattern_of.matches(id), "{pattern} {id}");
            }
            for id in bad.split(' ').filter(|id| !id.is_empty()) {
                assert!(!pattern_of.matches(id), "{pattern} {id}");
            }
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_and_none_takes_long() {
        let deep = "(".repeat(1000);
        for bad in [
            "*a",
            "(",
            ")",
            "a)",
            "(a",
            "[a",
            "[]",
            "[z-a]",
            "a{",
            "a{x}",
            "a{2,1}",
            "a{1",
            "a{256}",
            "\\",
            "+",
            "é",
            "[[:word:]]",
            "[[:alpha]",
            &deep,
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        let hard = Pattern::parse("^(((a*)*)*|(a|aa)+)*x$").unwrap();
        assert!(!hard.matches(&"a".repeat(255)));
    }
}
