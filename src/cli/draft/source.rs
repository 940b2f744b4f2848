//! What `@FILE` and `@-` stand for, so that credentials stay out of shell history and process lists.

use std::{
    fs::File,
    io::{self, Read},
};

use crate::secret::Secret;

/// Nothing that an option takes is longer; a device that never ends is not read for ever.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads options' values. Standard input goes to one option only.
pub(super) struct Sources<R> {
    stdin: R,
    read_by: Option<&'static str>,
}

/// A value, and the name of where it stood, for problems: `--url`, `--url @FILE`. Never the value.
#[derive(Debug)]
pub(super) struct Given {
    /// The option as it was given.
    pub(super) place: String,
    /// The value, without the line break that ends a file.
    pub(super) text: Secret<String>,
    /// Whether it came from a file or standard input.
    pub(super) is_file: bool,
}

impl Given {
    /// Whether it came from a file, or standard input, that holds nothing but blanks and line breaks.
    pub(super) fn is_empty_file(&self) -> bool {
        self.is_file && self.text.expose().trim().is_empty()
    }
}

impl<R: Read> Sources<R> {
    /// Values out of arguments, files and `stdin`.
    pub(super) fn new(stdin: R) -> Self {
        Self { stdin, read_by: None }
    }

    /// `given` itself, or what `@FILE` or `@-` names.
    ///
    /// # Errors
    /// The problem, with option, place and remedy.
    pub(super) fn value(&mut self, option: &'static str, given: &Secret<String>) -> Result<Given, String> {
        match given.expose().strip_prefix('@') {
            Some(path) => self.named(option, path),
            None => Ok(Given { place: option.to_owned(), text: given.clone(), is_file: false }),
        }
    }

    /// As [`Self::value`], but what begins like JSON stands for itself and anything else is a file's name.
    ///
    /// # Errors
    /// The problem, with option, place and remedy.
    pub(super) fn document(&mut self, option: &'static str, given: &Secret<String>) -> Result<Given, String> {
        let text = given.expose();
        if text.trim_start().starts_with(['{', '[', '"']) {
            return Ok(Given { place: option.to_owned(), text: given.clone(), is_file: false });
        }
        if !text.starts_with('@') && (text.contains("://") || text.contains(char::is_whitespace))
            || text.contains(['\n', '\r'])
        {
            // Hardly a name, so it is not repeated: it may be a token, or a URL with one.
            return Err(format!(
                "{option}: neither JSON, which begins with {{, [ or a quote, nor a plain file's name: \
                 a name with blanks is given as @FILE"
            ));
        }
        self.named(option, text.strip_prefix('@').unwrap_or(text))
    }

    fn named(&mut self, option: &'static str, path: &str) -> Result<Given, String> {
        let place = format!("{option} @{path}");
        let text = if path == "-" { self.standard_input(option) } else { file(path) };
        let text = text.map_err(|problem| format!("{place}: {problem}"))?;
        Ok(Given { place, text, is_file: true })
    }

    fn standard_input(&mut self, option: &'static str) -> Result<Secret<String>, String> {
        if let Some(other) = self.read_by {
            return Err(format!("standard input is read by {other} @- already: put one of the two into a file"));
        }
        self.read_by = Some(option);
        contents(&mut self.stdin).map_err(|problem| format!("standard input {problem}"))
    }
}

fn file(path: &str) -> Result<Secret<String>, String> {
    let mut file =
        File::open(path).map_err(|error| format!("the file cannot be opened ({error}): name a readable one"))?;
    contents(&mut file).map_err(|problem| format!("the file {problem}"))
}

