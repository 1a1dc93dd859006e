//! `linux.intelRdt`: which part of caches and memory bandwidth the container gets.

use crate::spec::{self, Place};
use anyhow::{Result, ensure};

/// A class of service (CLOS), and what it may use.
#[derive(Debug, PartialEq, Eq)]
pub struct Rdt {
    /// Its directory below the mount of resctrl; empty: the mount itself, i.e. the default class. None: a new
    /// class named after the container's id.
    pub class: Option<String>,
    /// Lines to write to its file `schemata`, in order.
    pub schemata: Vec<String>,
    /// How many of them must match the file already, if the class exists.
    pub compared: usize,
    /// Whether the container gets its own monitoring group.
    pub monitored: bool,
}

/// Directories that resctrl creates in each class or at the top.
const RESERVED: [&str; 4] = ["info", "mon_groups", "mon_data", ".."];

impl Rdt {
    /// Reads `linux.intelRdt`.
    pub fn new(spec: &spec::IntelRdt) -> Result<Rdt> {
        let class = spec.clos_id.as_deref().filter(|class| !class.is_empty());
        check_class(class).at("linux.intelRdt.closID")?;
        let mut schemata = Vec::new();
        for (field, schema) in [("l3CacheSchema", &spec.l3_cache), ("memBwSchema", &spec.mem_bw)] {
            let Some(schema) = schema.as_deref().filter(|schema| !schema.is_empty()) else {
                continue;
            };
            check_schema(field, schema).at(format!("linux.intelRdt.{field}"))?;
            // With code and data prioritization (CDP), L3 has two lines.
            schemata.extend(schema.lines().map(str::to_owned));
        }
        let compared = schemata.len();
        for (i, line) in spec.schemata.iter().enumerate() {
            check_schema("schemata", line).at(format!("linux.intelRdt.schemata[{i}]"))?;
            schemata.push(line.clone());
        }
        let class = class.map(|class| if class == "/" { String::new() } else { class.to_owned() });
        Ok(Rdt { class, schemata, compared, monitored: spec.enable_monitoring })
    }
}

fn check_class(class: Option<&str>) -> Result<()> {
    if let Some(class) = class.filter(|class| *class != "/") {
        let name = !class.contains(['/', '\0', '\n']) && class != "." && !RESERVED.contains(&class);
        ensure!(name, "{class:?} is not a valid name of a class of service");
    }
    Ok(())
}

fn check_schema(field: &str, schema: &str) -> Result<()> {
    ensure!(
        field == "l3CacheSchema" || !schema.contains('\n'),
        "has a line break: a schema is one line"
    );
    ensure!(
        field != "memBwSchema" || schema.starts_with("MB:"),
        "{schema:?} does not start with MB:"
    );
    for line in schema.lines() {
        ensure!(parse(line).is_some(), "{line:?} is not a schema (e.g. L3:0=7f0;1=1f)");
    }
    Ok(())
}

/// Parses e.g. `L3:0=7f0;1=1f` into a name and a value for each domain. The format of values depends on the
/// resource; only leading zeros are insignificant in all of them.
fn parse(line: &str) -> Option<(&str, Vec<(u32, &str)>)> {
    let (name, domains) = line.trim().split_once(':')?;
    let domains = domains.split(';').map(parse_domain).collect::<Option<Vec<_>>>()?;
    Some((name, domains)).filter(|(name, _)| !name.is_empty())
}

fn parse_domain(text: &str) -> Option<(u32, &str)> {
    let (domain, value) = text.trim().split_once('=')?;
    let value = value.trim();
    let digits = value.trim_start_matches('0');
    let value = if digits.is_empty() && !value.is_empty() { "0" } else { digits };
    Some((domain.trim().parse().ok()?, value)).filter(|(_, value)| !value.is_empty())
}

/// The first of the lines that differs from `file`, the text of a `schemata`.
pub fn differing<'a>(lines: &'a [String], file: &str) -> Option<&'a str> {
    let there: Vec<_> = file.lines().filter_map(parse).collect();
    let same = |line: &&String| {
        let Some((name, wanted)) = parse(line) else { return false };
        let found = there.iter().find(|(other, _)| *other == name);
        found.is_some_and(|(_, found)| wanted.iter().all(|domain| found.contains(domain)))
    };
    lines.iter().find(|line| !same(line)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Rdt> {
        Rdt::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn lines_are_in_the_specs_order() {
        let plan = plan(
            r#"{"closID":"gold","schemata":["L2:0=f"],"memBwSchema":"MB:0=20","l3CacheSchema":"L3:0=7f"}"#,
        );
        let plan = plan.unwrap();
        assert_eq!(plan.schemata, ["L3:0=7f", "MB:0=20", "L2:0=f"]);
        assert_eq!((plan.compared, plan.class.as_deref()), (2, Some("gold")));
    }

    #[test]
    fn the_default_class_is_the_top() {
        assert_eq!(plan(r#"{"closID":"/"}"#).unwrap().class.as_deref(), Some(""));
        assert_eq!(plan("{}").unwrap().class, None);
        assert_eq!(plan(r#"{"closID":"","enableMonitoring":true}"#).unwrap().class, None);
    }

    #[test]
    fn names_and_schemata_that_are_none_are_refused() {
        for json in [
            r#"{"closID":"a/b"}"#,
            r#"{"closID":".."}"#,
            r#"{"closID":"mon_groups"}"#,
            r#"{"memBwSchema":"L3:0=f"}"#,
            r#"{"memBwSchema":"MB:0=20\nL3:0=f"}"#,
            r#"{"schemata":["L3:0=f","MB:0=2\n"]}"#,
            r#"{"l3CacheSchema":"7f0"}"#,
            r#"{"l3CacheSchema":"L3:"}"#,
            r#"{"schemata":["L3:0="]}"#,
        ] {
            let error = format!("{:#}", plan(json).unwrap_err());
            assert!(error.starts_with("linux.intelRdt."), "{error}");
        }
        assert!(plan(r#"{"l3CacheSchema":"L3DATA:0=f\nL3CODE:0=f"}"#).is_ok());
    }

    #[test]
    fn schemata_are_the_same_whatever_they_look_like() {
        let file = "    L3:0=007f0;1=0001f\n    MB:0= 20;1=100\n";
        let differs = |line: &str| differing(&[line.to_owned()], file).is_some();
        assert!(!differs("L3:0=7f0;1=1f") && !differs("L3:1=1f") && !differs("MB:1=100;0=20"));
        assert!(differs("L3:0=7f") && differs("L2:0=7f0") && differs("MB:2=20"));
    }
}
