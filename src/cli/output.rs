//! Where a command's words go: data to stdout, messages to stderr.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Failure,
    fields::{printable, printable_json},
};

/// A line of data.
///
/// # Errors
/// As [`taken`].
pub(super) fn data(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    taken(writeln!(stdout, "{line}").and_then(|()| stdout.flush()))
}

/// A line that is a JSON object.
///
/// # Errors
/// As [`taken`].
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    data(&printable_json(&serde_json::to_string(value).map_err(Failure::operation)?))
}

/// What became of data that was `written`: a reader that closes early (`| head`) wants no more, which is no error.
///
/// # Errors
/// [`Failure::Operation`] where the data is lost, as on a full disk.
pub(super) fn taken(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Operation(format!("stdout: {error}"))),
        _ => Ok(()),
    }
}

/// Whether anybody still reads what goes to stdout: a command that has no end by itself ends with them.
pub(super) fn is_read() -> bool {
    let stdout = io::stdout();
    // A pipe that nobody reads has an error to tell, whatever is asked of it.
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    !matches!(poll(&mut asked, Some(&Timespec::default())), Ok(1..))
}

/// A line, or several, for the person at the terminal.
pub(super) fn message(text: &str) {
    let line = text.lines().map(printable).collect::<Vec<_>>().join("\n");
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// An error; several problems stand one a line.
pub(super) fn error(text: &str) {
    message(&format!("lead-webhook: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_data_is_an_error_and_a_reader_that_wants_no_more_is_none() {
        assert!(taken(Ok(())).is_ok());
        assert!(taken(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        let lost = taken(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(lost.exit_code(), 1);
        assert!(lost.to_string().starts_with("stdout: "), "{lost}");
    }
}
