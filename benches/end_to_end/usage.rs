//! What processes have used, as the kernel counts it in `/proc`.

use std::fs;

use super::harness::Cluster;

/// In which `/proc` counts CPU time, a second: fixed for programs on Linux, whatever the kernel's own clock does.
const TICKS: f64 = 100.0;

/// `/proc` says kB and means 1024 bytes.
const KIB_IN_MIB: f64 = 1024.0;

/// CPU seconds of a process so far, in its own code and in the kernel's, all its threads together.
pub(crate) fn cpu(process: u32) -> f64 {
    times(process).map_or(0.0, |times| seconds(times.own))
}

/// The same of all its threads that live, to the nanosecond: for a process that does next to nothing.
pub(crate) fn little_cpu(process: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let times = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    times.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

/// CPU seconds of the whole database server so far: its first process, its children, and those that have ended.
pub(crate) fn cpu_of_server(cluster: &Cluster) -> f64 {
    let pid_file = cluster.directory().join("data/postmaster.pid");
    let first: u32 = fs::read_to_string(pid_file).unwrap().lines().next().unwrap().trim().parse().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children: u64 = ids.filter_map(times).filter(|times| times.parent == first).map(|times| times.own).sum();
    let first = times(first).unwrap();
    seconds(first.own + first.ended_children + children)
}

/// Memory that a process holds, in MiB.
pub(crate) fn memory(process: u32) -> f64 {
    status(process, "VmRSS:")
}

/// The most memory that a process has held, in MiB.
pub(crate) fn peak_memory(process: u32) -> f64 {
    status(process, "VmHWM:")
}

struct Times {
    parent: u32,
    own: u64,
    ended_children: u64,
}

/// `None`: the process is gone.
fn times(process: u32) -> Option<Times> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name comes first, in parentheses, and may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number)?.parse::<u64>().ok();
    Some(Times {
        parent: fields.get(1)?.parse().ok()?,
        own: field(11)? + field(12)?,
        ended_children: field(13)? + field(14)?,
    })
}

fn status(process: u32, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / KIB_IN_MIB
}

#[expect(clippy::cast_precision_loss, reason = "ticks stay far below 2^52")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS
}
