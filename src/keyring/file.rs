//! The key file: reading it strictly, and making a new one.
//!
//! A line a key: the id (8 lower-case hex digits), blanks, the key (base64 of 32 bytes). Lines that begin with `#` and
//! blank lines say nothing. Key material never reaches an error, not even a byte of it: base64's own error names the
//! bad symbol, so it is dropped.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{ID_BYTES, KEY_BYTES, Key, KeyId, KeyRing};
use crate::secret::Secret;

/// Permission bits of everybody but owner and group. The group may read: systemd and container secrets use it.
const OTHERS: u32 = 0o007;

/// What a new key file begins with.
const HEADING: &str = "\
# Keys of lead-webhook: the first seals, all open. Keep a copy in a safe place: without these keys no endpoint
# can be opened again. Never copy them to staging: they are what tells a clone from the original.
";

/// Why a key file cannot be used. The operator must act; each text says how.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error(
        "key file {0}: missing: put the installation's own there; only for a new one run `lead-webhook key generate --out {0}`",
        .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A directory, a device, a socket.
    #[error("key file {}: not a regular file: let `keys.file` name one", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Everybody may read, write or execute it.
    #[error("key file {0}: open to every user (mode {mode:04o}): `chmod 0600 {0}`", .path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The operating system refuses to read it, or it is not text.
    #[error("key file {}: cannot be read: let the daemon's user own it", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// Lines that are no keys, each by its number (from 1).
    #[error("key file {}: {}", .path.display(), Listed(.problems))]
    Lines {
        /// The file.
        path: PathBuf,
        /// Every such line.
        problems: Vec<(usize, LineProblem)>,
    },
    /// Nothing but comments and blank lines.
    #[error("key file {}: holds no key: add the output of `lead-webhook key generate`", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
}

/// Why a line of the key file is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// Not two words.
    #[error("expected `<key id> <base64 of {KEY_BYTES} bytes>`")]
    NotAPair,
    /// The first word is no id.
    #[error("the key id must be {} lower-case hex digits", 2 * ID_BYTES)]
    BadId,
    /// The second word is no base64.
    #[error("the key is not base64 (standard alphabet, padded)")]
    BadBase64,
    /// Too short or too long.
    #[error("the key has {bytes} bytes, {KEY_BYTES} are needed: `lead-webhook key generate` makes one")]
    WrongLength {
        /// How many bytes it decodes to.
        bytes: usize,
    },
    /// An earlier line has the same id.
    #[error("key id {id} stands in line {first_line} already: remove one of the two")]
    DuplicateId {
        /// The id.
        id: KeyId,
        /// The earlier line.
        first_line: usize,
    },
}

/// Prints every line's problem in one text.
struct Listed<'a>(&'a [(usize, LineProblem)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, (line, problem))| {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}line {line}: {problem}")
        })
    }
}

/// Why a new key file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WriteKeyFileError {
    /// Something is there already. It is never overwritten: what it sealed could not be opened again.
    #[error("{}: exists already and is not overwritten: name another file", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system has no randomness to give.
    #[error("no random key from the operating system")]
    NoRandomness(#[source] getrandom::Error),
    /// The operating system refuses to write; nothing is left behind.
    #[error("{}: cannot be written ({source}): create the directory first, or name another", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

impl KeyRing {
    /// Reads the key file at `path`.
    ///
    /// # Errors
    /// [`KeyFileError`], by cause, with every bad line at once. The operator must act.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        Self::parse(&read_private(path)?, path)
    }

    /// The keys of a key file's `text`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, KeyFileError> {
        let keys = parse(text).map_err(|problems| KeyFileError::Lines { path: path.to_owned(), problems })?;
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or_else(|| KeyFileError::NoKey { path: path.to_owned() })?;
        Ok(Self { first, others: keys.collect() })
    }

    /// The text of a new key file: a comment and one random key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give; the operator must act.
    pub fn generate() -> Result<Secret<String>, getrandom::Error> {
        // Room for all of it at once, as in reading.
        let mut text = String::with_capacity(HEADING.len() + LINE_BYTES);
        text.push_str(HEADING);
        push_new_key(&mut text)?;
        Ok(text.into())
    }

    /// Creates the key file `path` with mode 0600 and one random key, and waits until the disk has it.
    ///
    /// # Errors
    /// [`WriteKeyFileError::Exists`] where there is anything at `path`; the others when randomness or the disk fail.
    pub fn write_new(path: &Path) -> Result<(), WriteKeyFileError> {
        let text = Self::generate().map_err(WriteKeyFileError::NoRandomness)?;
        let unwritable = |source| WriteKeyFileError::Unwritable { path: path.to_owned(), source };
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::AlreadyExists => WriteKeyFileError::Exists { path: path.to_owned() },
                    _ => unwritable(error),
                }
            })?;
        write_durably(file, path, text.expose()).map_err(|error| {
            // A half-written key file would stand in the way of the next try. That it cannot be removed says no more
            // than the error at hand.
            let _ = fs::remove_file(path);
            unwritable(error)
        })
    }
}

