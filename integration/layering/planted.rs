//! Planted faults in a generated tree: each must be found.

use crate::source::{Files, sources};
use crate::{floors, functions, imports, unnamed};

/// A small brig without faults, in which these files replace its own.
fn tree(planted: &[(&str, &str)]) -> Files {
    let sound = [
        ("Cargo.toml", "[package]\nname = \"brig\"\n\n[lib]\nname = \"brig\"\n"),
        ("src/lib.rs", "pub mod cmd; pub mod launch; pub mod plan; pub mod spec;"),
        ("src/main.rs", "fn main() { brig::cmd::create::create(); }"),
        ("src/cmd/mod.rs", "pub mod create;"),
        ("src/cmd/create.rs", "use crate::launch;\npub fn create() { launch::spawn(sys::pid()); }"),
        (
            "src/launch/mod.rs",
            "use crate::plan::{self, Plan};\npub fn spawn(n: u32) { child(n); }\nfn child(_: u32) {}",
        ),
        ("src/plan/mod.rs", "use crate::spec::Spec;\n/// Of [`crate::launch`].\npub struct Plan;"),
        ("src/spec.rs", "pub struct Spec;"),
        ("crates/sys/Cargo.toml", "[package]\nname = \"brig-sys\"\n\n[lib]\nname = \"sys\"\n"),
        ("crates/sys/src/lib.rs", "pub fn pid() -> u32 { inner() }\nfn inner() -> u32 { 1 }"),
        (
            "docs/design.md",
            "# Design\n\n```route parent\nsrc/main.rs: main\nsrc/cmd/create.rs: create\n```\n\n```route child\nsrc/launch/mod.rs: spawn\nsrc/launch/mod.rs: child\n```\n",
        ),
    ];
    let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    sound.iter().map(own).chain(planted.iter().map(own)).collect()
}

/// All findings in such a tree.
fn found(planted: &[(&str, &str)]) -> Vec<String> {
    let files = tree(planted);
    let sources = sources(&files);
    let imports = imports::imports(&sources);
    let mut found = floors::climbing(&imports, "brig");
    found.extend(floors::circles(&sources, &imports));
    found.extend(unnamed::unnamed(&sources, "sys"));
    found.extend(functions::too_long(&sources));
    found.extend(functions::routes(&files, &sources));
    found
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(found(&[]), Vec::<String>::new());
    // Comments, strings and unit tests are not imports.
    let text = "/* crate::cmd */ const A: &str = \"crate::cmd::create\"; const B: char = '\"';\n\
        const C: &str = r#\"\"crate::cmd\"#; fn d<'a>(_: &'a str) {}\n#[cfg(test)]\nmod tests { use crate::cmd; }\n\
        #[cfg(test)]\nmod more;";
    assert_eq!(
        found(&[("src/spec/mod.rs", text), ("src/spec/more.rs", "use crate::cmd;")]),
        Vec::<String>::new()
    );
}

#[test]
fn an_import_that_climbs_is_found() {
    let wanted = ["src/spec.rs:2: spec is below plan, and imports it"];
    assert_eq!(
        found(&[("src/spec.rs", "pub struct Spec;\nuse crate::{deadline, plan::Plan};")])[..1],
        wanted
    );
    assert_eq!(
        found(&[("src/spec.rs", "pub struct Spec;\nfn f(_: super::plan::Plan) {}")])[..1],
        wanted
    );
    assert_eq!(
        found(&[("src/loft.rs", "use crate::spec::Spec;")]),
        ["src/loft.rs:1: loft is on no floor"]
    );
}

#[test]
fn a_circle_is_found() {
    // In the same layer, where neither import points upward.
    let planted = [
        ("src/state.rs", "use crate::hooks::Hook;"),
        ("src/hooks/mod.rs", "mod run;"),
        ("src/hooks/run.rs", "use crate::cgroup::Cgroup;"),
        ("src/cgroup.rs", "\nfn f(_: crate::state::State) {}"),
    ];
    assert_eq!(
        found(&planted),
        ["brig: circle: cgroup -> state (src/cgroup.rs:2), state -> hooks (src/state.rs:1), \
          hooks -> cgroup (src/hooks/run.rs:1)"]
    );
    // Between two directories of one module.
    let planted = [
        ("src/launch/a/mod.rs", "mod x;"),
        ("src/launch/a/x.rs", "use super::super::b::y;"),
        ("src/launch/b/mod.rs", "pub mod y;"),
        ("src/launch/b/y.rs", "use crate::launch::a;"),
    ];
    assert_eq!(
        found(&planted),
        ["brig: circle: a -> b (src/launch/a/x.rs:1), b -> a (src/launch/b/y.rs:1)"]
    );
}

#[test]
fn what_nobody_names_is_found() {
    let text = "pub fn pid() -> Pid { Pid(1) }\npub struct Pid(u32);\nimpl Pid { pub const fn get(&self) -> u32 { 1 } }\n\
        pub(crate) fn own() {}\npub const LEFT: u32 = 1;";
    assert_eq!(
        found(&[("crates/sys/src/lib.rs", text)]),
        [
            "crates/sys/src/lib.rs:3: get is pub, and nobody outside names it",
            "crates/sys/src/lib.rs:5: LEFT is pub, and nobody outside names it"
        ]
    );
}

#[test]
fn what_is_too_long_is_found() {
    let (file, function) = ("\n".repeat(501), format!("fn long() {{{}}}", "\n".repeat(60)));
    assert_eq!(
        found(&[("src/plan/long.rs", &file), ("src/plan/slow.rs", &function)]),
        ["src/plan/long.rs: has 501 lines", "src/plan/slow.rs:1: long has 61 lines"]
    );
}

#[test]
fn a_route_that_the_code_does_not_take_is_found() {
    let wrong = |lines: &str| {
        let text = format!("\n```route parent\n{lines}\n```\n\n```route child\n```\n");
        found(&[("docs/design.md", &text)])
    };
    assert_eq!(wrong("src/main.rs: main\nsrc/cmd/create.rs: create"), Vec::<String>::new());
    assert_eq!(
        wrong("src/main.rs: main\nsrc/launch/mod.rs: spawn"),
        ["docs/design.md: route parent: src/main.rs: main does not name spawn"]
    );
    assert_eq!(
        wrong("src/cmd/create.rs: delete"),
        ["docs/design.md: route parent: src/cmd/create.rs has no function delete"]
    );
    assert_eq!(
        wrong("src/cmd/create.rs: create\nsrc/launch/mod.rs: spawn\nsrc/cmd/create.rs: create")[0],
        "docs/design.md: route parent: src/launch/mod.rs: spawn does not name create"
    );
    assert_eq!(
        wrong("src/cmd/create.rs: create\nsrc/launch/mod.rs: spawn\nsrc/cmd/create.rs: create")[1],
        "docs/design.md: route parent comes back to src/cmd/create.rs"
    );
    let none = found(&[("docs/design.md", "nothing")]);
    assert_eq!(none, ["docs/design.md: has the routes [], and not parent and child"]);
}
