//! Finds the flag of exec that has set a value of the process.

use super::ProcessOptions;
use crate::spec;

/// The flag that has set the value at this place: `--env` for the last of `process.env`. None if it is the
/// container's own.
pub fn of_place(
    place: &str,
    process: &spec::Process,
    options: &ProcessOptions,
) -> Option<&'static str> {
    let field = place.strip_prefix("process.")?;
    let (field, index) = match field.strip_suffix(']').and_then(|field| field.rsplit_once('[')) {
        Some((list, index)) => (list, index.parse().ok()?),
        None => (field, 0),
    };
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    // Values of flags are appended to the container's own.
    let added = |all: usize, by_flags: usize| index + by_flags >= all;
    let capabilities = |set: &str| {
        let sets = process.capabilities.as_ref()?;
        Some(match set {
            "bounding" => sets.bounding.len(),
            "effective" => sets.effective.len(),
            "permitted" => sets.permitted.len(),
            "ambient" if !sets.inheritable.is_empty() => sets.ambient.len(),
            _ => return None,
        })
    };
    let (flag, is_its) = match field {
        "cwd" => ("--cwd", given(&options.cwd)),
        "apparmorProfile" => ("--apparmor", given(&options.apparmor)),
        "selinuxLabel" => ("--process-label", given(&options.process_label)),
        "user.uid" | "user.gid" => ("--user", options.user.is_some()),
        "env" => ("--env", added(process.env.len(), options.env.len())),
        "user.additionalGids" => (
            "--additional-gids",
            added(process.user.additional_gids.len(), options.additional_gids.len()),
        ),
        _ => {
            let all = capabilities(field.strip_prefix("capabilities.")?)?;
            ("--cap", added(all, options.capabilities.len()))
        }
    };
    is_its.then_some(flag)
}
