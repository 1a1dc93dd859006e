//! Sources as the checks see them: without comments, contents of strings, and unit tests; line numbers are
//! unchanged.

use std::collections::{BTreeMap, BTreeSet};

/// A tree of files: path relative to the repository, and text.
pub type Files = BTreeMap<String, String>;

/// A Rust source of a crate, or of the tests and benchmarks (`package` is empty then).
#[derive(Debug)]
pub struct Source {
    /// Relative to the repository's root.
    pub path: String,
    /// The name by which other crates import it.
    pub package: String,
    /// Its module path in the crate: empty for `lib.rs`.
    pub module: Vec<String>,
    /// The remaining text.
    pub code: String,
    /// The number of lines of the original text.
    pub lines: usize,
}

/// A word, or one character of punctuation, and its position in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl Source {
    pub fn tokens(&self) -> Vec<Token<'_>> {
        tokens(&self.code)
    }

    pub fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// Every Rust source, except files that are unit tests.
pub fn sources(files: &Files) -> Vec<Source> {
    let mut unit_tests = BTreeSet::new();
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let (package, module) = place(files, path);
        let (code, modules) = without_tests(&blank(text));
        unit_tests.extend(modules.into_iter().map(|name| {
            (package.clone(), module.iter().cloned().chain([name]).collect::<Vec<_>>())
        }));
        found.push(Source {
            path: path.clone(),
            package,
            module,
            code,
            lines: text.lines().count(),
        });
    }
    found.retain(|source| {
        let is_test =
            |len| unit_tests.contains(&(source.package.clone(), source.module[..len].to_vec()));
        source.package.is_empty() || !(1..=source.module.len()).any(is_test)
    });
    found
}

/// The crate's name, and the module's path in it.
fn place(files: &Files, path: &str) -> (String, Vec<String>) {
    let (manifest, inner) = match path.strip_prefix("crates/").and_then(|rest| rest.split_once('/'))
    {
        Some((folder, rest)) => (format!("crates/{folder}/Cargo.toml"), rest),
        None => ("Cargo.toml".to_owned(), path),
    };
    let Some(inner) = inner.strip_prefix("src/") else { return (String::new(), Vec::new()) };
    let inner = inner.trim_end_matches(".rs");
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    let module = match inner {
        "lib" => Vec::new(),
        inner => inner.split('/').map(str::to_owned).collect(),
    };
    (files.get(&manifest).map(|text| name(text)).unwrap_or_default(), module)
}

/// The name by which others import the crate of this manifest.
fn name(manifest: &str) -> String {
    let of = |section: &str| {
        let text = manifest.split_once(section)?.1;
        let text = text.split_once("\n[").map_or(text, |(section, _)| section);
        let value = text.lines().find_map(|line| line.strip_prefix("name = "))?;
        Some(value.trim_matches('"').replace('-', "_"))
    };
    of("[lib]").or_else(|| of("[package]")).unwrap_or_default()
}

/// Replaces comments and contents of strings with spaces.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let length = match rest {
            [b'/', b'/', ..] => rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => block_comment(rest),
            [b'"', ..] => quoted(rest),
            [b'r' | b'b' | b'c', ..] if !in_word && raw_string(rest).is_some() => {
                raw_string(rest).unwrap_or(1)
            }
            [b'\'', ..] => character(rest),
            _ => 0,
        };
        for byte in code[at..at + length].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        at += length.max(1);
    }
    String::from_utf8(code.into_iter().map(|byte| byte & 0x7f).collect()).unwrap()
}

fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// The length of a raw string, e.g. `r"…"` or `br#"…"#`.
fn raw_string(text: &[u8]) -> Option<usize> {
    let prefix = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    if !["r", "br", "cr"].contains(&std::str::from_utf8(&text[..prefix]).ok()?) {
        return None;
    }
    let hashes = text[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    let start = prefix + hashes;
    (text.get(start) == Some(&b'"')).then_some(())?;
    let end: Vec<u8> = std::iter::once(b'"').chain(vec![b'#'; hashes]).collect();
    let length = text[start + 1..].windows(end.len()).position(|window| window == end)?;
    Some(start + 1 + length + end.len())
}

/// The length of a character literal, as opposed to a lifetime.
fn character(text: &[u8]) -> usize {
    match text {
        [_, b'\\', _, rest @ ..] => {
            3 + rest.iter().position(|&byte| byte == b'\'').map_or(0, |end| end + 1)
        }
        [_, first, ..] => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if text.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

/// Removes what is compiled for unit tests only; also returns the names of modules whose files are such.
fn without_tests(code: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let (mut code, mut modules) = (code.to_owned(), Vec::new());
    while let Some(start) = code.find(MARK) {
        let tokens = tokens(&code[start + MARK.len()..]);
        let end = item_end(&tokens);
        if let [.., name, semicolon] = &tokens[..=end]
            && semicolon.text == ";"
            && tokens[..end].iter().any(|token| token.text == "mod")
        {
            modules.push(name.text.to_owned());
        }
        let end = start + MARK.len() + tokens[end].at + 1;
        let kept: String =
            code[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        code.replace_range(start..end, &kept);
    }
    (code, modules)
}

/// The index of the last token of the item that begins here: its semicolon, or its closing brace.
pub fn item_end(tokens: &[Token<'_>]) -> usize {
    let plain = ends_with_semicolon(tokens);
    let mut depth = 0_i32;
    for (i, token) in tokens.iter().enumerate() {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && (token.text == ";" || token.text == "}" && !plain) {
            return i;
        }
    }
    tokens.len() - 1
}

/// `use` and constants do not end with a brace.
fn ends_with_semicolon(tokens: &[Token<'_>]) -> bool {
    let is =
        |i: usize, words: &[&str]| tokens.get(i).is_some_and(|token| words.contains(&token.text));
    let mut at = 0;
    while is(at, &["#"]) {
        at += tokens[at..].iter().position(|token| token.text == "]").unwrap_or(0) + 1;
    }
    while is(at, &["pub", "(", "crate", "super", ")", "unsafe"]) {
        at += 1;
    }
    is(at, &["use", "static", "type"]) || is(at, &["const"]) && !is(at + 1, &["fn", "unsafe"])
}

pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = code.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let length = match bytes[at] {
            byte if is_word(byte) => {
                bytes[at..].iter().position(|&byte| !is_word(byte)).unwrap_or(bytes.len() - at)
            }
            b':' if bytes.get(at + 1) == Some(&b':') => 2,
            _ => 1,
        };
        if !bytes[at].is_ascii_whitespace() {
            found.push(Token { text: &code[at..at + length], at });
        }
        at += length;
    }
    found
}
