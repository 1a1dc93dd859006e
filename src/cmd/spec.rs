//! spec: writes a config.json to start from.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::Path;

/// A config that this brig runs, given a `rootfs` with a shell.
const DEFAULT: &[u8] = include_bytes!("default-config.json");

/// Writes it into a bundle that has none.
pub fn spec(bundle: &Path) -> Result<()> {
    let path = bundle.join("config.json");
    match std::fs::File::options().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("spec: file {} exists. Remove it first", path.display())
        }
        file => file.and_then(|mut file| file.write_all(DEFAULT)),
    }
    .with_context(|| format!("spec: {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    #[test]
    fn the_default_config_makes_a_plan_without_warnings() {
        let spec = serde_json::from_slice(DEFAULT).unwrap();
        let plan = Plan::new(&spec, Path::new("/bundle"), &Default::default()).unwrap();
        assert_eq!(plan.warnings, Vec::<String>::new());
    }
}
