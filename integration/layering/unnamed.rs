//! What a crate exports and no other source names: it could be private, so that the compiler detects whether
//! it is used at all.

use crate::source::{Source, Token, item_end};
use std::collections::BTreeSet;

/// `pub` items of this crate whose names occur in no other source. A type in the signature of a named
/// function need not be named itself.
pub fn unnamed(sources: &[Source], package: &str) -> Vec<String> {
    let (own, others): (Vec<_>, Vec<_>) =
        sources.iter().partition(|source| source.package == package);
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for source in others {
        named.extend(source.tokens().iter().map(|token| token.text));
    }
    let items: Vec<_> = own
        .iter()
        .flat_map(|source| items(&source.tokens()).into_iter().map(move |item| (source, item)))
        .collect();
    // Repeated, because a reachable signature may contain further types.
    loop {
        let reached = items.iter().filter(|(_, item)| named.contains(item.name));
        let more: BTreeSet<&str> =
            reached.flat_map(|(_, item)| item.shows.iter().copied()).collect();
        let before = named.len();
        named.extend(more);
        if named.len() == before {
            break;
        }
    }
    items
        .into_iter()
        .filter(|(_, item)| !named.contains(item.name))
        .map(|(source, item)| {
            let line = source.line(item.at);
            format!("{}:{line}: {} is pub, and nobody outside names it", source.path, item.name)
        })
        .collect()
}

struct Item<'a> {
    name: &'a str,
    at: usize,
    /// The types in its signature, or in its public fields.
    shows: Vec<&'a str>,
}

fn items<'a>(tokens: &[Token<'a>]) -> Vec<Item<'a>> {
    const KINDS: [&str; 9] =
        ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "union"];
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "pub") {
        let rest = &tokens[i + 1..];
        let modifiers = ["unsafe", "async", "extern"];
        let kind = rest.iter().position(|token| !modifiers.contains(&token.text)).unwrap_or(0);
        let kind = kind + usize::from(rest[kind].text == "const" && rest[kind + 1].text == "fn");
        if !KINDS.contains(&rest[kind].text) {
            continue;
        }
        let end = item_end(rest);
        let body = rest[..=end].iter().position(|token| token.text == "{");
        let shown = match rest[kind].text {
            "fn" | "const" | "static" => &rest[kind + 2..body.unwrap_or(end).max(kind + 2)],
            _ => &rest[kind + 2..=end.max(kind + 1)],
        };
        let is_type = |text: &&str| text.starts_with(|c: char| c.is_ascii_uppercase());
        let shows = shown.iter().map(|token| token.text).filter(is_type).collect();
        found.push(Item { name: rest[kind + 1].text, at: token.at, shows });
    }
    found
}
