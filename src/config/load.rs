//! From file and environment to [`Config`]: reading, laying one over the other, and nothing of what the keys mean.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat, Value};

use super::{
    Config, ConfigError, Problem,
    environment::{PREFIX, Variables},
    problem::Origin,
    reader::Reader,
    sections,
};

/// The file that is read where the command line names none.
pub const DEFAULT_FILE: &str = "/etc/lead-webhook/lead-webhook.toml";

/// What the crate `config` calls the origin of a value from the environment.
pub(super) const ENVIRONMENT: &str = "the environment";

/// Reads the configuration from `file` and the environment.
///
/// Without `file` it is `/etc/lead-webhook/lead-webhook.toml`, or the defaults and the environment alone where that
/// does not exist. A file that is named must exist: a misspelt path must not mean "defaults".
///
/// # Errors
/// [`ConfigError`] with every problem at once; the operator must act. The process should end with exit code 78.
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(whole_file(path, format!("cannot be read ({error}): name a readable file with --config")));
        }
    };
    assemble(text.as_deref().map(|text| (path, text)), &Variables::of_the_process())
}

/// As [`load`], with the file's text and the environment at hand.
pub(super) fn assemble(file: Option<(&Path, &str)>, variables: &Variables) -> Result<Config, ConfigError> {
    let mut reader = reader(file, variables)?;
    let config = sections::read(&mut reader, variables.credentials_directory.as_deref());
    reader.finish(config)
}

/// A reader over the environment laid over the file.
pub(super) fn reader(file: Option<(&Path, &str)>, variables: &Variables) -> Result<Reader, ConfigError> {
    let (path, text) = file.unwrap_or((Path::new(DEFAULT_FILE), ""));
    let merged = merge(text, variables).map_err(|error| whole_file(path, not_toml(&error)))?;
    let mut reader = Reader::new(merged, path.to_owned());
    for name in &variables.not_text {
        let key = name.trim_start_matches(PREFIX).to_lowercase().replace("__", ".");
        reader.note(&key, &Origin::Environment, "is not UTF-8");
    }
    Ok(reader)
}

fn merge(text: &str, variables: &Variables) -> Result<Value, config::ConfigError> {
    let environment = Environment::with_prefix(PREFIX.trim_end_matches('_'))
        .prefix_separator("__")
        .separator("__")
        .source(Some(variables.settings.clone()));
    let file = File::from_str(text, FileFormat::Toml);
    Ok(config::Config::builder().add_source(file).add_source(environment).build()?.cache)
}

/// The place and the cause of a syntax error, without the line that the parser quotes: it may hold a password.
fn not_toml(error: &config::ConfigError) -> String {
    let config::ConfigError::FileParse { cause, .. } = error else {
        return "is not a configuration: see the sample file".to_owned();
    };
    let shown = cause.to_string();
    let lines: Vec<&str> = shown.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [first, .., last] => format!("{first}: {last}"),
        _ => "is not TOML: see the sample file".to_owned(),
    }
}

fn whole_file(path: &Path, text: String) -> ConfigError {
    let origin = Origin::File(PathBuf::from(path)).naming("");
    ConfigError::new(vec![Problem { key: None, origin, text }])
}

#[cfg(test)]
mod tests;
