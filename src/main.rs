//! Arguments, one command, an exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many tasks run between two looks at the sockets. Fewer than usual: the answers that a claim waits for stand behind
/// those of all attempts. Half as many cost more than they gain.
const EVENT_INTERVAL: u32 = 16;

fn main() -> ExitCode {
    keep_memory_to_ourselves();
    #[cfg(feature = "failpoints")]
    lead_webhook::failpoint::arm();
    // One thread: on the small machines that this runs beside a database it is faster than two, at half the CPU.
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = match builder.event_interval(EVENT_INTERVAL).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ExitCode::from(lead_webhook::cli::without_runtime(&error)),
    };
    let code = runtime.block_on(lead_webhook::cli::main());
    // A look-up that hangs in the system's resolver must not hold the end up.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// A core dump would hold keys, secrets and leads, and so would what other processes of this user could read of ours.
fn keep_memory_to_ourselves() {
    #[cfg(target_os = "linux")]
    // The kernel refuses values that it does not know, and nothing else.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