/// The whole text, without the byte order mark that some editors begin a file with, and the one line break (LF or CRLF)
/// that they end it with.
fn contents(from: &mut impl Read) -> Result<Secret<String>, String> {
    let mut text = String::new();
    let read = from.take(MAX_BYTES + 1).read_to_string(&mut text);
    let mut text = Secret::new(text);
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err("is not UTF-8: save it as UTF-8".to_owned()),
        Err(error) => Err(format!("cannot be read ({error})")),
        Ok(_) if text.expose().len() as u64 > MAX_BYTES => Err(format!("is longer than {MAX_BYTES} bytes")),
        Ok(_) => {
            let kept = text.expose();
            let kept = kept.strip_prefix('\u{feff}').unwrap_or(kept);
            let kept = kept.strip_suffix('\n').map_or(kept, |line| line.strip_suffix('\r').unwrap_or(line));
            if kept.len() < text.expose().len() {
                text = Secret::new(kept.to_owned());
            }
            Ok(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn value(given: &str, stdin: &str) -> Result<String, String> {
        let given = Sources::new(stdin.as_bytes()).value("--url", &given.to_owned().into());
        given.map(|given| given.text.expose().clone())
    }

    fn written(directory: &Path, name: &str, bytes: &[u8]) -> String {
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_value_stands_for_itself_and_an_at_sign_names_a_file_or_standard_input() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path(), "url", b"https://a.example.org/\n");
        assert_eq!(value("https://b.example.org/\n", ""), Ok("https://b.example.org/\n".to_owned()));
        assert_eq!(value(&format!("@{path}"), ""), Ok("https://a.example.org/".to_owned()));
        assert_eq!(value("@-", "https://c.example.org/"), Ok("https://c.example.org/".to_owned()));
    }

    #[test]
    fn what_an_editor_adds_is_no_part_of_the_value() {
        for (text, kept) in [
            ("\u{feff}a\r\n", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a\r", "a\r"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(value("@-", text), Ok(kept.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn only_one_option_reads_standard_input() {
        let mut sources = Sources::new(b"x".as_slice());
        let stdin = Secret::new("@-".to_owned());
        assert!(sources.value("--url", &stdin).is_ok());
        assert_eq!(
            sources.document("--template", &stdin).unwrap_err(),
            "--template @-: standard input is read by --url @- already: put one of the two into a file"
        );
    }

    #[test]
    fn a_document_is_json_or_a_files_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path(), "template.json", b"{\"a\":1}\n");
        let mut sources = Sources::new(b"[]".as_slice());
        for (given, text) in [
            (path.as_str(), "{\"a\":1}"),
            (&format!("@{path}"), "{\"a\":1}"),
            (" {\"b\":2}", " {\"b\":2}"),
            ("[3]", "[3]"),
            ("\"x\"", "\"x\""),
            ("@-", "[]"),
        ] {
            assert_eq!(sources.document("--template", &given.to_owned().into()).unwrap().text.expose(), text);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_option() {
        let directory = tempfile::tempdir().unwrap();
        let binary = written(directory.path(), "binary", b"\xff\xfe");
        let long = written(directory.path(), "long", &vec![b'a'; 1024 * 1024 + 1]);
        for (given, problem) in [
            ("@/no/such/file", "--url @/no/such/file: the file cannot be opened (No such file".to_owned()),
            (&format!("@{binary}"), format!("--url @{binary}: the file is not UTF-8")),
            (&format!("@{long}"), format!("--url @{long}: the file is longer than 1048576 bytes")),
        ] {
            let said = value(given, "").unwrap_err();
            assert!(said.starts_with(&problem), "{said}");
        }
    }

    #[test]
    fn what_is_hardly_a_files_name_is_not_repeated() {
        for given in ["// ours\n{\"token\":\"s3cr3t\"}", "Bearer s3cr3t", "https://a.example.org/s3cr3t", "@a\ns3cr3t"]
        {
            let said = Sources::new(io::empty()).document("--template", &given.to_owned().into()).unwrap_err();
            assert!(said.starts_with("--template: neither JSON") && !said.contains("s3cr3t"), "{said}");
        }
        let said = Sources::new(io::empty()).document("--template", &"@no such file".to_owned().into()).unwrap_err();
        assert!(said.starts_with("--template @no such file: the file cannot be opened"), "{said}");
    }
}
