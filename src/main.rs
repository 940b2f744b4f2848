//! Arguments, one command, an exit code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One thread: on the small machines that this runs beside a database it is faster than two, at half the CPU.
    let runtime = match tokio::runtime::Builder::new_current_thread().event_interval(16).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(lead_webhook::cli::main());
    // A look-up that hangs in the system's resolver must not hold the end up.
    runtime.shutdown_background();
    ExitCode::from(code)
}
