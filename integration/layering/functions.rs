//! Functions: their length, and the routes of docs/design.md through them.

use crate::source::{Files, Source, Token, item_end};
use std::collections::BTreeSet;

pub const MAX_FILE: usize = 500;
pub const MAX_FUNCTION: usize = 60;
/// The maximum number of files in both routes together.
pub const MAX_ROUTE: usize = 8;

/// Data and texts without control flow.
const TABLES: &[&str] = &["crates/oci-seccomp/src/syscalls/table.rs", "integration/pages/texts.rs"];

/// A function with a body.
#[derive(Debug)]
pub struct Function<'a> {
    pub name: &'a str,
    /// The type that it is an associated function of.
    pub of: Option<&'a str>,
    pub first_line: usize,
    pub last_line: usize,
    /// Every word of its body.
    pub words: BTreeSet<&'a str>,
}

pub fn functions(source: &Source) -> Vec<Function<'_>> {
    let tokens = source.tokens();
    let impls = impls(&tokens);
    let mut found = Vec::new();
    for i in 0..tokens.len() {
        let [keyword, name, ..] = &tokens[i..] else { break };
        if keyword.text != "fn" || !name.text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let end = i + item_end(&tokens[i..]);
        if tokens[end].text != "}" {
            continue;
        }
        let mut inside = impls.iter().filter(|(start, last, _)| (*start..=*last).contains(&i));
        found.push(Function {
            name: name.text,
            of: inside.next_back().map(|(.., name)| *name),
            first_line: source.line(keyword.at),
            last_line: source.line(tokens[end].at),
            words: tokens[i + 2..=end].iter().map(|token| token.text).collect(),
        });
    }
    found
}

/// The begin, end and type of each `impl`.
fn impls<'a>(tokens: &[Token<'a>]) -> Vec<(usize, usize, &'a str)> {
    let mut found = Vec::new();
    for i in 0..tokens.len() {
        let starts = i == 0 || matches!(tokens[i - 1].text, "}" | ";" | "]" | "unsafe" | "{");
        if tokens[i].text != "impl" || !starts {
            continue;
        }
        let Some(brace) = tokens[i..].iter().position(|token| token.text == "{") else { continue };
        let head = &tokens[i + 1..i + brace];
        let head = match head.iter().position(|token| token.text == "for") {
            Some(at) => &head[at + 1..],
            None => head,
        };
        // The generics of the impl, then the path of the type up to its own generics.
        let mut depth = 0;
        let mut name = None;
        for token in head {
            match token.text {
                "<" => depth += 1,
                ">" => depth -= 1,
                "where" => break,
                word if depth == 0 && word.starts_with(char::is_alphabetic) => name = Some(word),
                _ => {}
            }
        }
        found.extend(name.map(|name| (i, i + item_end(&tokens[i..]), name)));
    }
    found
}

/// Files and functions that are too long.
pub fn too_long(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        if TABLES.contains(&source.path.as_str()) {
            continue;
        }
        if source.lines > MAX_FILE {
            found.push(format!("{}: has {} lines", source.path, source.lines));
        }
        for function in functions(source) {
            let lines = function.last_line - function.first_line + 1;
            if lines > MAX_FUNCTION {
                let (path, line, name) = (&source.path, function.first_line, function.name);
                found.push(format!("{path}:{line}: {name} has {lines} lines"));
            }
        }
    }
    found
}

/// The routes of docs/design.md: blocks fenced by "```route NAME", with lines `file: function`, where the
/// function is `name` or `Type::name`. Every function must exist and be named in the body of the one above
/// it, or if it is indented, of the nearest one above with less indentation.
pub fn routes(files: &Files, sources: &[Source]) -> Vec<String> {
    const DESIGN: &str = "docs/design.md";
    let text = files.get(DESIGN).map_or("", String::as_str);
    let (mut found, mut all_files, mut routes) = (Vec::new(), BTreeSet::new(), Vec::new());
    for part in text.split("\n```route ").skip(1) {
        let mut lines = part.lines();
        let name = lines.next().unwrap_or_default().trim();
        routes.push(name);
        let steps: Vec<&str> = lines.take_while(|line| !line.starts_with("```")).collect();
        let steps: Vec<_> = steps.iter().filter_map(|line| Step::parse(line)).collect();
        let mut last = None;
        let mut own_files = BTreeSet::new();
        for (i, own) in steps.iter().enumerate() {
            let named = own
                .caller(&steps[..i])
                .map_or(Ok(()), |caller| body_names(sources, caller, own.function));
            let there = function(sources, own).map(drop);
            found.extend(named.and(there).err().map(|e| format!("{DESIGN}: route {name}: {e}")));
            if last != Some(own.path) && !own_files.insert(own.path) {
                found.push(format!("{DESIGN}: route {name} comes back to {}", own.path));
            }
            last = Some(own.path);
        }
        all_files.extend(own_files);
    }
    if routes != ["parent", "child"] {
        found.push(format!("{DESIGN}: has the routes {routes:?}, and not parent and child"));
    }
    if all_files.len() > MAX_ROUTE {
        found.push(format!("{DESIGN}: the routes go through {} files", all_files.len()));
    }
    found
}

/// A line of a route.
struct Step<'a> {
    indent: usize,
    path: &'a str,
    function: &'a str,
}

impl<'a> Step<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (path, function) = line.split_once(": ")?;
        let name = path.trim_start();
        Some(Step { indent: path.len() - name.len(), path: name, function })
    }

    /// The step whose body must name it: the nearest one above with less indentation, or the previous one.
    fn caller<'s>(&self, above: &'s [Step<'a>]) -> Option<&'s Step<'a>> {
        let outer = above.iter().rev().find(|step| step.indent < self.indent);
        outer.or(above.last())
    }
}

fn last(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or_default()
}

/// All functions that a step can refer to.
fn function<'a>(sources: &'a [Source], step: &Step<'_>) -> Result<Vec<Function<'a>>, String> {
    let source = sources.iter().find(|source| source.path == step.path);
    let source = source.ok_or_else(|| format!("{} does not exist", step.path))?;
    let of = step.function.rsplit_once("::").map(|(of, _)| last(of));
    let mut named = functions(source);
    named.retain(|found| {
        found.name == last(step.function) && of.is_none_or(|of| Some(of) == found.of)
    });
    match named.is_empty() {
        true => Err(format!("{} has no function {}", step.path, step.function)),
        false => Ok(named),
    }
}

fn body_names(sources: &[Source], caller: &Step<'_>, name: &str) -> Result<(), String> {
    let callers = function(sources, caller)?;
    match callers.iter().any(|function| function.words.contains(last(name))) {
        true => Ok(()),
        false => Err(format!("{}: {} does not name {}", caller.path, caller.function, last(name))),
    }
}
