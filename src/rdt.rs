//! Intel's Resource Director Technology, through the resctrl filesystem: one directory for each class of
//! service, with a file `tasks` for its members, a file `schemata` for its resources, and a directory
//! `mon_groups` for separate monitoring groups. (Processors of other vendors support it too.)

mod stat;

use crate::plan::rdt::{Rdt as Plan, differing};
use crate::spec::Place;
use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat, write};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::mountinfo::mounts;
use sys::path::DIRECTORY;
use sys::{Errno, IfExists};

pub use stat::Stats;

/// The container's class of service and monitoring group.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rdt {
    /// Where resctrl is mounted.
    root: PathBuf,
    /// The class's directory below it; empty: the default class.
    class: String,
    /// The class was created for the container, and is removed with it.
    own: bool,
    /// The name of its own monitoring group.
    monitor: Option<String>,
}

/// linux/magic.h, RDTGROUP_SUPER_MAGIC
const RESCTRL: FsType = FsType(0x0765_5821);

impl Rdt {
    /// Determines the class for container `id`. Nothing is created yet.
    pub fn locate(plan: &Plan, id: &str) -> Result<Rdt> {
        let path = "/proc/self/mountinfo";
        let root = mount_point(&std::fs::read(path).context(path)?).context(
            "no resctrl filesystem is mounted: run `mount -t resctrl resctrl /sys/fs/resctrl`, if the processor supports it",
        )?;
        let class = plan.class.clone().unwrap_or_else(|| id.to_owned());
        let monitor = plan.monitored.then(|| id.to_owned());
        Ok(Rdt { root, class, own: plan.class.is_none(), monitor })
    }

    /// Creates what is missing, and writes the schemata. What existed before is not recorded for removal.
    pub fn create(&mut self, plan: &Plan) -> Result<()> {
        let root = self.open_root()?;
        let new = make_class(root.as_fd(), &self.class, self.own, !plan.schemata.is_empty());
        if new.is_err() {
            (self.own, self.monitor) = (false, None);
        }
        let new = new.at("linux.intelRdt.closID")?;
        let class = self.open_class(&root)?;
        if !new {
            compare(class.as_fd(), &plan.schemata[..plan.compared])?;
        }
        let written = write_schemata(class.as_fd(), &plan.schemata);
        written.map_err(|error| explained(error, root.as_fd())).at("linux.intelRdt")?;
        if let Some(name) = self.monitor.take() {
            let path = format!("mon_groups/{name}");
            let made = mkdirat(&class, path.as_str(), Mode::from_bits_truncate(0o755));
            made.with_context(|| format!("mkdir {path}"))
                .map_err(|error| explained(error, root.as_fd()))
                .at("linux.intelRdt.enableMonitoring")?;
            self.monitor = Some(name);
        }
        Ok(())
    }

    /// Opens the files through which a process enters the class and the monitoring group.
    pub fn entry(&self) -> Result<Vec<OwnedFd>> {
        let class = self.open_class(&self.open_root()?)?;
        let group = self.monitor.iter().map(|name| format!("mon_groups/{name}/tasks"));
        let paths = ["tasks".to_owned()].into_iter().chain(group);
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let open = |path: String| {
            openat(&class, path.as_str(), flags, Mode::empty())
                .with_context(|| format!("{}/{}/{path}", self.root.display(), self.class))
        };
        paths.map(open).collect::<Result<Vec<_>>>().at("linux.intelRdt")
    }

    /// The schemata file of the class.
    pub fn schemata(&self) -> PathBuf {
        self.root.join(&self.class).join("schemata")
    }

    /// Changes the schemata of the class; all lines or none.
    pub fn update(&self, plan: &Plan) -> Result<()> {
        let root = self.open_root()?;
        let class = self.open_class(&root)?;
        let written = write_schemata(class.as_fd(), &plan.schemata);
        written.map_err(|error| explained(error, root.as_fd())).at("linux.intelRdt")
    }

    /// Removes what [`Rdt::create`] has created.
    pub fn remove(&self) -> Result<()> {
        if !self.own && self.monitor.is_none() {
            return Ok(());
        }
        // If it is not mounted any more, nothing is left to remove.
        let Ok(root) = self.open_root() else { return Ok(()) };
        let remove = |path: String| {
            let removed = unlinkat(&root, path.as_str(), UnlinkatFlags::RemoveDir).if_exists();
            let what = || format!("remove {}/{path}", self.root.display());
            removed.map(drop).with_context(what)
        };
        if let Some(name) = &self.monitor {
            let class = if self.class.is_empty() { "." } else { &self.class };
            remove(format!("{class}/mon_groups/{name}"))?;
        }
        if self.own { remove(self.class.clone()) } else { Ok(()) }
    }

    fn open_root(&self) -> Result<OwnedFd> {
        let open = || -> Result<OwnedFd> {
            let root = open(&self.root, DIRECTORY, Mode::empty())?;
            let kind = fstatfs(&root).context("fstatfs")?.filesystem_type();
            ensure!(kind == RESCTRL, "is not a resctrl filesystem");
            Ok(root)
        };
        open().with_context(|| self.root.display().to_string()).at("linux.intelRdt")
    }

