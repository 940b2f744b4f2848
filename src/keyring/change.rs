//! Changing the key file: a key is added, put first, or dropped. Comments and the other lines stay as they are.
//!
//! The new text is written beside the file and takes its name in one step, so that a daemon that reads it at that moment,
//! and whoever comes back after a crash, finds the old file or the new one. Mode, owner and group stay: the daemon's user
//! must be able to read it afterwards, and nobody else.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    KeyFileError, KeyId, KeyRing,
    file::{LINE_BYTES, directory, push_new_key, read_private},
};

/// Why a key file was not changed; it is as it was. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum ChangeKeyFileError {
    /// It cannot even be read.
    #[error(transparent)]
    Unusable(#[from] KeyFileError),
    /// Somebody else is changing it, or another file of its directory.
    #[error("key file {}: somebody else is changing it just now: try again", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error(
        "key file {0}: cannot be changed ({source}): run this as root, or as the file's owner and in its group, where file and \
         directory can be written; a copy that systemd or a container was handed is changed at its source",
        .path.display()
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The operating system has no randomness to give.
    #[error("no random key from the operating system")]
    NoRandomness(#[source] getrandom::Error),
}

/// A key file that is about to be changed. Nobody else changes it for as long as this lives.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    ring: KeyRing,
    /// The directory, locked: the file itself is replaced by another one.
    _lock: File,
}

impl KeyFile {
    /// Reads the key file at `path`, behind symbolic links, and looks whether it may be changed.
    ///
    /// # Errors
    /// [`ChangeKeyFileError`], by cause.
    pub fn open(path: &Path) -> Result<Self, ChangeKeyFileError> {
        // Read first: its errors name what is wrong with the file, not with writing it.
        KeyRing::read(path)?;
        let unwritable = |source| ChangeKeyFileError::Unwritable { path: path.to_owned(), source };
        let path_behind = fs::canonicalize(path).map_err(unwritable)?;
        let lock = File::open(directory(&path_behind)).map_err(unwritable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => ChangeKeyFileError::Busy { path: path.to_owned() },
            TryLockError::Error(source) => unwritable(source),
        })?;
        OpenOptions::new().write(true).open(&path_behind).map_err(unwritable)?;
        let ring = KeyRing::read(&path_behind)?;
        Ok(Self { path: path_behind, ring, _lock: lock })
    }

    /// The keys that it holds.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Adds a random key behind the others: it opens, and seals nothing. A comment says so.
    ///
    /// # Errors
    /// [`ChangeKeyFileError`], by cause; the file is as it was.
    pub fn add(&mut self) -> Result<KeyId, ChangeKeyFileError> {
        let text = read_private(&self.path)?;
        let mut line = Zeroizing::new(String::with_capacity(LINE_BYTES));
        let id = push_new_key(&mut line).map_err(ChangeKeyFileError::NoRandomness)?;
        let waits = waits(id);
        let mut longer = Zeroizing::new(String::with_capacity(text.len() + waits.len() + line.len() + 2));
        longer.push_str(&text);
        if !longer.ends_with('\n') {
            longer.push('\n');
        }
        longer.extend([&waits, "\n", &line]);
        self.replace(&longer)?;
        Ok(id)
    }

    /// The keys behind the first that were added and never put first.
    ///
    /// # Errors
    /// [`KeyFileError`]: it cannot be read any more.
    pub fn waiting(&self) -> Result<Vec<KeyId>, KeyFileError> {
        let text = read_private(&self.path)?;
        Ok(self.ring.key_ids().skip(1).filter(|id| text.lines().any(|line| line == waits(*id))).collect())
    }

    /// Puts the key `id` before the others: it seals from here on. Where it is the first already, or is not there, nothing
    /// is changed.
    ///
    /// # Errors
    /// [`ChangeKeyFileError`], by cause; the file is as it was.
    pub fn put_first(&mut self, id: KeyId) -> Result<(), ChangeKeyFileError> {
        if self.ring.sealing_id() == id || !self.ring.key_ids().any(|key| key == id) {
            return Ok(());
        }
        let text = read_private(&self.path)?;
        let moved = text.lines().find(|line| key_of(line) == Some(id)).unwrap_or_default();
        let mut reordered = Zeroizing::new(String::with_capacity(text.len() + 1));
        let mut is_placed = false;
        for line in text.lines().filter(|line| key_of(line) != Some(id) && *line != waits(id)) {
            if !is_placed && key_of(line).is_some() {
                reordered.extend([moved, "\n"]);
                is_placed = true;
            }
            reordered.extend([line, "\n"]);
        }
        self.replace(&reordered)
    }

    /// Drops every key but the first.
    ///
    /// # Errors
    /// [`ChangeKeyFileError`], by cause; the file is as it was.
    pub fn keep_first(&mut self) -> Result<(), ChangeKeyFileError> {
        let text = read_private(&self.path)?;
        let first = self.ring.sealing_id();
        let mut shorter = Zeroizing::new(String::with_capacity(text.len() + 1));
        for line in text.lines().filter(|line| key_of(line).is_none_or(|id| id == first)) {
            shorter.extend([line, "\n"]);
        }
        self.replace(&shorter)
    }

    /// Lets `text` take the file's place.
    fn replace(&mut self, text: &str) -> Result<(), ChangeKeyFileError> {
        let ring = KeyRing::parse(text, &self.path)?;
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let beside = PathBuf::from(name);
        let written = write_beside(&beside, &self.path, text).and_then(|()| fs::rename(&beside, &self.path));
        if let Err(source) = written {
            // It holds keys. That it cannot be removed says no more than the error at hand.
            let _ = fs::remove_file(&beside);
            return Err(ChangeKeyFileError::Unwritable { path: self.path.clone(), source });
        }
        self.ring = ring;
        let synced = File::open(directory(&self.path)).and_then(|directory| directory.sync_all());
        synced.map_err(|source| ChangeKeyFileError::Unwritable { path: self.path.clone(), source })
    }
}

