//! Availability and usage of caches and memory bandwidth, in the format of runc's `types/events.go`.

use super::Rdt;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// All statistics; without those that this processor does not support.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<L3CacheInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemBwInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<Bandwidth>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<Occupancy>,
}

/// How the L3 cache can be partitioned.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct L3CacheInfo {
    pub cbm_mask: String,
    pub min_cbm_bits: u64,
    pub num_closids: u64,
}

/// How memory bandwidth can be partitioned.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct MemBwInfo {
    pub bandwidth_gran: u64,
    pub delay_linear: u64,
    pub min_bandwidth: u64,
    pub num_closids: u64,
}

/// Bytes transferred in one domain.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Bandwidth {
    pub mbm_total_bytes: u64,
    pub mbm_local_bytes: u64,
}

/// Bytes occupied in one cache.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Occupancy {
    pub llc_occupancy: u64,
}

impl Rdt {
    /// Reads all statistics. The monitored group is the container's own, otherwise its class.
    pub fn stats(&self) -> Result<Stats> {
        drop(self.open_root()?);
        let class = self.root.join(&self.class);
        let group = self.monitor.as_ref().map(|name| class.join("mon_groups").join(name));
        read(&self.root, &class, group.as_deref().unwrap_or(&class))
    }
}

pub(super) fn read(root: &Path, class: &Path, group: &Path) -> Result<Stats> {
    let (top, own) = (schemata(root)?, schemata(class)?);
    let line = |lines: &[String], name: &str| {
        lines.iter().rfind(|line| line.starts_with(name)).cloned().unwrap_or_default()
    };
    let info = |name: &str| Some(root.join("info").join(name)).filter(|path| path.is_dir());
    // With code and data prioritization (CDP) there are two equal directories.
    let l3 = info("L3").or_else(|| info("L3CODE"));
    let mut stats = Stats {
        l3_cache_info: l3.map(|dir| L3CacheInfo {
            cbm_mask: text(&dir.join("cbm_mask")),
            min_cbm_bits: number(&dir.join("min_cbm_bits")),
            num_closids: number(&dir.join("num_closids")),
        }),
        l3_cache_schema_root: line(&top, "L3"),
        l3_cache_schema: line(&own, "L3"),
        mem_bw_info: info("MB").map(|dir| MemBwInfo {
            bandwidth_gran: number(&dir.join("bandwidth_gran")),
            delay_linear: number(&dir.join("delay_linear")),
            min_bandwidth: number(&dir.join("min_bandwidth")),
            num_closids: number(&dir.join("num_closids")),
        }),
        mem_bw_schema_root: line(&top, "MB"),
        mem_bw_schema: line(&own, "MB"),
        schemata: own,
        ..Stats::default()
    };
    monitored(root, group, &mut stats);
    Ok(stats)
}

/// One entry for each domain, sorted by name.
fn monitored(root: &Path, group: &Path, stats: &mut Stats) {
    let features = text(&root.join("info/L3_MON/mon_features"));
    let has = |name: &str| features.lines().any(|feature| feature == name);
    let entries = fs::read_dir(group.join("mon_data")).into_iter().flatten().flatten();
    let mut domains: Vec<_> = entries.map(|entry| entry.path()).collect();
    domains.sort();
    for domain in domains {
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            stats.mbm_stats.push(Bandwidth {
                mbm_total_bytes: number(&domain.join("mbm_total_bytes")),
                mbm_local_bytes: number(&domain.join("mbm_local_bytes")),
            });
        }
        if has("llc_occupancy") {
            let llc_occupancy = number(&domain.join("llc_occupancy"));
            stats.cmt_stats.push(Occupancy { llc_occupancy });
        }
    }
}

fn schemata(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join("schemata");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// Empty if the processor does not support it, or has no value at the moment ("Unavailable").
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn number(path: &Path) -> u64 {
    text(path).parse().unwrap_or_default()
}
