//! Hooks: validated, and stored for commands that do not read the config (config.md, POSIX-platform hooks).

use crate::deadline;
use crate::spec::{At, Document, Place};
use anyhow::{Result, anyhow, ensure};
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The annotation that names a file to append the hooks' stdout to.
pub const STDOUT: &str = "run.oci.hooks.stdout";
/// The same for stderr.
pub const STDERR: &str = "run.oci.hooks.stderr";

/// The hooks of a container, by the time at which they run.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Deprecated: like `create_runtime`, but before them.
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, before the pivot.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before the pivot.
    pub create_container: Vec<Hook>,
    /// In the container, after start and before the user's program.
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the user's program was executed.
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container is deleted.
    pub poststop: Vec<Hook>,
}

/// One program to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Its arguments, starting with its name; may be empty.
    pub args: Vec<String>,
    /// None: not in the config, which differs from an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// In seconds.
    pub timeout: Option<u64>,
    /// Its place in config.json, e.g. `hooks.prestart[0]`.
    pub place: String,
    /// The file, line and column, if the text may be gone when the hook runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<(String, usize, usize)>,
}

impl Hooks {
    /// Reads `hooks`.
    pub fn new(spec: Option<&oci::Hooks>) -> Result<Hooks> {
        let Some(spec) = spec else { return Ok(Hooks::default()) };
        let read = |name, hooks: &Option<Vec<oci::Hook>>| -> Result<Vec<Hook>> {
            let hooks = hooks.as_deref().unwrap_or_default().iter().enumerate();
            hooks.map(|(i, hook)| Hook::new(hook, format!("hooks.{name}[{i}]"))).collect()
        };
        Ok(Hooks {
            prestart: read("prestart", spec.prestart())?,
            create_runtime: read("createRuntime", spec.create_runtime())?,
            create_container: read("createContainer", spec.create_container())?,
            start_container: read("startContainer", spec.start_container())?,
            poststart: read("poststart", spec.poststart())?,
            poststop: read("poststop", spec.poststop())?,
        })
    }

    /// Looks up the positions of the hooks that run after create.
    pub fn locate(&mut self, config: &Document<'_>) {
        for hooks in [&mut self.start_container, &mut self.poststart, &mut self.poststop] {
            hooks.iter_mut().for_each(|hook| hook.position = config.position_of(&hook.place));
        }
    }

    /// Whether some run before the user's program does.
    pub fn before_program(&self) -> bool {
        self.during_create() || !self.start_container.is_empty()
    }

    /// Whether some run while the container is being created.
    pub fn during_create(&self) -> bool {
        [&self.prestart, &self.create_runtime, &self.create_container]
            .iter()
            .any(|hooks| !hooks.is_empty())
    }
}

impl Hook {
    fn new(spec: &oci::Hook, place: String) -> Result<Hook> {
        let path = spec.path();
        let timeout = spec.timeout();
        let check = || -> Result<()> {
            ensure!(!path.as_os_str().is_empty(), "missing field `path`");
            Ok(())
        };
        check().at(&place)?;
        if !path.is_absolute() {
            Err(anyhow!("{path:?} is not an absolute path")).at(format!("{place}.path"))?;
        }
        let positive = timeout.map(u64::try_from).transpose().ok().filter(|t| *t != Some(0));
        let Some(timeout) = positive else {
            let given = timeout.unwrap_or_default();
            return Err(anyhow!("is {given}, must be greater than 0 seconds"))
                .at(format!("{place}.timeout"));
        };
        let env = spec.env().clone();
        for (i, entry) in env.iter().flatten().enumerate() {
            if entry.find('=').is_none_or(|at| at == 0) || entry.contains('\0') {
                Err(anyhow!("{entry:?} is not NAME=value")).at(format!("{place}.env[{i}]"))?;
            }
        }
        let args = spec.args().clone().unwrap_or_default();
        if let Some(i) = args.iter().position(|arg| arg.contains('\0')) {
            Err(anyhow!("contains a NUL byte")).at(format!("{place}.args[{i}]"))?;
        }
        Ok(Hook { path: path.clone(), args, env, timeout, place, position: None })
    }

    /// Its place for an error.
    pub fn at(&self) -> At {
        let position = self.position.clone();
        position.map_or_else(|| At::new(&self.place), |found| At::found(&self.place, found))
    }

    /// The time limit of the hook.
    pub fn allowance(&self) -> Duration {
        let given = self.timeout.map(|seconds| Duration::from_secs(seconds).min(deadline::FOREVER));
        given.unwrap_or(deadline::HOOK)
    }
}

/// The time limit of all of these together.
pub fn allowance(hooks: &[Hook]) -> Duration {
    hooks.iter().map(Hook::allowance).sum()
}