    fn open_class(&self, root: &OwnedFd) -> Result<OwnedFd> {
        let class = if self.class.is_empty() { "." } else { &self.class };
        let opened = openat(root, class, DIRECTORY, Mode::empty());
        opened.with_context(|| format!("{}/{class}", self.root.display()))
    }
}

/// Moves this process, but no other, into the class and the group of these files.
pub fn enter(entry: &[OwnedFd]) -> Result<()> {
    let zero = |file: &OwnedFd| write(file, b"0").map(drop).context("enter the resctrl group");
    entry.iter().try_for_each(zero).at("linux.intelRdt")
}

/// Where resctrl is mounted.
fn mount_point(mountinfo: &[u8]) -> Option<PathBuf> {
    mounts(mountinfo).find(|mount| mount.is_type("resctrl")).map(|mount| mount.point())
}

/// Creates the directory of a class; false if it exists already, which is an error if `own`.
fn make_class(root: BorrowedFd<'_>, class: &str, own: bool, schemata: bool) -> Result<bool> {
    if class.is_empty() {
        return Ok(false);
    }
    if !own && !schemata {
        let found = openat(root, class, DIRECTORY, Mode::empty());
        return found.map(|_| false).map_err(|errno| match errno {
            Errno::ENOENT => {
                anyhow!("class {class:?} does not exist, and no schema is given to create it with")
            }
            errno => anyhow!(errno).context(format!("open {class}")),
        });
    }
    match mkdirat(root, class, Mode::from_bits_truncate(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) if !own => Ok(false),
        Err(Errno::EEXIST) => Err(anyhow!(
            "class {class:?} already exists: use it by naming it as closID, or remove it"
        )),
        Err(errno) => {
            let error = anyhow!(errno).context(format!("mkdir {class}"));
            Err(explained(error, root))
        }
    }
}

/// config-linux.md, IntelRdt: if the class exists, these lines must match its schemata.
fn compare(class: BorrowedFd<'_>, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let read = || -> Result<()> {
        let file = openat(class, "schemata", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text)?;
        let text = text.trim();
        match differing(lines, text) {
            Some(line) => {
                Err(anyhow!("already exists with a different schema: {line:?} is not in {text:?}"))
            }
            None => Ok(()),
        }
    };
    read().at("linux.intelRdt.closID")
}

