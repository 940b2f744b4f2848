//! `lead-webhook verify`: whether a signature fits a body, for whoever writes a receiver. It needs neither configuration nor
//! database.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{Failure, output};
use crate::{
    delivery::diagnosis::{Diagnosis, Signature},
    secret::SigningSecret,
};

/// More than any body that is sent, bytes.
pub(super) const MOST: u64 = 16 * 1024 * 1024;

/// What is to be verified, as the command line has it.
pub(super) struct Words {
    pub(super) secret_file: PathBuf,
    pub(super) signature: String,
    pub(super) id: Option<String>,
    pub(super) timestamp: Option<i64>,
    pub(super) body_file: Option<PathBuf>,
}

/// Verifies, and says what is wrong. Exit code 1 unless it fits.
pub(super) fn verify(words: Words) -> Result<(), Failure> {
    let secrets = secrets(&words.secret_file);
    let signature = signature(words.signature.trim(), words.id, words.timestamp);
    let body = body(words.body_file.as_deref());
    let problems: Vec<String> = [secrets.as_ref().err(), signature.as_ref().err(), body.as_ref().err()]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let (Ok(secrets), Ok(signature), Ok(body)) = (secrets, signature, body) else {
        return Err(Failure::Arguments(problems.join("\n")));
    };
    let diagnosis = signature.diagnose(&secrets, &body);
    let covered = match (diagnosis, &signature) {
        (Diagnosis::Wrong, Signature::Standard { .. }) => "; --id and --timestamp have to be of the same request",
        _ => "",
    };
    match why(diagnosis) {
        None => {
            output::data("the signature fits")?;
            if let Some(note) = signature.timestamp().and_then(|sent| stale(sent, Timestamp::now())) {
                output::message(&note);
            }
            Ok(())
        }
        Some(why) => Err(Failure::Operation(format!("the signature does not fit: {why}{covered}"))),
    }
}

/// By how many seconds the libraries for Standard Webhooks let a timestamp differ from their clock.
const TOLERANCE: i64 = 300;

/// What a receiver says of a signature of then, though it fits; `None`: nothing.
fn stale(sent: i64, now: Timestamp) -> Option<String> {
    let by = now.as_second().saturating_sub(sent);
    let side = if by > 0 { "behind" } else { "ahead of" };
    (by.saturating_abs() > TOLERANCE).then(|| {
        format!(
            "webhook-timestamp is {} s {side} this host's clock: receivers that allow {TOLERANCE} s, as most libraries do, refuse it now",
            by.saturating_abs()
        )
    })
}

/// Why a signature does not fit, and what helps; `None`: it fits.
pub(super) fn why(diagnosis: Diagnosis) -> Option<&'static str> {
    Some(match diagnosis {
        Diagnosis::Right => return None,
        Diagnosis::Malformed => {
            "it is none, or cut off: sha256= and 64 hex digits, or v1, and the base64 of 32 bytes, 44 characters"
        }
        Diagnosis::Empty => {
            "the body is empty: something has read it before; take the raw bytes where they come in, before anything parses them"
        }
        Diagnosis::ByteOrderMark => {
            "the body begins with a byte order mark that was not sent: keep the bytes as they come, and save them without one"
        }
        Diagnosis::LineBreak => {
            "the body has a line break or a blank at its end that was not sent: keep the bytes as they come, and save them without \
             one"
        }
        Diagnosis::Reserialised => {
            "the body was parsed and written anew on the way, with other white space or escapes: verify the raw bytes, before \
             anything parses them"
        }
        Diagnosis::Reordered => {
            "the body was parsed and written anew on the way, with its members in another order: verify the raw bytes, before \
             anything parses them"
        }
        Diagnosis::OtherKey => {
            "it was made with the other scheme's key: that of X-Wilow-Signature is the whole text, whsec_ included, that of \
             webhook-signature the bytes that the text after whsec_ is the base64 of"
        }
        Diagnosis::BodyAlone => {
            "it was made over the body alone: webhook-signature covers webhook-id, a dot, webhook-timestamp, a dot and the body"
        }
        Diagnosis::Wrong => {
            "it was made with another secret, or over another body: compare both with what was sent; after `secret generate` \
             only the new secret counts"
        }
    })
}

/// Reads the file of `--secret-file`: a secret, or one a line, as receivers keep them while one takes another's place.
pub(super) fn secrets(path: &Path) -> Result<Vec<SigningSecret>, String> {
    let place = format!("--secret-file {}", path.display());
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text));
    read.map_err(|error| format!("{place}: cannot be read ({error})"))?;
    let parse = |(nth, line): (usize, &str)| {
        SigningSecret::parse(line).map_err(|error| format!("{place}: line {}: {error}", nth + 1))
    };
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let secrets = lines.map(parse).collect::<Result<Vec<_>, _>>()?;
    if secrets.is_empty() { Err(format!("{place}: is empty: put the secret into it")) } else { Ok(secrets) }
}

/// Either scheme, told by how it begins.
fn signature(text: &str, id: Option<String>, timestamp: Option<i64>) -> Result<Signature, String> {
    if text.starts_with("sha256=") {
        return match (id, timestamp) {
            (None, None) => Ok(Signature::Hex(text.to_owned())),
            _ => {
                Err("--id and --timestamp belong to webhook-signature: X-Wilow-Signature covers the body alone"
                    .to_owned())
            }
        };
    }
    if !text.starts_with("v1,") {
        return Err("--signature is neither `sha256=…`, as in X-Wilow-Signature, nor `v1,…`, as in webhook-signature"
            .to_owned());
    }
    match (id, timestamp) {
        (Some(id), Some(timestamp)) => Ok(Signature::Standard { signatures: text.to_owned(), id, timestamp }),
        _ => {
            Err("webhook-signature covers two more headers: give --id (webhook-id) and --timestamp (webhook-timestamp)"
                .to_owned())
        }
    }
}

fn body(path: Option<&Path>) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let (place, read) = match path.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            (path.display().to_string(), File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut body)))
        }
        None => ("standard input".to_owned(), io::stdin().lock().take(MOST).read_to_end(&mut body)),
    };
    read.map_err(|error| format!("the body, {place}: cannot be read ({error})"))?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_told_by_how_the_signature_begins() {
        let id = || Some("1b671a64".to_owned());
        assert!(matches!(signature("sha256=00", None, None), Ok(Signature::Hex(_))));
        assert!(matches!(signature("v1,AA==", id(), Some(1)), Ok(Signature::Standard { .. })));
        for (text, id, timestamp, problem) in [
            ("00ff", None, None, "neither `sha256=…`"),
            ("v1,AA==", None, Some(1), "give --id"),
            ("sha256=00", id(), Some(1), "covers the body alone"),
        ] {
            assert!(signature(text, id, timestamp).unwrap_err().contains(problem), "{text}");
        }
    }

    #[test]
    fn an_old_timestamp_is_told_though_the_signature_fits() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let told = |sent| stale(sent, now);
        assert_eq!([told(1_000_000 - TOLERANCE), told(1_000_000 + TOLERANCE)], [None, None]);
        assert!(told(999_000).unwrap().starts_with("webhook-timestamp is 1000 s behind"));
        assert!(told(1_001_000).unwrap().starts_with("webhook-timestamp is 1000 s ahead of"));
        assert!(told(i64::MIN).is_some() && told(i64::MAX).is_some());
    }
}
