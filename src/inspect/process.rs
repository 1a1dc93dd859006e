//! Init's ids, capabilities, seccomp filter, labels and terminal.

use super::{Row, Subject};
use crate::plan::process::{CAPABILITIES, Capabilities};
use crate::seccomp::{NATIVE, decide};
use anyhow::{Context, Result};
use oci_seccomp::explain::action_name;
use oci_seccomp::syscalls;
use serde_json::Value;
use sys::idmap::{IdMap, host_id};

pub(super) fn rows(subject: &Subject<'_>) -> Result<Vec<Row>> {
    let mut rows = vec![id("uid", "Uid", subject), id("gid", "Gid", subject)];
    rows.extend(capabilities(subject)?);
    let field = |name: &str| subject.task.field(name).map(str::to_owned);
    let process = subject.plan().map(|plan| &plan.process);
    let bound = Row::new("no_new_privs", field("NoNewPrivs").map(|value| value == "1"));
    rows.push(match process {
        Some(process) if subject.started => bound.asked(process.no_new_privileges),
        _ => bound,
    });
    rows.push(seccomp(subject));
    rows.extend(labels(subject));
    let score = Row::new("oom_score_adj", number(subject.task.text("oom_score_adj").ok()));
    rows.push(match process.and_then(|process| process.oom_score_adj) {
        Some(score_asked) => score.asked(score_asked),
        None => score,
    });
    rows.push(terminal(subject)?);
    Ok(rows)
}

fn number(text: Option<String>) -> Option<i64> {
    text?.trim().parse().ok()
}

/// The effective id on the host.
fn id(name: &str, field: &str, subject: &Subject<'_>) -> Row {
    let ids = subject.task.field(field).unwrap_or_default();
    let effective = ids.split_whitespace().nth(1).and_then(|id| id.parse::<u32>().ok());
    let row = Row::new(name, effective);
    let Some(plan) = subject.plan().filter(|_| subject.started) else { return row };
    let (maps, inside): (&[IdMap], u32) = match name {
        "uid" => (&plan.id_maps.uids, plan.process.uid),
        _ => (&plan.id_maps.gids, plan.process.gid),
    };
    let outside = match plan.process.in_user_namespace {
        // The maps of a joined namespace are not in the config.
        true if maps.is_empty() => return row,
        true => host_id(maps, inside),
        false => Some(inside),
    };
    row.asked(outside)
}

/// The five sets, and the result of execve for those of the config (capabilities(7)).
struct Sets([u64; 5]);

const SETS: [(&str, &str); 5] = [
    ("bounding", "CapBnd"),
    ("permitted", "CapPrm"),
    ("effective", "CapEff"),
    ("inheritable", "CapInh"),
    ("ambient", "CapAmb"),
];

impl Sets {
    fn after_execve(given: &Capabilities, root: bool, no_new_privileges: bool) -> Sets {
        let Capabilities { bounding, sets, ambient, .. } = *given;
        let mut permitted = if root { sets.inheritable | bounding } else { 0 };
        if no_new_privileges {
            permitted &= sets.permitted;
        }
        permitted |= ambient;
        let effective = if root { permitted } else { ambient };
        Sets([bounding, permitted, effective, sets.inheritable, ambient])
    }
}

fn names(set: u64) -> Value {
    let known = CAPABILITIES.iter().map(|name| (*name).to_owned());
    let newer = (CAPABILITIES.len()..64).map(|number| format!("CAP_{number}"));
    let held = known.chain(newer).enumerate().filter(|(number, _)| set >> number & 1 != 0);
    held.map(|(_, name)| name).collect()
}

fn capabilities(subject: &Subject<'_>) -> Result<Vec<Row>> {
    let asked = subject.plan().filter(|_| subject.started).map(|plan| {
        let process = &plan.process;
        Sets::after_execve(&process.capabilities, process.uid == 0, process.no_new_privileges).0
    });
    let mut rows = Vec::new();
    for (index, (name, field)) in SETS.into_iter().enumerate() {
        let text =
            subject.task.field(field).with_context(|| format!("its status has no {field}"))?;
        let has = u64::from_str_radix(text, 16).context(field)?;
        let row = Row::new(name, names(has));
        rows.push(match asked {
            None => row,
            Some(asked) => {
                let differ = |sign: &str, set: u64| match set {
                    0 => String::new(),
                    set => format!("{sign}: {} ", words(&names(set))),
                };
                let asked = asked[index];
                let note = differ("more", has & !asked) + &differ("less", asked & !has);
                row.asked(names(asked)).note(note.trim())
            }
        });
    }
    Ok(rows)
}

fn words(list: &Value) -> String {
    let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(" ")
}

