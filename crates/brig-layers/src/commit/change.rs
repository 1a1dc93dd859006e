//! `commit --change`: Dockerfile instructions that concern how an image is run, applied to its config as in
//! docker and podman.

use crate::bundle::convert::volume_mount;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// Applies all changes to the config, in order.
///
/// # Errors
///
/// If an instruction is unknown or malformed, or the config is not valid.
pub fn apply(config: &str, changes: &[String]) -> Result<String> {
    if changes.is_empty() {
        return Ok(config.to_owned());
    }
    let mut config: Value = serde_json::from_str(config).context("the image's config")?;
    ensure!(config.is_object(), "the image's config is not an object");
    if !config["config"].is_object() {
        config["config"] = json!({});
    }
    let run = config["config"].as_object_mut().context("the image's config")?;
    let mut has_command = false;
    for change in changes {
        let (name, rest) = split(change);
        has_command |= name == "CMD";
        one(run, &name, rest, has_command).with_context(|| format!("--change {change:?}"))?;
    }
    Ok(serde_json::to_string(&config)?)
}

/// Splits `CMD x`, or as in podman also `CMD=x`.
fn split(change: &str) -> (String, &str) {
    let change = change.trim();
    let end = change.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(change.len());
    let rest = change[end..].strip_prefix('=').unwrap_or(&change[end..]);
    (change[..end].to_ascii_uppercase(), rest.trim())
}

fn one(run: &mut Map<String, Value>, name: &str, rest: &str, has_command: bool) -> Result<()> {
    ensure!(!rest.is_empty(), "is empty");
    match name {
        "CMD" => drop(run.insert("Cmd".into(), command(rest))),
        "ENTRYPOINT" => {
            run.insert("Entrypoint".into(), command(rest));
            // Drop arguments of the old entrypoint, unless they are given again.
            if !has_command {
                run.remove("Cmd");
            }
        }
        "ENV" => {
            for (key, value) in pairs(rest)? {
                let list = run.entry("Env").or_insert(Value::Null);
                let mut list = list.as_array().cloned().unwrap_or_default();
                list.retain(|known| {
                    let known = known.as_str().unwrap_or_default();
                    known.split_once('=').is_none_or(|(name, _)| name != key)
                });
                list.push(json!(format!("{key}={value}")));
                run.insert("Env".into(), list.into());
            }
        }
        "LABEL" => {
            for (key, value) in pairs(rest)? {
                member(run, "Labels")?.insert(key, value.into());
            }
        }
        "EXPOSE" => {
            for port in words(rest)? {
                let port = if port.contains('/') { port } else { format!("{port}/tcp") };
                ensure!(is_port(&port), "{port} is not a port");
                member(run, "ExposedPorts")?.insert(port, json!({}));
            }
        }
        "VOLUME" => {
            let paths = serde_json::from_str(rest).map_or_else(|_| words(rest), Ok)?;
            for path in paths {
                // As when the image is run.
                volume_mount(&path)?;
                member(run, "Volumes")?.insert(path, json!({}));
            }
        }
        "USER" => drop(run.insert("User".into(), rest.into())),
        "STOPSIGNAL" => drop(run.insert("StopSignal".into(), rest.into())),
        "WORKDIR" => {
            let before = run.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
            let path = match rest.starts_with('/') {
                true => rest.to_owned(),
                false => format!("{}/{rest}", before.trim_end_matches('/')),
            };
            run.insert("WorkingDir".into(), path.into());
        }
        _ => bail!(
            "unknown instruction: valid are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR"
        ),
    }
    Ok(())
}

/// Whether it is a port or a range, e.g. `80/tcp` or `8000-8010/udp`.
fn is_port(text: &str) -> bool {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |port: &str| port.parse::<u16>().ok();
    let in_order = number(first).zip(number(last)).is_some_and(|(first, last)| first <= last);
    in_order && ["tcp", "udp", "sctp"].contains(&protocol)
}

