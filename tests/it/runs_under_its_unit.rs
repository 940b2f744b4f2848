//! The unit, under a real systemd: the daemon starts, sends, reloads, comes back and stops, and each restriction holds.

use std::{
    fs,
    io::{Write as _, stderr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    audit::Audit,
    harness::{Setup, left_out, patiently, program},
    own_world::World,
};

const UNIT: &str = include_str!("../../systemd/lead-webhook.service");
const SYSUSERS: &str = include_str!("../../systemd/lead-webhook.sysusers");
const BOOT: &str = include_str!("runs_under_its_unit/boot.sh");

/// Where cgroups can be made that have nothing to do with the machine's own, and all that it takes to boot is allowed.
const WORLD: World = World {
    what: "a systemd of its own",
    namespaces: &["--net", "--mount"],
    make: "ip link set lo up && mount -t tmpfs -o mode=1777 tmpfs /mnt && mkdir /mnt/cgroup &&
        mount -t cgroup2 cgroup2 /mnt/cgroup && test -x /lib/systemd/systemd &&
        mkdir /mnt/layer /mnt/work /mnt/root && unshare --pid --mount --uts --ipc --cgroup --fork \\
        mount -t overlay -o lowerdir=/,upperdir=/mnt/layer,workdir=/mnt/work overlay /mnt/root",
    files: &[],
};

/// Between two looks how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// A running systemd. Killed when dropped, and with it all that it has started.
struct Systemd {
    /// Its first process is a child of this one.
    unshare: Child,
    cgroup: PathBuf,
    folder: TempDir,
}

impl Systemd {
    /// Boots one over what `prepare` puts into the layer.
    async fn boot(prepare: impl FnOnce(&Path)) -> Self {
        let folder = TempDir::new_in("/mnt").unwrap();
        let layer = folder.path().join("layer");
        fs::create_dir(&layer).unwrap();
        fs::set_permissions(&layer, fs::Permissions::from_mode(0o755)).unwrap();
        prepare(&layer);
        let cgroup = PathBuf::from("/mnt/cgroup").join(folder.path().file_name().unwrap());
        fs::create_dir(&cgroup).unwrap();
        let enter = "echo $$ >\"$1/cgroup.procs\" && exec unshare --pid --mount --uts --ipc --cgroup --fork --kill-child \
                     --propagation private sh -c \"$2\" boot \"$3\"";
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let unshare = Command::new("sh")
            .args(["-c", enter, "enter"])
            .args([&cgroup, Path::new(BOOT), folder.path()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let systemd = Self { unshare, cgroup, folder };
        patiently("systemd to run", async {
            // Degraded: one of the machine's own units does not work here.
            while !["running", "degraded"].contains(&&*systemd.run(&["systemctl", "is-system-running"])) {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
        systemd
    }

    /// What a command prints inside, without the line end.
    fn run(&self, command: &[&str]) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        let first = fs::read_to_string(children).unwrap_or_default();
        let output = Command::new("nsenter")
            .args(["--target", first.trim(), "--all", "--wdns=/"])
            .args(command)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).trim_end().to_owned()
    }

    /// A property of the daemon's unit.
    fn show(&self, property: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", property, "lead-webhook"])
    }

    /// Waits until a property of the daemon's unit is this.
    async fn until(&self, property: &str, value: &str) {
        patiently(&format!("{property} to be {value}"), async {
            while self.show(property) != value {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }

    /// Waits until the journal holds so many lines with this text.
    async fn until_said(&self, text: &str, times: usize) {
        patiently(&format!("the journal to say {text} {times} times"), async {
            while self.run(&["journalctl", "--unit=lead-webhook", "--output=cat"]).matches(text).count() < times {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let said = self.run(&["journalctl", "--no-pager"]) + &log;
            let _ = stderr().write_all(said.as_bytes());
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        while fs::read_to_string(self.cgroup.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1")) {
            thread::yield_now();
        }
        remove(&self.cgroup);
    }
}

/// A cgroup's files go with it, so that only the groups below it are to be removed.
fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

fn put(layer: &Path, path: &str, text: impl AsRef<[u8]>, mode: u32) {
    let path = layer.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// As README.md says that it is installed.
fn install(layer: &Path, setup: &Setup) {
    let here = |line: &str| !line.starts_with("file = ");
    let config = fs::read_to_string(setup.config_file()).unwrap();
    let config: String = config.lines().filter(|line| here(line)).map(|line| format!("{line}\n")).collect();
    let config = config.replace(setup.receiver.ca_file().to_str().unwrap(), "/etc/lead-webhook/ca.pem");
    put(layer, "usr/bin/lead-webhook", fs::read(program()).unwrap(), 0o755);
    put(layer, "etc/lead-webhook/lead-webhook.toml", config, 0o644);
    put(layer, "etc/lead-webhook/ca.pem", fs::read(setup.receiver.ca_file()).unwrap(), 0o644);
    put(layer, "etc/lead-webhook/keys", fs::read(setup.key_file()).unwrap(), 0o600);
    put(layer, "usr/lib/sysusers.d/lead-webhook.conf", SYSUSERS, 0o644);
    put(layer, "etc/systemd/system/lead-webhook.service", UNIT, 0o644);
}

#[tokio::test]
async fn the_daemon_starts_sends_reloads_comes_back_and_stops_under_its_unit() {
    let name = "runs_under_its_unit::the_daemon_starts_sends_reloads_comes_back_and_stops_under_its_unit";
    if !WORLD.is_here(name) {
        return;
    }
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let systemd = Systemd::boot(|layer| install(layer, &setup)).await;
    // It returns when the daemon has said READY.
    assert_eq!(systemd.run(&["systemctl", "start", "lead-webhook"]), "");
    assert_eq!(systemd.show("ActiveState"), "active");
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    assert!(systemd.show("StatusText").contains("database connected"), "{}", systemd.show("StatusText"));

    assert_eq!(systemd.run(&["systemctl", "reload", "lead-webhook"]), "");
    systemd.until_said("reloaded", 1).await;

    systemd.run(&["systemctl", "kill", "--signal=KILL", "lead-webhook"]);
    systemd.until("NRestarts", "1").await;
    systemd.until("ActiveState", "active").await;
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(2).await;

    // One that hangs is ended and started anew: soon, so that nobody waits for it here.
    let soon = "mkdir /etc/systemd/system/lead-webhook.service.d &&
        printf '[Service]\nWatchdogSec=5\n' >/etc/systemd/system/lead-webhook.service.d/soon.conf &&
        systemctl daemon-reload && systemctl restart lead-webhook";
    assert_eq!(systemd.run(&["sh", "-c", soon]), "");
    systemd.run(&["systemctl", "kill", "--signal=STOP", "lead-webhook"]);
    systemd.until("NRestarts", "1").await;
    systemd.until("ActiveState", "active").await;
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(3).await;

    assert_eq!(systemd.run(&["systemctl", "stop", "lead-webhook"]), "");
    assert_eq!((systemd.show("ActiveState"), systemd.show("Result")), ("inactive".to_owned(), "success".to_owned()));
    systemd.until_said("\"stopped\"", 2).await;

    // The journal can be asked by each field.
    let journald = "printf '[Service]\nEnvironment=LEAD_WEBHOOK__LOG__FORMAT=journald\n' \
        >/etc/systemd/system/lead-webhook.service.d/journald.conf &&
        systemctl daemon-reload && systemctl start lead-webhook && systemctl stop lead-webhook && journalctl --sync";
    assert_eq!(systemd.run(&["sh", "-c", journald]), "");
    assert_eq!(systemd.run(&["journalctl", "--output=cat", "TABLE=public.leads"]), "starting");

    // A bad configuration is not mended by a restart.
    let wrong = "[database]\nurl = 5\n";
    systemd.run(&["sh", "-c", &format!("printf '{wrong}' >/etc/lead-webhook/lead-webhook.toml")]);
    systemd.run(&["systemctl", "start", "lead-webhook"]);
    systemd.until("ActiveState", "failed").await;
    assert_eq!((systemd.show("ExecMainStatus"), systemd.show("NRestarts")), ("78".to_owned(), "0".to_owned()));
    Audit::of(&setup).await.assert_sound();
}

/// What succeeds for root without the unit, and fails for root with it, each by the setting that it is named after.
const PROBES: [(&str, &str); 22] = [
    ("ProtectSystem", "touch /usr/.probe"),
    ("ProtectSystem", "touch /var/.probe"),
    ("ProtectHome", "ls /root"),
    ("PrivateTmp", "test -e /tmp/outside"),
    ("PrivateDevices", "test -e /dev/other"),
    ("ProcSubset", "test -e /proc/sys/kernel"),
    ("ProtectControlGroups", "mkdir /sys/fs/cgroup/probe && rmdir /sys/fs/cgroup/probe"),
    ("ProtectHostname", "hostname probe"),
    ("ProtectKernelLogs", "dmesg"),
    ("NoNewPrivileges", "grep '^NoNewPrivs:.0$' /proc/self/status"),
    ("CapabilityBoundingSet", "! grep '^CapBnd:.0*$' /proc/self/status"),
    ("PrivateUsers", "grep 4294967295 /proc/self/uid_map"),
    ("PrivateIPC", "test \"$(readlink /proc/self/ns/ipc)\" = \"$(cat /etc/ipc)\""),
    ("RestrictNamespaces", "unshare --mount true"),
    ("RestrictRealtime", "chrt --rr 1 true"),
    ("RestrictSUIDSGID", "cp /bin/true /tmp/true && chmod u+s /tmp/true"),
    ("LockPersonality", "setarch --addr-no-randomize true"),
    ("MemoryDenyWriteExecute", "perl -e 'exit(syscall(9, 0, 4096, 7, 34, -1, 0) == -1)'"),
    ("RestrictAddressFamilies", "perl -e 'exit(!socket(my $netlink, 16, 3, 0))'"),
    ("SystemCallFilter, @privileged", "chroot / true"),
    ("SystemCallFilter, @resources", "renice -n 1 $$"),
    ("LimitCORE", "test \"$(ulimit -H -c)\" != 0"),
];

/// The unit's restrictions around other commands. As root, so that none fails for want of a right on a file.
fn probe_unit(restrictions: &str) -> String {
    let ours = ["Type", "NotifyAccess", "Exec", "Watchdog", "Restart", "LoadCredential", "User", "Group"];
    let kept = |line: &&str| {
        let setting = line.split('=').next().unwrap_or_default();
        !ours.iter().any(|name| setting.starts_with(name))
    };
    let service = restrictions.split("[Service]").last().unwrap().split("[Install]").next().unwrap();
    let service: String = service.lines().filter(kept).map(|line| format!("{line}\n")).collect();
    format!("[Service]\nType=oneshot\nStandardOutput=file:/run/%n\nExecStart=/bin/sh /etc/probes\n{service}")
}

#[tokio::test]
async fn each_restriction_of_the_unit_forbids_what_would_succeed_without_it() {
    let name = "runs_under_its_unit::each_restriction_of_the_unit_forbids_what_would_succeed_without_it";
    if !cfg!(target_arch = "x86_64") {
        left_out("the unit's restrictions, some of which are tried by the numbers of x86_64's system calls");
        return;
    }
    if !WORLD.is_here(name) {
        return;
    }
    let attempt = |(number, (_, command)): (usize, &(&str, &str))| {
        format!("if {{ {command}; }} >/dev/null 2>&1; then echo {number} done; else echo {number} failed; fi\n")
    };
    let probes: String = PROBES.iter().enumerate().map(attempt).collect();
    let systemd = Systemd::boot(|layer| {
        put(layer, "etc/probes", probes, 0o755);
        put(layer, "etc/systemd/system/free.service", probe_unit(""), 0o644);
        put(layer, "etc/systemd/system/bound.service", probe_unit(UNIT), 0o644);
    })
    .await;
    systemd.run(&["sh", "-c", "touch /tmp/outside; readlink /proc/1/ns/ipc >/etc/ipc"]);
    let tried = |unit: &str| {
        assert_eq!(systemd.run(&["systemctl", "start", unit]), "");
        let ended = systemd.run(&["cat", &format!("/run/{unit}.service")]);
        let ended: Vec<bool> = ended.lines().map(|line| line.ends_with("done")).collect();
        assert_eq!(ended.len(), PROBES.len(), "{unit}");
        ended
    };
    let (free, bound) = (tried("free"), tried("bound"));
    let mut faults = Vec::new();
    for ((setting, command), (free, bound)) in PROBES.iter().zip(free.into_iter().zip(bound)) {
        if !free {
            faults.push(format!("{setting}: `{command}` fails without the unit too"));
        }
        if bound {
            faults.push(format!("{setting}: `{command}` succeeds with the unit"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
