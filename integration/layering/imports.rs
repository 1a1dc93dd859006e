//! Which module refers to which, by `use` and by paths in the code.

use crate::source::{Source, Token, item_end};
use std::collections::{BTreeMap, BTreeSet};

/// A reference from one module to another of the same crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    pub package: String,
    pub from: Vec<String>,
    pub to: Vec<String>,
    /// E.g. `src/a/b.rs:7`.
    pub place: String,
}

/// The imports between modules of one crate.
pub fn imports(sources: &[Source]) -> Vec<Import> {
    let mut modules: BTreeMap<&str, BTreeSet<&[String]>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.package.is_empty()) {
        let modules = modules.entry(&source.package).or_default();
        modules.extend((0..=source.module.len()).map(|len| &source.module[..len]));
    }
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !source.package.is_empty()) {
        let modules = &modules[source.package.as_str()];
        for (path, at) in paths(&source.tokens()) {
            let Some(path) = absolute(source, &path) else { continue };
            let known = (0..=path.len()).rev().find(|&len| modules.contains(&path[..len]));
            let to = path[..known.unwrap_or(0)].to_vec();
            if to != source.module {
                let place = format!("{}:{}", source.path, source.line(at));
                let (package, from) = (source.package.clone(), source.module.clone());
                found.push(Import { package, from, to, place });
            }
        }
    }
    found
}

/// The path from the crate's root; None for that of another crate.
fn absolute(source: &Source, path: &[&str]) -> Option<Vec<String>> {
    let own = &source.module;
    let (first, rest) = path.split_first()?;
    let mut base = match *first {
        "crate" => Vec::new(),
        "self" => own.clone(),
        "super" => own[..own.len().checked_sub(1)?].to_vec(),
        // To main.rs the library is another crate.
        name if name == source.package => Vec::new(),
        _ => return None,
    };
    for name in rest {
        match *name {
            "super" => drop(base.pop()),
            name => base.push(name.to_owned()),
        }
    }
    Some(base)
}

/// All paths of at least two names, those of `use` expanded.
fn paths<'a>(tokens: &[Token<'a>]) -> Vec<(Vec<&'a str>, usize)> {
    let (mut found, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if tokens[i].text == "use" {
            let end = i + item_end(&tokens[i..]);
            tree(&tokens[i + 1..end], &mut Vec::new(), &mut found);
            i = end;
        } else if is_name(tokens[i].text) {
            let mut path = vec![tokens[i].text];
            let at = tokens[i].at;
            while let [_, colons, name, ..] = &tokens[i..]
                && colons.text == "::"
                && is_name(name.text)
            {
                path.push(name.text);
                i += 2;
            }
            if path.len() > 1 {
                found.push((path, at));
            }
        }
        i += 1;
    }
    found
}

/// Expands `a::{b, c::d}`.
fn tree<'a>(
    tokens: &[Token<'a>],
    prefix: &mut Vec<&'a str>,
    found: &mut Vec<(Vec<&'a str>, usize)>,
) {
    let (outer, mut i) = (prefix.len(), 0);
    while i < tokens.len() {
        match tokens[i].text {
            "::" => {}
            "{" => {
                let end = tokens.len() - 1;
                let mut start = i + 1;
                let mut depth = 0;
                for j in i + 1..=end {
                    match tokens[j].text {
                        "{" => depth += 1,
                        "}" if j < end => depth -= 1,
                        "," | "}" if depth == 0 => {
                            tree(&tokens[start..j], prefix, found);
                            start = j + 1;
                        }
                        _ => {}
                    }
                }
                prefix.truncate(outer);
                return;
            }
            "as" => break,
            name => prefix.push(name),
        }
        i += 1;
    }
    if let Some(first) = tokens.first() {
        found.push((prefix.clone(), first.at));
    }
    prefix.truncate(outer);
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}
