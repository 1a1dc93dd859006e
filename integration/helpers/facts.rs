//! The output of the process in the container, see `integration/init/`.

use std::fmt;

/// Lines of a name and a value.
#[derive(Clone)]
pub struct Facts(pub Vec<String>);

impl Facts {
    /// Reads what the process printed.
    pub fn parse(stdout: &str) -> Facts {
        Facts(stdout.lines().map(str::to_string).collect())
    }

    /// All values of facts named `name`, which can consist of several words, e.g. `stat /dev/null`.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let value = |line: &'_ str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.is_empty())
        };
        self.0
            .iter()
            .filter(|line| value(line))
            .map(|line| line[name.len()..].trim_start())
            .collect()
    }

    /// The value of the only fact named `name`.
    #[track_caller]
    pub fn get(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            ref values => panic!("{} facts are named {name:?}\n{self}", values.len()),
        }
    }

    /// Word `index` of the value of `name`.
    #[track_caller]
    pub fn word(&self, name: &str, index: usize) -> &str {
        self.get(name)
            .split(' ')
            .nth(index)
            .unwrap_or_else(|| panic!("{name} has no word {index}\n{self}"))
    }

    /// Word `index` of the value of `name`, as a number.
    #[track_caller]
    pub fn number(&self, name: &str, index: usize) -> u64 {
        let word = self.word(name, index);
        word.parse().unwrap_or_else(|_| panic!("{name}: {word} is not a number\n{self}"))
    }

    /// The mounts seen from inside, in order.
    pub fn mounts(&self) -> Vec<Mount> {
        self.all("mount").into_iter().filter_map(Mount::parse).collect()
    }

    /// The last mount at `path` seen from inside.
    #[track_caller]
    pub fn mount(&self, path: &str) -> Mount {
        let mount = self.mounts().into_iter().rfind(|mount| mount.target == path);
        mount.unwrap_or_else(|| panic!("nothing is mounted on {path}\n{self}"))
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// A line of mountinfo.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Where it is mounted.
    pub target: String,
    /// Options of this mount, e.g. `rw,nosuid,relatime`.
    pub options: Vec<String>,
    /// E.g. `shared:1`, `master:2` or `unbindable`.
    pub propagation: Vec<String>,
    /// Filesystem type.
    pub fstype: String,
    /// Its source.
    pub source: String,
    /// Options of the filesystem, e.g. `rw,size=65536k`.
    pub data: Vec<String>,
}

impl Mount {
    /// Reads one line of /proc/self/mountinfo.
    pub fn parse(line: &str) -> Option<Mount> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4).map(str::to_string);
        let list = |text: &str| text.split(',').map(str::to_string).collect::<Vec<_>>();
        let mut filesystem_fields = filesystem.splitn(3, ' ');
        Some(Mount {
            target: fields.next()?,
            options: list(&fields.next()?),
            propagation: fields.collect(),
            fstype: filesystem_fields.next()?.to_string(),
            source: filesystem_fields.next()?.to_string(),
            data: list(filesystem_fields.next()?),
        })
    }

    /// Whether the mount or its filesystem has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().chain(&self.data).any(|have| have == option)
    }
}
