//! The words of `endpoint`, and of what tries a draft.

use clap::{Args, Subcommand};

use crate::secret::Secret;

/// Commands on endpoints.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// Create or change a tenant's endpoint; prints what is in force
    #[command(after_help = "\
A new endpoint is on, and takes leads from the moment that it has a URL and a secret (`secret generate`). \
What is not named stays as it is. Everything is checked before anything is saved, and every problem is reported. \
A name that resolves to a private address is refused; one that does not resolve is warned about.

URL and header values are often credentials; a template is kept and shown in clear: no tokens in it. They are \
read from files, or one of them from standard input, like this:

  lead-webhook endpoint set acme --url @url.txt --template template.json
  lead-webhook endpoint set acme --url @url.txt --preset hubspot-upsert --header @token.txt
  lead-webhook endpoint set acme --clear-headers --header @headers.txt
  lead-webhook endpoint set acme --header @- < header.txt")]
    Set {
        /// The tenant
        tenant: String,
        /// What to change.
        #[command(flatten)]
        draft: Draft,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show a tenant's endpoint; credentials are masked
    Show {
        /// The tenant
        tenant: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// List all endpoints
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Switch on; what was captured while it was off is not sent
    Enable {
        /// The tenant
        tenant: String,
    },
    /// Switch off; everything is kept, leads are logged as skipped / disabled
    Disable {
        /// The tenant
        tenant: String,
    },
    /// Remove a tenant's endpoint with its secret and headers
    #[command(after_help = "\
What is queued for it is logged as skipped / no_endpoint. The log stays. To stop sending for a while: `disable`.")]
    Remove {
        /// The tenant
        tenant: String,
    },
}

/// What `endpoint set` changes, and what `test` tries. Every problem of it is reported at once, so little is judged here.
#[derive(Debug, Default, Args)]
pub struct Draft {
    /// Where to send: an https URL. `@FILE` or `@-` reads it, so that it stays out of the process list
    #[arg(long, value_name = "URL")]
    pub url: Option<Secret<String>>,
    /// A header to send, `Name: value`; replaces one of the same name. May be given several times. `@FILE` and `@-` read
    /// one header a line
    #[arg(long = "header", value_name = "HEADER")]
    pub headers: Vec<Secret<String>>,
    /// Drop all custom headers first
    #[arg(long)]
    pub clear_headers: bool,
    /// A JSON template for the body: a file's name, `@FILE`, `@-`, or the JSON itself
    #[arg(long, value_name = "FILE", conflicts_with = "no_template")]
    pub template: Option<Secret<String>>,
    /// Send the default body
    #[arg(long)]
    pub no_template: bool,
    /// Leave out members whose placeholders all came out empty
    #[arg(long, value_name = "BOOL")]
    pub omit_empty: Option<bool>,
    /// Template, empty members and time as a known destination needs them: see `preset list`. Options but a template's come on top of it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["template", "no_template"])]
    pub preset: Option<String>,
    /// Time for a whole attempt, 1s to 60s; `default`: as delivery.timeout says
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub timeout: Option<String>,
}

impl Draft {
    /// Whether no option is given at all.
    pub fn is_empty(&self) -> bool {
        let Self { url, headers, clear_headers, template, no_template, omit_empty, preset, timeout } = self;
        url.is_none()
            && headers.is_empty()
            && template.is_none()
            && omit_empty.is_none()
            && preset.is_none()
            && timeout.is_none()
            && !clear_headers
            && !no_template
    }
}