/// One write, so that an error in one line leaves the others unchanged.
fn write_schemata(class: BorrowedFd<'_>, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = lines.join("\n") + "\n";
    let file = openat(class, "schemata", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
    let file = file.context("open schemata")?;
    write(&file, text.as_bytes()).map(drop).with_context(|| format!("write {text:?} to schemata"))
}

/// Adds the kernel's description of the last failed operation.
fn explained(error: anyhow::Error, root: BorrowedFd<'_>) -> anyhow::Error {
    let read = || -> Result<String> {
        let path = Path::new("info/last_cmd_status");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = openat(root, path.as_os_str().as_bytes(), flags, Mode::empty())?;
        let mut text = String::new();
        File::from(file).take(256).read_to_string(&mut text)?;
        Ok(text.trim().replace('\n', " "))
    };
    match read() {
        Ok(text) if !text.is_empty() && text != "ok" => error.context(text),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::DirBuilderExt;

    /// A directory in place of a resctrl mount: the files that the kernel would create in a new directory are
    /// created by the test.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let path = std::env::temp_dir().join(format!("brig-{}-{name}", std::process::id()));
            fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            Tree(path)
        }

        fn fill(&self, class: &str, schemata: &str) -> OwnedFd {
            self.file(&format!("{class}/schemata"), schemata);
            open(&self.0.join(class), DIRECTORY, Mode::empty()).unwrap()
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = File::options().create(true).write(true).truncate(true).open(path);
            write(file.unwrap(), text.as_bytes()).unwrap();
        }

        fn fd(&self) -> OwnedFd {
            open(&self.0, DIRECTORY, Mode::empty()).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            remove(&self.0);
        }
    }

    /// Nothing is mounted below it.
    fn remove(path: &Path) {
        match path.is_dir() {
            true => {
                fs::read_dir(path).unwrap().for_each(|entry| remove(&entry.unwrap().path()));
                fs::remove_dir(path).unwrap();
            }
            false => fs::remove_file(path).unwrap(),
        }
    }

    #[test]
    fn the_mount_is_found_by_its_type() {
        let mountinfo = b"22 1 0:20 / /caf\xe9 rw - sysfs sysfs rw\n\
                          30 22 0:25 / /sys/fs/my\\040resctrl rw,relatime - resctrl resctrl rw\n";
        assert_eq!(mount_point(mountinfo), Some("/sys/fs/my resctrl".into()));
        assert_eq!(mount_point(b"22 1 0:20 / /resctrl rw - tmpfs resctrl rw\n"), None);
    }

    #[test]
    fn a_class_is_made_or_has_to_be_there() {
        let tree = Tree::new("classes");
        tree.fill("gold", "");
        let make = |class, own, schemata| make_class(tree.fd().as_fd(), class, own, schemata);
        assert!(!make("", false, false).unwrap());
        assert!(!make("gold", false, false).unwrap());
        assert!(!make("gold", false, true).unwrap());
        assert!(make("gold", true, true).is_err());
        assert!(make("silver", false, false).is_err());
        assert!(make("silver", false, true).unwrap());
        assert!(make("the-containers", true, false).unwrap());
        assert!(tree.0.join("silver").is_dir() && tree.0.join("the-containers").is_dir());
    }

    #[test]
    fn schemata_are_compared_and_written_in_one_go() {
        let tree = Tree::new("schemata");
        let class = tree.fill("gold", "    L3:0=7ff;1=0ff\n    MB:0=100\n");
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        compare(class.as_fd(), &lines("L3:1=ff\nMB:0=100")).unwrap();
        let error = compare(class.as_fd(), &lines("L3:0=f")).unwrap_err();
        assert!(format!("{error:#}").contains("\"L3:0=f\" is not in \""), "{error:#}");
        write_schemata(class.as_fd(), &lines("L3:0=1\nL2:0=f;1=f;2=f;3=f;4=f;5=f;6=f;7=f"))
            .unwrap();
        let text = fs::read_to_string(tree.0.join("gold/schemata")).unwrap();
        assert!(text.starts_with("L3:0=1\nL2:0=f;1=f;2=f;3=f;4=f;5=f;6=f;7=f\n"), "{text:?}");
        write_schemata(class.as_fd(), &[]).unwrap();
    }

    #[test]
    fn the_kernels_words_are_told() {
        let tree = Tree::new("words");
        let error = || explained(anyhow!(Errno::ENOSPC), tree.fd().as_fd());
        assert!(format!("{:#}", error()).starts_with("ENOSPC"));
        tree.file("info/last_cmd_status", "ok\n");
        assert!(format!("{:#}", error()).starts_with("ENOSPC"));
        tree.file("info/last_cmd_status", "Out of CLOSIDs\n");
        assert!(format!("{:#}", error()).starts_with("Out of CLOSIDs: ENOSPC"));
    }

    #[test]
    fn what_is_used_is_told_by_domain() {
        let tree = Tree::new("stats");
        for (path, text) in [
            ("schemata", "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n"),
            ("gold/schemata", "    L3:0=00f;1=7ff\n    MB:0= 20;1=100\n"),
            ("info/L3/cbm_mask", "7ff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n"),
            ("gold/mon_groups/x/mon_data/mon_L3_01/llc_occupancy", "Unavailable\n"),
            ("gold/mon_groups/x/mon_data/mon_L3_01/mbm_total_bytes", "7\n"),
            ("gold/mon_groups/x/mon_data/mon_L3_00/llc_occupancy", "4096\n"),
            ("gold/mon_groups/x/mon_data/mon_L3_00/mbm_total_bytes", "8\n"),
        ] {
            tree.file(path, text);
        }
        let (class, group) = (tree.0.join("gold"), tree.0.join("gold/mon_groups/x"));
        let stats = stat::read(&tree.0, &class, &group).unwrap();
        let text = serde_json::to_string(&stats).unwrap();
        let expected = [
            r#"{"l3_cache_info":{"cbm_mask":"7ff","min_cbm_bits":1,"num_closids":16},"#,
            r#""l3_cache_schema_root":"L3:0=7ff;1=7ff","l3_cache_schema":"L3:0=00f;1=7ff","#,
            r#""mem_bw_info":{"bandwidth_gran":0,"delay_linear":0,"min_bandwidth":10,"num_closids":0},"#,
            r#""mem_bw_schema_root":"MB:0=100;1=100","mem_bw_schema":"MB:0= 20;1=100","#,
            r#""schemata":["L3:0=00f;1=7ff","MB:0= 20;1=100"],"#,
            r#""mbm_stats":[{"mbm_total_bytes":8,"mbm_local_bytes":0},{"mbm_total_bytes":7,"mbm_local_bytes":0}],"#,
            r#""cmt_stats":[{"llc_occupancy":4096},{"llc_occupancy":0}]}"#,
        ];
        assert_eq!(text, expected.concat());
        assert_eq!(serde_json::to_string(&Stats::default()).unwrap(), "{}");
    }

    #[test]
    fn what_is_no_resctrl_is_not_taken_for_it() {
        let tree = Tree::new("other");
        let rdt = Rdt { root: tree.0.clone(), class: "x".into(), own: true, monitor: None };
        assert!(format!("{:#}", rdt.entry().unwrap_err()).ends_with("is not a resctrl filesystem"));
        fs::create_dir(tree.0.join("x")).unwrap();
        rdt.remove().unwrap();
        assert!(tree.0.join("x").exists());
    }
}
