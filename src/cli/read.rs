//! What clap has matched becomes plain values.

use super::describe::{LIMITS, NOT_YET};
use super::{Parsed, UNNAMED, UsageError};
use crate::cmd::command::{Command, Globals, ListFormat, Listing};
use crate::cmd::create::RunOptions;
use crate::cmd::{bundle, commit, events, mounts, stats, update};
use crate::image::container::FromImage;
use crate::image::flags::{FLAGS, Flags, no_ports};
use crate::launch::create::Options;
use crate::launch::exec;
use crate::log::{Format, Level};
use crate::plan::CgroupManager;
use crate::plan::exec::ProcessOptions;
use crate::plan::rootfs::RootOptions;
use brig_layers::commit::{About, Packed};
use clap::ArgMatches;
use std::path::PathBuf;
use sys::{cred, random};

/// Everything that stands on the command line.
pub(super) fn read(matches: &ArgMatches) -> Parsed {
    let globals = globals(matches);
    let Some((name, matches_of)) = matches.subcommand() else {
        return wrong(globals, "no command: see brig --help".into());
    };
    if let Some(flag) = refused(matches).or_else(|| refused(matches_of)) {
        let text = format!("{name}: --{flag} is not supported by this version of brig");
        return wrong(globals, text);
    }
    if let Some(argument) = needless(name, matches_of) {
        let text = format!("{name}: unexpected argument {argument:?}: only --image takes some");
        return wrong(globals, text);
    }
    if let Some(text) = contradiction(name, matches_of) {
        return wrong(globals, format!("{name}: {text}"));
    }
    let command = command(name, matches_of, &globals);
    Parsed::Run(globals, Box::new(command))
}

fn wrong(globals: Globals, text: String) -> Parsed {
    Parsed::Wrong(UsageError { globals: Some(globals), text, help: None, code: 1 })
}

/// What stands before the command.
pub(super) fn globals(matches: &ArgMatches) -> Globals {
    let json = text(matches, "log-format").as_deref() == Some("json");
    Globals {
        root: path(matches, "root").unwrap_or_else(default_root),
        log: path(matches, "log"),
        log_format: if json { Format::Json } else { Format::Text },
        log_level: match text(matches, "log-level").as_deref() {
            _ if matches.get_flag("debug") => Level::Debug,
            Some("debug") => Level::Debug,
            Some("error") => Level::Error,
            _ => Level::Warning,
        },
        cgroup_manager: match text(matches, "cgroup-manager").as_deref() {
            Some("systemd") => CgroupManager::Systemd,
            Some("disabled") => CgroupManager::Disabled,
            None if matches.get_flag("systemd-cgroup") => CgroupManager::Systemd,
            _ => CgroupManager::Cgroupfs,
        },
        rootless: match text(matches, "rootless").as_deref() {
            None | Some("auto" | "") => None,
            Some(whether) => Some(whether.starts_with(['1', 't', 'T'])),
        },
        store: path(matches, "store"),
    }
}

/// The program of a bundle stands in its config.json.
fn needless(name: &str, matches: &ArgMatches) -> Option<String> {
    let creates = ["create", "run"].contains(&name) && text(matches, "image").is_none();
    creates.then(|| text(matches, "args")).flatten()
}

/// Flags that are an image's, or that contradict each other.
fn contradiction(name: &str, matches: &ArgMatches) -> Option<String> {
    let creates = ["create", "run"].contains(&name);
    if !creates && name != "bundle" {
        return None;
    }
    if text_of(matches, "publish").is_some() {
        return Some(no_ports());
    }
    let given = creates && text(matches, "image").is_none();
    let of_image = || flags(matches).given.first().map(|(name, _)| *name);
    let named = || text(matches, "name").map(|_| "name");
    if let Some(flag) = given.then(|| of_image().or_else(named)).flatten() {
        return Some(format!("--{flag} needs --image: of a bundle config.json says it"));
    }
    let on = |flag| name == "run" && matches.get_flag(flag);
    if on("rm") && on("detach") {
        return Some("--rm: a detached container stays until `brig delete`".into());
    }
    if on("rm") && on("keep") {
        return Some("--rm and --keep contradict each other".into());
    }
    let two = creates && text(matches, "name").is_some() && text(matches, "id")? != UNNAMED;
    two.then(|| "--name and an ID: only one of them can be the container's name".into())
}

/// What was given of an image's flags.
fn flags(matches: &ArgMatches) -> Flags {
    let mut given = Vec::new();
    for flag in FLAGS {
        match flag.value {
            "" if matches.get_flag(flag.name) => given.push((flag.name, String::new())),
            "" => {}
            _ => {
                let values = matches.get_many::<String>(flag.name).into_iter().flatten();
                given.extend(values.map(|value| (flag.name, value.clone())));
            }
        }
    }
    Flags { given }
}

