//! One or two examples of each command: the end of its `--help`, and EXAMPLES of its manual page.

/// The examples of a command, one per line.
pub(super) fn examples(command: &str) -> &'static str {
    match command {
        "checkpoint" => {
            "brig checkpoint --image-path /tmp/web web\n\
             brig checkpoint --image-path /tmp/web --leave-running web"
        }
        "create" => {
            "brig create --bundle /tmp/bundle web\n\
             brig create --pid-file web.pid --console-socket tty.sock web"
        }
        "delete" => "brig delete web\nbrig delete --force --regex 'test-.*'",
        "doctor" => "brig doctor\nbrig doctor /tmp/bundle",
        "events" => "brig events --interval 1s web\nbrig events --stats web",
        "exec" => "brig exec -t web sh\nbrig exec --user 1000:1000 --env A=b web id",
        "features" => "brig features",
        "inspect" => "brig inspect web\nbrig inspect --syscall mount --format json web",
        "kill" => "brig kill web\nbrig kill --all web KILL",
        "lint" => "brig lint /tmp/bundle\nbrig lint --here /tmp/bundle",
        "list" => "brig list\nbrig list --quiet",
        "mounts" => {
            "echo '[{\"destination\":\"/data\",\"source\":\"/srv\",\"options\":[\"bind\"]}]' >m.json\n\
             brig mounts add web m.json\n\
             brig mounts remove web m.json"
        }
        "pause" => "brig pause web",
        "ps" => "brig ps web\nbrig ps web -o pid,comm",
        "restore" => {
            "brig restore --image-path /tmp/web --bundle /tmp/bundle --detach web\n\
             brig restore --image-path /tmp/web --bundle /tmp/bundle2 --detach web2"
        }
        "resume" => "brig resume web",
        "run" => "brig run --bundle /tmp/bundle web",
        "seccomp" => {
            "brig seccomp explain /tmp/bundle clone3 'personality(8)'\n\
             brig seccomp diff /tmp/bundle profile.json\n\
             brig seccomp record profile.json -- run --bundle /tmp/bundle web"
        }
        "spec" => "brig spec --bundle /tmp/bundle\nbrig spec --rootless",
        "start" => "brig start web",
        "state" => "brig state web",
        "stats" => "brig stats\nbrig stats --format json web",
        "update" => {
            "brig update --memory 128m --cpu-quota 20000 web\nbrig update --dry-run --resources limits.json web"
        }
        "wait" => "brig wait web\nbrig wait --condition running --timeout 10s web",
        "brig" => "brig run --bundle /tmp/bundle web\nbrig list",
        _ => "",
    }
}
