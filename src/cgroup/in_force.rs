//! The limits in force, beside the configured ones.

use super::Cgroup;
use crate::plan::resources::Resources;
use anyhow::Result;
use std::borrow::Cow;
use std::path::PathBuf;
use sys::hierarchy::read;

/// A limit in a file of the container's cgroup.
pub struct CurrentLimit {
    /// The file.
    pub path: PathBuf,
    /// The value written to it.
    pub asked: String,
    /// Its current value; None if it cannot be read.
    pub has: Option<String>,
    /// The place in config.json.
    pub place: Cow<'static, str>,
}

impl Cgroup {
    /// Reads the file of each limit. Device rules cannot be read back.
    pub fn in_force(&self, resources: &Resources) -> Result<Vec<CurrentLimit>> {
        if self.dirs.is_empty() {
            return Ok(Vec::new());
        }
        let (v1, v2) = self.writes(resources)?;
        let v1 = v1.iter().filter_map(|write| Some((self.dir(&write.controller)?, write)));
        let v2 = v2.iter().filter_map(|write| Some((self.unified()?, write)));
        let look = |(dir, write): (&super::Dir, &super::write::Write)| {
            let write = write.resolved(&dir.path)?;
            let path = dir.path.join(&*write.file);
            let text = read(&path).ok();
            let has = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
            Some(CurrentLimit { path, asked: write.value, has, place: write.place })
        };
        Ok(v1.chain(v2).filter_map(look).collect())
    }
}