/// The container's name: the first word, `--name`'s, or one made up.
fn name_of(matches: &ArgMatches) -> String {
    match text(matches, "id") {
        Some(id) if id == UNNAMED => text(matches, "name").unwrap_or_else(random::random_name),
        id => id.unwrap_or_default(),
    }
}

/// /run/brig; for an ordinary user, below the directory that belongs to the session. Who is root only
/// because they have made a user namespace is one too, as with runc.
fn default_root() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let ordinary = || {
        // podman's conmon has no USER at all.
        let named_root = variable("USER").is_some_and(|name| name == "root");
        !nix::unistd::geteuid().is_root() || !named_root && !cred::in_first_user_namespace()
    };
    match variable("XDG_RUNTIME_DIR") {
        Some(dir) if ordinary() => PathBuf::from(dir).join("brig"),
        _ => PathBuf::from("/run/brig"),
    }
}

/// The first flag that is given and not supported.
fn refused(matches: &ArgMatches) -> Option<&'static str> {
    let given = |name: &&str| matches!(matches.try_get_one::<String>(name), Ok(Some(_)));
    NOT_YET.iter().copied().find(given)
}

fn command(name: &str, matches: &ArgMatches, globals: &Globals) -> Command {
    acting(name, matches, globals)
        .or_else(|| looking(name, matches))
        .or_else(|| about_images(name, matches))
        .unwrap_or(Command::Features)
}

/// The commands that change a container.
fn acting(name: &str, matches: &ArgMatches, globals: &Globals) -> Option<Command> {
    let id = || text(matches, "id").unwrap_or_default();
    Some(match name {
        "create" => Command::Create(options(matches, globals, true), from_image(matches, globals)),
        "run" => {
            let run_options = RunOptions {
                keep: matches.get_flag("keep"),
                subreaper: !matches.get_flag("no-subreaper"),
            };
            let options = options(matches, globals, matches.get_flag("detach"));
            Command::Run(options, from_image(matches, globals), run_options)
        }
        "start" => Command::Start { id: id() },
        "exec" => Command::Exec(exec_options(matches, globals)),
        "kill" => Command::Kill {
            id: id(),
            regex: matches.get_flag("regex"),
            signal: text(matches, "signal").unwrap_or_default(),
            all: matches.get_flag("all"),
        },
        "mounts" => Command::Mounts(mounts::MountsOptions {
            add: text(matches, "action").as_deref() == Some("add"),
            id: id(),
            file: path(matches, "file").unwrap_or_default(),
        }),
        "pause" => Command::Pause { id: id() },
        "resume" => Command::Resume { id: id() },
        "delete" => Command::Delete {
            id: id(),
            regex: matches.get_flag("regex"),
            force: matches.get_flag("force"),
        },
        "update" => Command::Update(update_options(matches)),
        _ => return None,
    })
}

/// The commands that change nothing.
fn looking(name: &str, matches: &ArgMatches) -> Option<Command> {
    let id = || text(matches, "id").unwrap_or_default();
    Some(match name {
        "state" => Command::State { id: id() },
        "ps" => Command::Ps {
            id: id(),
            format: format(matches),
            options: matches.get_many("args").into_iter().flatten().cloned().collect(),
        },
        "list" => Command::List { format: format(matches), quiet: matches.get_flag("quiet") },
        "spec" => Command::Spec {
            bundle: path(matches, "bundle").unwrap_or_else(|| ".".into()),
            file: path(matches, "file"),
            rootless: matches.get_flag("rootless"),
        },
        "events" => Command::Events(events::EventsOptions {
            id: id(),
            once: matches.get_flag("stats"),
            interval: text(matches, "interval"),
        }),
        "stats" => Command::Stats(stats::StatsOptions {
            ids: matches.get_many("id").into_iter().flatten().cloned().collect(),
            format: format(matches),
            once: matches.get_flag("no-stream"),
            interval: text(matches, "interval"),
        }),
        _ => return None,
    })
}