/// Room for a key's line.
pub(super) const LINE_BYTES: usize = 2 * ID_BYTES + 2 * KEY_BYTES;

/// Appends the line of a random key, for which `text` has room; its id.
pub(super) fn push_new_key(text: &mut String) -> Result<KeyId, getrandom::Error> {
    let mut id = [0_u8; ID_BYTES];
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom::fill(&mut id)?;
    getrandom::fill(key.as_mut())?;
    let id = KeyId(id);
    text.extend([&id.to_string(), " "]);
    STANDARD.encode_string(key.as_ref(), text);
    text.push('\n');
    Ok(id)
}

/// The directory that holds `path`.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file's content, and the entry in its directory, on the disk.
fn write_durably(mut file: File, path: &Path, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    File::open(directory(path))?.sync_all()
}

/// The text of a regular file that others have no access to.
pub(super) fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => KeyFileError::Unreadable { path: path.to_owned(), source },
    };
    // Asked by name first: opening a named pipe would wait for a writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::OpenToOthers { path: path.to_owned(), mode });
    }
    // Room for all of it at once: a buffer that grows leaves copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1));
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The keys in their order, or every line that is none.
fn parse(text: &str) -> Result<Vec<Key>, Vec<(usize, LineProblem)>> {
    let mut keys: Vec<(usize, Key)> = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            Ok(key) => match keys.iter().find(|(_, earlier)| earlier.id == key.id) {
                Some(&(first_line, _)) => problems.push((number, LineProblem::DuplicateId { id: key.id, first_line })),
                None => keys.push((number, key)),
            },
            Err(problem) => problems.push((number, problem)),
        }
    }
    if problems.is_empty() { Ok(keys.into_iter().map(|(_, key)| key).collect()) } else { Err(problems) }
}

