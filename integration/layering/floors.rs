//! Imports point downward, and there are no cycles between modules, nor between the directories of one.

use crate::imports::Import;
use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// brig's top-level modules from the highest layer to the lowest. Modules of one layer may import each other,
/// but without cycles. The crates are below: Cargo ensures that none of them imports brig.
pub const FLOORS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["cmd"],
    &["doctor", "inspect"],
    &["criu", "image"],
    &["launch", "lint"],
    &["cgroup", "hooks", "process", "rdt", "rootfs", "seal", "state", "systemd"],
    &["plan"],
    &["seccomp"],
    // Errors contain a place in config.json.
    &["fault", "log"],
    &["spec"],
    &["trace"],
    &["deadline", "phases", "suggest"],
];

/// Imports that point upward.
pub fn climbing(imports: &[Import], package: &str) -> Vec<String> {
    let floor = |room: &String| FLOORS.iter().position(|rooms| rooms.contains(&room.as_str()));
    let mut found = Vec::new();
    for import in imports.iter().filter(|import| import.package == package) {
        let (Some(from), Some(to)) = (import.from.first(), import.to.first()) else { continue };
        match (floor(from), floor(to)) {
            (Some(above), Some(below)) if below < above => {
                found.push(format!("{}: {from} is below {to}, and imports it", import.place));
            }
            (Some(_), Some(_)) => {}
            (known, _) => {
                let room = if known.is_none() { from } else { to };
                found.push(format!("{}: {room} is on no floor", import.place));
            }
        }
    }
    found
}

/// From, to, and the place of the import.
type Graph<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>;

/// Cycles between brig's top-level modules, and between sibling directories below them and in the other
/// crates.
pub fn circles(sources: &[Source], imports: &[Import]) -> Vec<String> {
    let mut groups: BTreeMap<(&str, &[String]), Graph<'_>> = BTreeMap::new();
    let folders: BTreeSet<(&str, &[String])> = sources
        .iter()
        .flat_map(|source| {
            let above = 1..source.module.len();
            above.map(|len| (source.package.as_str(), &source.module[..len]))
        })
        .collect();
    for import in imports {
        let common = import.from.iter().zip(&import.to).take_while(|(from, to)| from == to).count();
        let (Some(from), Some(to)) = (import.from.get(common), import.to.get(common)) else {
            continue;
        };
        let is_folder = |path: &[String]| folders.contains(&(import.package.as_str(), path));
        let rooms = common == 0 && import.package == "brig";
        if rooms || is_folder(&import.from[..=common]) && is_folder(&import.to[..=common]) {
            let group = groups.entry((&import.package, &import.from[..common])).or_default();
            group.entry(from).or_default().entry(to).or_insert(&import.place);
        }
    }
    groups.into_iter().flat_map(|((package, _), graph)| circles_of(package, &graph)).collect()
}

/// For each pair that reach each other, the shortest cycle through the first, each cycle once.
fn circles_of(package: &str, graph: &Graph<'_>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for start in graph.keys() {
        let Some(circle) = way_back(graph, start) else { continue };
        if seen.insert(circle.iter().copied().collect::<BTreeSet<_>>()) {
            let steps = circle
                .iter()
                .zip(circle.iter().cycle().skip(1))
                .map(|(from, to)| format!("{from} -> {to} ({})", graph[from][to]));
            found.push(format!("{package}: circle: {}", steps.collect::<Vec<_>>().join(", ")));
        }
    }
    found
}

/// Breadth-first search from `start` back to itself.
fn way_back<'a>(graph: &Graph<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut ways = std::collections::VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let next = graph.get(way.last()?).into_iter().flat_map(BTreeMap::keys);
        for &to in next {
            if to == start {
                return Some(way);
            }
            if seen.insert(to) {
                ways.push_back(way.iter().copied().chain([to]).collect());
            }
        }
    }
    None
}