/// The commands about images and layers.
fn about_images(name: &str, matches: &ArgMatches) -> Option<Command> {
    let id = || text(matches, "id").unwrap_or_default();
    Some(match name {
        "diff" => Command::Diff { id: id(), format: format(matches) },
        "commit" => Command::Commit(commit::CommitOptions {
            id: id(),
            image: text(matches, "image").unwrap_or_default(),
            packed: match text(matches, "compression").as_deref() {
                Some("zstd") => Packed::Zstd,
                Some("none") => Packed::Plain,
                _ => Packed::Gzip,
            },
            about: About {
                author: text(matches, "author"),
                message: text(matches, "message"),
                changes: matches.get_many("change").into_iter().flatten().cloned().collect(),
            },
            no_pause: matches.get_flag("no-pause"),
        }),
        "export" => Command::Export { id: id(), output: path(matches, "output") },
        "images" => match text(matches, "inspect") {
            Some(image) => Command::Inspect { image },
            None => Command::Images(listing(matches)),
        },
        "rmi" => Command::Rmi {
            images: matches.get_many("image").into_iter().flatten().cloned().collect(),
        },
        "tag" => Command::Tag {
            image: text(matches, "image").unwrap_or_default(),
            name: text(matches, "name").unwrap_or_default(),
        },
        "layers" => Command::Layers(listing(matches)),
        "gc" => Command::Gc { all: matches.get_flag("all"), dry_run: matches.get_flag("dry-run") },
        "bundle" => Command::Bundle(bundle::BundleOptions {
            image: text(matches, "image").unwrap_or_default(),
            bundle: path(matches, "bundle").unwrap_or_default(),
            platform: text(matches, "platform"),
            args: matches.get_many("args").into_iter().flatten().cloned().collect(),
            flags: flags(matches),
        }),
        _ => return None,
    })
}

fn listing(matches: &ArgMatches) -> Listing {
    Listing {
        format: format(matches),
        quiet: matches.get_flag("quiet"),
        no_trunc: matches.get_flag("no-trunc"),
    }
}

fn format(matches: &ArgMatches) -> ListFormat {
    match text(matches, "format").as_deref() {
        Some("json") => ListFormat::Json,
        _ => ListFormat::Table,
    }
}

fn options(matches: &ArgMatches, globals: &Globals, detach: bool) -> Options {
    Options {
        root: globals.root.clone(),
        cgroup_manager: globals.cgroup_manager,
        rootless: globals.rootless,
        id: name_of(matches),
        bundle: path(matches, "bundle").unwrap_or_else(|| ".".into()),
        config: path(matches, "config"),
        pid_file: path(matches, "pid-file"),
        rootfs: RootOptions {
            layers: matches.get_many("layer").into_iter().flatten().cloned().collect(),
            upper: text(matches, "upper"),
            no_pivot: matches.get_flag("no-pivot"),
        },
        no_new_keyring: matches.get_flag("no-new-keyring"),
        preserve_fds: number(matches, "preserve-fds"),
        console_socket: path(matches, "console-socket"),
        pidfd_socket: path(matches, "pidfd-socket"),
        detach,
        own_bundle: false,
    }
}

fn from_image(matches: &ArgMatches, globals: &Globals) -> Option<FromImage> {
    Some(FromImage {
        image: text(matches, "image")?,
        platform: text(matches, "platform"),
        args: matches.get_many("args").into_iter().flatten().cloned().collect(),
        store: globals.store.clone(),
        flags: flags(matches),
        id_is_word: text(matches, "id").is_some_and(|id| id != UNNAMED),
    })
}

fn update_options(matches: &ArgMatches) -> update::UpdateOptions {
    let given = |&(name, ..): &(&'static str, _, _)| Some((name, text(matches, name)?));
    update::UpdateOptions {
        id: text(matches, "id").unwrap_or_default(),
        resources: path(matches, "resources"),
        limits: LIMITS.iter().filter_map(given).collect(),
        l3_cache: text(matches, "l3-cache-schema"),
        mem_bw: text(matches, "mem-bw-schema"),
        dry_run: matches.get_flag("dry-run"),
    }
}

fn exec_options(matches: &ArgMatches, globals: &Globals) -> exec::Options {
    let texts = |name| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
    let process = ProcessOptions {
        args: texts("args"),
        file: path(matches, "process"),
        tty: matches.get_flag("tty"),
        apparmor: text(matches, "apparmor"),
        process_label: text(matches, "process-label"),
        cwd: text(matches, "cwd"),
        env: texts("env"),
        user: text(matches, "user"),
        additional_gids: matches
            .get_many("additional-gids")
            .into_iter()
            .flatten()
            .copied()
            .collect(),
        capabilities: texts("cap"),
        no_new_privileges: matches.get_flag("no-new-privs"),
        detach: matches.get_flag("detach"),
        preserve_fds: number(matches, "preserve-fds"),
    };
    exec::Options {
        root: globals.root.clone(),
        id: text(matches, "id").unwrap_or_default(),
        process,
        console_socket: path(matches, "console-socket"),
        pid_file: path(matches, "pid-file"),
        cgroups: texts("cgroup"),
        pidfd_socket: path(matches, "pidfd-socket"),
        ignore_paused: matches.get_flag("ignore-paused"),
    }
}

fn number(matches: &ArgMatches, name: &str) -> u32 {
    matches.get_one(name).copied().unwrap_or(0)
}

/// The first of several.
fn text_of(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_many::<String>(name)?.next().cloned()
}

fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

/// An empty path is none: scripts give what they have in a variable.
fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<PathBuf>(name).filter(|path| !path.as_os_str().is_empty()).cloned()
}