/// A map in the config, created if missing; Go writes an empty one as null.
fn member<'a>(run: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Map<String, Value>> {
    let member = run.entry(name).or_insert(Value::Null);
    if !member.is_object() {
        *member = json!({});
    }
    member.as_object_mut().context("not an object")
}

/// Parses a JSON list, or a shell command line.
fn command(text: &str) -> Value {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(list) => json!(list),
        Err(_) => json!(["/bin/sh", "-c", text]),
    }
}

/// Parses `A=b C="d e"`, or a single `A b`.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let words = words(text)?;
    if let Some((name, value)) = text.split_once(char::is_whitespace)
        && !words[0].contains('=')
    {
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| {
        let (name, value) = word.split_once('=').with_context(|| format!("{word}: NAME=VALUE"))?;
        ensure!(!name.is_empty(), "{word}: has no name");
        Ok((name.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}

/// Splits words like a shell: quotes, backslashes.
fn words(text: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let now = word.get_or_insert_default();
        match letter {
            // Between double quotes, a backslash is literal except before the characters that it escapes
            // there.
            '\\' if quote == Some('"') => {
                let next = letters.next();
                if !next.is_some_and(|next| "\"\\$".contains(next)) {
                    now.push('\\');
                }
                now.extend(next);
            }
            '\\' if quote.is_none() => now.extend(letters.next()),
            _ if quote == Some(letter) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(letter),
            _ if quote.is_none() && letter.is_whitespace() => {
                words.extend(word.take().filter(|word| !word.is_empty()));
            }
            _ => now.push(letter),
        }
    }
    ensure!(quote.is_none(), "a quote without its end");
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(base: &str, changes: &[&str]) -> Result<Value> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        Ok(serde_json::from_str::<Value>(&apply(base, &changes)?)?["config"].clone())
    }

    #[test]
    fn instructions_change_how_an_image_is_run() {
        let base =
            r#"{"config":{"Cmd":["old"],"Env":["A=1","B=2"],"Labels":null,"WorkingDir":"/w"}}"#;
        let config = changed(
            base,
            &[
                "ENTRYPOINT [\"/bin/x\", \"-y\"]",
                "CMD=echo hi",
                "env A=3 C=\"d e\" F=g\\ h",
                "ENV LONG two words",
                "LABEL l='m n'",
                "ENV G=\"h\\n\\\"\" ",
                "EXPOSE 80 53/udp 8000-8010",
                "VOLUME [\"/data\"]",
                "VOLUME /a /b",
                "USER web:web",
                "WORKDIR sub",
                "STOPSIGNAL SIGINT",
            ],
        );
        let expected = json!({
            "Entrypoint": ["/bin/x", "-y"], "Cmd": ["/bin/sh", "-c", "echo hi"],
            "Env": ["B=2", "A=3", "C=d e", "F=g h", "LONG=two words", "G=h\\n\""], "Labels": {"l": "m n"},
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000-8010/tcp": {}},
            "Volumes": {"/data": {}, "/a": {}, "/b": {}},
            "User": "web:web", "WorkingDir": "/w/sub", "StopSignal": "SIGINT",
        });
        assert_eq!(config.unwrap(), expected);
        // A new entrypoint discards the arguments of the old one.
        assert_eq!(changed(base, &["ENTRYPOINT x"]).unwrap()["Cmd"], Value::Null);
        assert_eq!(changed(r#"{"config":null}"#, &["CMD x"]).unwrap()["Cmd"][2], "x");
        assert_eq!(changed(base, &[]).unwrap()["Cmd"][0], "old");
    }

    #[test]
    fn what_cannot_be_changed_is_named() {
        for change in [
            "RUN x",
            "CMD",
            "ENV A",
            "ENV A=\"b",
            "EXPOSE no",
            "",
            "ENV =x",
            "EXPOSE 80/x",
            "EXPOSE 80-70",
            "VOLUME /",
            "VOLUME /a/../b",
        ] {
            let error = changed(r#"{"config":{}}"#, &[change]).unwrap_err();
            assert!(format!("{error:#}").contains("--change"), "{error:#}");
        }
    }
}