fn seccomp(subject: &Subject<'_>) -> Row {
    let mode = match subject.task.field("Seccomp") {
        Some("0") => Some("none"),
        Some("1") => Some("strict"),
        Some("2") => Some("filter"),
        _ => None,
    };
    let filters = number(subject.task.field("Seccomp_filters").map(str::to_owned));
    let row = Row::new("seccomp", mode).more("filters", filters);
    let count =
        filters.filter(|filters| *filters > 0).map(|filters| format!("{filters} installed"));
    let row = row.note(count.unwrap_or_default());
    let Some(plan) = subject.plan() else { return row };
    let asked = if plan.process.filter.is_some() { "filter" } else { "none" };
    // A further filter, installed by brig's caller or by the program itself, removes nothing of what was
    // configured.
    let drift = subject.started && asked == "filter" && mode != Some("filter");
    Row { asked: Some(asked.into()), drift, ..row }
}

/// The decision of the config's filter about a system call, from its program.
pub(super) fn call(subject: &Subject<'_>, name: &str) -> Result<Row> {
    let plan = subject.plan().context("--syscall: what was asked is unknown")?;
    let known = syscalls::all().iter().find(|call| call.name() == name);
    let number = known.and_then(|call| call.number(NATIVE));
    let number = number.with_context(|| {
        format!("--syscall {name}: no system call of {}", std::env::consts::ARCH)
    })?;
    let row = |has: Value| Row::new(format!("seccomp {name}"), has);
    let Some(filter) = &plan.process.filter else { return Ok(row("SCMP_ACT_ALLOW".into())) };
    let outcomes = decide::outcomes(&filter.program, NATIVE.audit(), number);
    let note = if outcomes.len() > 1 { "depends on its arguments" } else { "" };
    Ok(row(outcomes.into_iter().map(action_name).collect()).note(note))
}

/// AppArmor and SELinux labels.
fn labels(subject: &Subject<'_>) -> Vec<Row> {
    let process = subject.spec().and_then(|spec| spec.process.as_ref());
    let asked = |label: Option<&String>| label.filter(|label| !label.is_empty()).cloned();
    let current = |file: &str| {
        let text = subject.task.text(file).ok()?;
        let text = text.trim_end_matches(['\0', '\n']);
        (!text.is_empty()).then(|| text.to_owned())
    };
    let profile = asked(process.and_then(|process| process.apparmor_profile.as_ref()));
    let label = asked(process.and_then(|process| process.selinux_label.as_ref()));
    let apparmor = current("attr/apparmor/current");
    let selinux = current("attr/selinux/current").or_else(|| match apparmor {
        Some(_) => None,
        None => current("attr/current"),
    });
    let row = |name, has: Option<String>, asked: Option<String>| {
        // `PROFILE (enforce)`
        let drift = subject.started
            && asked.as_ref().is_some_and(|asked| {
                let bare = has.as_deref().map(|has| has.split(" (").next().unwrap_or(has));
                bare != Some(asked)
            });
        let asked = asked.map(Value::from);
        (has.is_some() || asked.is_some()).then(|| Row { asked, drift, ..Row::new(name, has) })
    };
    [row("apparmor", apparmor, profile), row("selinux", selinux, label)]
        .into_iter()
        .flatten()
        .collect()
}

/// Its controlling terminal, by device number: names in the container are arbitrary.
fn terminal(subject: &Subject<'_>) -> Result<Row> {
    let stat = subject.task.text("stat")?;
    // The name, in parentheses, can contain any characters.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let number = fields.split_whitespace().nth(4).and_then(|field| field.parse::<i64>().ok());
    let has = number.unwrap_or(0) != 0;
    let row = Row::new("terminal", has);
    Ok(match subject.plan().filter(|_| subject.started) {
        Some(plan) => row.asked(plan.process.terminal.is_some()),
        None => row,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sys::cred::CapSets;

    #[test]
    fn execve_gives_root_the_bounding_set_and_others_the_ambient_one() {
        let sets = CapSets { effective: 1, permitted: 0b11, inheritable: 0b100 };
        let given = Capabilities { bounding: 0b111, sets, ambient: 0b100, not_ambient: 0 };
        assert_eq!(Sets::after_execve(&given, true, false).0, [0b111, 0b111, 0b111, 0b100, 0b100]);
        assert_eq!(Sets::after_execve(&given, true, true).0, [0b111, 0b111, 0b111, 0b100, 0b100]);
        assert_eq!(Sets::after_execve(&given, false, false).0, [0b111, 0b100, 0b100, 0b100, 0b100]);
    }

    #[test]
    fn capabilities_that_this_brig_does_not_know_have_numbers() {
        assert_eq!(names(1 | 1 << 50), json!(["CAP_CHOWN", "CAP_50"]));
    }
}