/// What stands above a key that was added, until it is put first.
fn waits(id: KeyId) -> String {
    format!("# {id} waits: it opens, and seals nothing before `lead-webhook key rotate --reseal {id}`")
}

/// Writes `text` to a new file with mode, owner and group of `like`, and waits until the disk has it.
fn write_beside(beside: &Path, like: &Path, text: &str) -> io::Result<()> {
    let like = fs::metadata(like)?;
    // What a crash left; the directory's lock keeps others from being at it.
    if let Err(error) = fs::remove_file(beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    let ours = file.metadata()?;
    if (ours.uid(), ours.gid()) != (like.uid(), like.gid()) {
        fchown(&file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The id of the key that stands in `line`, where one does. The file has been read, so that what is no comment is a key.
fn key_of(line: &str) -> Option<KeyId> {
    KeyId::parse(line.trim().split([' ', '\t']).next()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A key file of mode 0640 with comments around its one key.
    fn key_file() -> (TempDir, PathBuf) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("keys");
        KeyRing::write_new(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap() + "# the end, without a line end";
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        (directory, path)
    }

    fn ids(path: &Path) -> Vec<KeyId> {
        KeyRing::read(path).unwrap().key_ids().collect()
    }

    #[test]
    fn a_key_is_added_behind_put_first_and_the_others_are_dropped() {
        let (_directory, path) = key_file();
        let [old] = ids(&path)[..] else { panic!() };
        let mut file = KeyFile::open(&path).unwrap();
        let new = file.add().unwrap();
        assert_eq!((ids(&path), file.ring().sealing_id()), (vec![old, new], old));
        assert_eq!(file.waiting().unwrap(), [new]);
        file.put_first(new).unwrap();
        assert!(file.waiting().unwrap().is_empty(), "it seals");
        file.put_first(new).unwrap();
        assert_eq!((ids(&path), file.ring().sealing_id()), (vec![new, old], new));
        file.keep_first().unwrap();
        assert_eq!(ids(&path), [new]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Keys of lead-webhook") && text.contains("# the end"), "{text}");
        assert!(!text.contains("waits"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640, "the mode stays");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_stays_a_link_and_what_a_crash_left_is_no_obstacle() {
        let (directory, path) = key_file();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        fs::write(directory.path().join("keys.new"), "half").unwrap();
        let new = KeyFile::open(&link).unwrap().add().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(ids(&path)[1], new);
    }

    #[test]
    fn two_never_change_it_at_once() {
        let (_directory, path) = key_file();
        let first = KeyFile::open(&path).unwrap();
        assert!(matches!(KeyFile::open(&path), Err(ChangeKeyFileError::Busy { .. })));
        drop(first);
        KeyFile::open(&path).unwrap();
    }

    #[test]
    fn a_change_that_cannot_be_written_leaves_the_file_as_it_was() {
        let (directory, path) = key_file();
        let before = fs::read(&path).unwrap();
        // Root may write everywhere, but not over a directory.
        fs::create_dir(directory.path().join("keys.new")).unwrap();
        let mut file = KeyFile::open(&path).unwrap();
        let error = file.add().unwrap_err();
        assert!(error.to_string().contains("as root, or as the file's owner and in its group"), "{error}");
        assert_eq!((fs::read(&path).unwrap(), file.ring().key_ids().count()), (before, 1));
    }
}
