//! Whatever the process learns from its surroundings: variables and the host's name. Nobody else asks.

use std::{collections::HashMap, env, ffi::OsString, path::PathBuf};

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "LEAD_WEBHOOK__";

/// The variables that concern us, so that a test can hand in its own.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// Settings, by the variable's whole name. Deliberately not `LEAD_WEBHOOK_…`: Kubernetes makes such variables up
    /// for a service named `lead-webhook`.
    pub(super) settings: HashMap<String, String>,
    /// Names of settings whose value is not UTF-8.
    pub(super) not_text: Vec<String>,
    /// Where systemd put the unit's credentials.
    pub(super) credentials_directory: Option<PathBuf>,
}

impl Variables {
    /// Those of this process.
    pub(super) fn of_the_process() -> Self {
        let mut variables = Self::sorted_from(env::vars_os());
        variables.credentials_directory = credentials_directory();
        variables
    }

    /// The settings among `all`.
    fn sorted_from(all: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut variables = Self::default();
        for (name, value) in all {
            let Ok(name) = name.into_string() else { continue };
            if !name.starts_with(PREFIX) {
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(variables.settings.insert(name, value)),
                Err(_) => variables.not_text.push(name),
            }
        }
        variables
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn credentials_directory() -> Option<PathBuf> {
    env::var_os("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty()).map(PathBuf::from)
}

/// The host's name as the kernel has it: part of the daemon instance's row, for people; nothing depends on it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn only_our_variables_are_settings_and_one_that_is_no_text_is_named() {
        let not_text = OsString::from_vec(vec![0xFF]);
        let variables = Variables::sorted_from(
            [
                ("PATH".into(), "/bin".into()),
                ("LEAD_WEBHOOK_SERVICE_HOST".into(), "10.0.0.1".into()),
                ("LEAD_WEBHOOK__LOG__LEVEL".into(), "debug".into()),
                ("LEAD_WEBHOOK__LOG__FORMAT".into(), not_text.clone()),
                (not_text.clone(), not_text),
            ]
            .into_iter(),
        );
        assert_eq!(variables.settings, HashMap::from([("LEAD_WEBHOOK__LOG__LEVEL".into(), "debug".into())]));
        assert_eq!(variables.not_text, ["LEAD_WEBHOOK__LOG__FORMAT"]);
    }

    #[test]
    fn the_host_has_a_name() {
        let name = host_name();
        assert!(!name.is_empty() && name.trim() == name, "{name:?}");
    }
}