fn parse_line(line: &str) -> Result<Key, LineProblem> {
    let (id, encoded) = line.split_once([' ', '\t']).ok_or(LineProblem::NotAPair)?;
    let encoded = encoded.trim_start();
    if encoded.contains([' ', '\t']) {
        return Err(LineProblem::NotAPair);
    }
    let id = KeyId::parse(id).ok_or(LineProblem::BadId)?;
    let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| LineProblem::BadBase64)?);
    let key = bytes.as_slice().try_into().map_err(|_| LineProblem::WrongLength { bytes: bytes.len() })?;
    Ok(Key::new(id, key))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use tempfile::TempDir;

    use super::*;
    use crate::keyring::{Column, Place};

    const PLACE: Place<'_> = Place { tenant: "acme", column: Column::KeyCheck };

    /// A key file of mode 0600 in a directory of its own.
    fn key_file(text: &str) -> (TempDir, PathBuf) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        (directory, path)
    }

    fn line(id: &str, bytes: usize) -> String {
        format!("{id} {}\n", STANDARD.encode(vec![0xA5; bytes]))
    }

    #[test]
    fn a_new_key_file_is_private_reads_back_and_is_never_overwritten() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys");
        KeyRing::write_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = KeyRing::read(&path).unwrap().seal(&PLACE, b"value").unwrap();
        assert!(matches!(KeyRing::write_new(&path), Err(WriteKeyFileError::Exists { .. })));
        assert_eq!(KeyRing::read(&path).unwrap().open(&PLACE, &sealed).unwrap().expose(), b"value");
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(KeyRing::generate().unwrap(), KeyRing::generate().unwrap());
    }

    #[test]
    fn comments_and_blank_lines_say_nothing_and_the_first_key_seals() {
        let text = format!("# ours\r\n\n  {}\t\n{}", line("0000000b", 32).replace(' ', " \t "), line("0000000a", 32));
        let (_directory, path) = key_file(&text);
        let ring = KeyRing::read(&path).unwrap();
        assert_eq!(ring.key_ids().map(|id| id.to_string()).collect::<Vec<_>>(), ["0000000b", "0000000a"]);
        assert_eq!(ring.seal(&PLACE, b"").unwrap()[1..5], [0, 0, 0, 0x0b]);
    }

    #[test]
    fn every_bad_line_is_named_with_its_number_and_without_the_key() {
        let bad_base64 = "0000000c pWlsZGNhcmQ!pWlsZGNhcmQ";
        let text = [
            line("0000000a", 32),
            line("0000000a", 32),
            line("0000000b", 31),
            line("0000000b", 33),
            format!("{bad_base64}\n"),
            line("0000000B", 32),
            line("+000000b", 32),
            "lonely\n".to_owned(),
            format!("0000000d {} x\n", STANDARD.encode([0xA5; 32])),
        ];
        let (_directory, path) = key_file(&text.concat());
        let error = KeyRing::read(&path).unwrap_err();
        let KeyFileError::Lines { problems, .. } = &error else { panic!("{error}") };
        let id = KeyId([0, 0, 0, 0x0a]);
        assert_eq!(
            problems.as_slice(),
            [
                (2, LineProblem::DuplicateId { id, first_line: 1 }),
                (3, LineProblem::WrongLength { bytes: 31 }),
                (4, LineProblem::WrongLength { bytes: 33 }),
                (5, LineProblem::BadBase64),
                (6, LineProblem::BadId),
                (7, LineProblem::BadId),
                (8, LineProblem::NotAPair),
                (9, LineProblem::NotAPair),
            ]
        );
        let shown = format!("{error} {error:?}");
        for secret in ["pWls", "paWlpaWl", "lonely"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("line 3: the key has 31 bytes, 32 are needed"), "{shown}");
    }

    #[test]
    fn a_file_without_a_key_is_refused() {
        let (_directory, path) = key_file("# nothing\n\n");
        assert!(matches!(KeyRing::read(&path), Err(KeyFileError::NoKey { .. })));
    }

    #[test]
    fn a_missing_file_is_refused_with_the_command_that_makes_one() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys");
        let error = KeyRing::read(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Missing { .. }));
        assert!(
            error.to_string().contains(&format!("`lead-webhook key generate --out {}`", path.display())),
            "{error}"
        );
    }

    #[test]
    fn a_directory_and_a_file_that_is_no_text_are_refused() {
        let (directory, path) = key_file("");
        fs::write(&path, [0xFF; 32]).unwrap();
        assert!(matches!(KeyRing::read(directory.path()), Err(KeyFileError::NotAFile { .. })));
        assert!(matches!(KeyRing::read(&path), Err(KeyFileError::Unreadable { .. })));
    }

    #[test]
    fn any_access_for_others_is_refused_and_the_groups_is_not() {
        let (_directory, path) = key_file(&line("0000000a", 32));
        for (mode, refused) in [(0o400, false), (0o640, false), (0o604, true), (0o602, true), (0o601, true)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match KeyRing::read(&path) {
                Err(error @ KeyFileError::OpenToOthers { .. }) => {
                    assert!(refused, "{mode:o}");
                    assert!(error.to_string().contains(&format!("`chmod 0600 {}`", path.display())), "{error}");
                }
                other => assert!(!refused && other.is_ok(), "{mode:o}"),
            }
        }
    }

    #[test]
    fn a_directory_that_does_not_exist_leaves_nothing_behind() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("missing/keys");
        let error = KeyRing::write_new(&path).unwrap_err();
        assert!(matches!(error, WriteKeyFileError::Unwritable { .. }));
        let said = error.to_string();
        assert!(said.contains("(No such file") && said.contains("create the directory first"), "{said}");
        assert!(!directory.path().join("missing").exists());
    }
}
