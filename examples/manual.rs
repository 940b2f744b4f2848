//! Writes manual pages and completions into a directory: `cargo run --example manual -- target/manual`.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use lead_webhook::cli::args::Cli;

fn main() -> io::Result<ExitCode> {
    let Some(directory) = std::env::args_os().nth(1) else {
        writeln!(io::stderr(), "manual: which directory?")?;
        return Ok(ExitCode::from(2));
    };
    let (manual, completions) = (Path::new(&directory).join("man"), Path::new(&directory).join("completions"));
    for directory in [&manual, &completions] {
        fs::create_dir_all(directory)?;
    }
    clap_mangen::generate_to(Cli::command(), &manual)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "lead-webhook", &completions)?;
    }
    Ok(ExitCode::SUCCESS)
}
